"""Studio's course exports: how they are submitted, looked at and collected.

Sources: ol_openedx_course_export (mitodl/open-edx-plugins) and django-user-tasks.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from ol_core.failures import OlError, PermanentFailure
from ol_core.http import HttpClient, failure, read_json, redact
from ol_core.orchestration.exports import Accepted, Look, Submission
from pydantic import BaseModel, TypeAdapter

from ol_openedx.client.records import CourseExport

EXPORT = "api/courses/v0/export/"
"""Path of the export plugin below Studio's address."""


class _Submitted(BaseModel):
    upload_urls: dict[str, str]
    upload_task_ids: dict[str, str]
    failed_uploads: dict[str, str] = {}


class _Status(BaseModel):
    state: str


_SUBMITTED = TypeAdapter(_Submitted)
_STATUS = TypeAdapter(_Status)
_OBJECT = TypeAdapter(dict[str, Any])


class StudioExports:
    """The exports of one Studio, as a source of `ol_core.orchestration.exports`."""

    def __init__(self, studio: HttpClient, directory: Path) -> None:
        self._studio, self._directory = studio, directory

    def submit(self, courses: Sequence[str]) -> dict[str, Accepted | OlError]:
        """Ask for exports; a partial refusal is a 400 with the same body."""
        response = self._studio.request("POST", EXPORT, json={"courses": list(courses)}, accept=(400,))
        if "upload_task_ids" not in read_json(response, _OBJECT):
            raise failure(response)
        submitted = read_json(response, _SUBMITTED)
        answers: dict[str, Accepted | OlError] = {}
        for course in courses:
            task_id, url = submitted.upload_task_ids.get(course), submitted.upload_urls.get(course)
            if task_id and url:
                answers[course] = Accepted(task_id, url)
            else:
                reason = redact(submitted.failed_uploads.get(course, "it gave neither a task nor a reason"))
                answers[course] = PermanentFailure(f"{course}: Studio did not accept the export: {reason}")
        return answers

    def look(self, submission: Submission) -> Look:
        """Read a task's state. It is free text: every one that is not known to be an end is waited for."""
        response = self._studio.request(
            "GET",
            f"{EXPORT}{quote(submission.partition, safe='')}/",
            params={"task_id": submission.remote_id},
            accept=(404,),
        )
        if not response.is_success:
            text = response.text.lower()
            if "task not found" in text or "course_does_not_exist" in text:
                return Look("missing", "not known to Studio")
            raise failure(response)
        match read_json(response, _STATUS).state:
            case "Succeeded" as state:
                return Look("ready", state)
            case "Failed" | "Canceled" as state:
                return Look("failed", f"{state}; its reason is in Studio's log")
            case state:
                return Look("waiting", state)

    def collect(self, submission: Submission) -> CourseExport:
        """Fetch the archive from the bucket. Its address has no task id: it gives the last export of the course."""
        name = hashlib.sha256(submission.partition.encode()).hexdigest()  # a course id may be longer than a file name
        path = self._directory / f"{name}.tar.gz"
        url = urlsplit(submission.reference)
        url = url._replace(path=quote(url.path, safe="/%"))  # the plugin leaves `+` as it is; to S3 that is a space
        download = self._studio.download(url.geturl(), path)
        return CourseExport(submission.partition, path, download.size_bytes, download.sha256)
