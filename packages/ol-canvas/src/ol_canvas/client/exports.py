"""Canvas's content exports: how they are submitted, looked at and collected.

Sources: Canvas LMS REST API documentation (Content Exports, Progress, Users), and canvas-lms for the states that it
leaves out (app/models/content_export.rb) and for when an export has a file (lib/api/v1/content_export.rb).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from ol_core.failures import OlError, PermanentFailure, TransientFailure
from ol_core.http import HttpClient, read_json
from ol_core.orchestration.exports import Accepted, Look, Submission
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from ol_canvas.client.records import CanvasExport

_KIND = "common_cartridge"
_DONE = ("exported", "exported_for_course_copy")
_BROKEN = ("failed", "deleted")
_LISTED = 20


def _none_if_unreadable(value: object, read: ValidatorFunctionWrapHandler) -> object:
    try:
        return read(value)
    except ValidationError:
        return None


_Id = Annotated[str, Field(coerce_numbers_to_str=True)]
_Unsure = WrapValidator(_none_if_unreadable)
"""Of what an export can be followed without."""


class _Attachment(BaseModel):
    url: str = ""


class _ContentExport(BaseModel):
    id: _Id
    workflow_state: Annotated[str | None, _Unsure] = None
    export_type: Annotated[str | None, _Unsure] = None
    created_at: Annotated[datetime | None, _Unsure] = None
    user_id: Annotated[str | None, Field(coerce_numbers_to_str=True), _Unsure] = None
    progress_url: Annotated[str | None, _Unsure] = None
    attachment: Annotated[_Attachment | None, _Unsure] = None

    @property
    def accepted(self) -> Accepted:
        """What another process needs to go on with it; of the job's address only its id, as hosts have aliases."""
        return Accepted(self.id, (self.progress_url or "").rpartition("/")[2])

    @property
    def file_url(self) -> str:
        """Where the cartridge can be had; "" where there is none, or none any more."""
        return self.attachment.url if self.attachment else ""

    def is_as_new_as(self, unix: float) -> bool:
        """Whether it was submitted at or after a time; Canvas gives whole seconds."""
        return self.created_at is not None and self.created_at.timestamp() >= int(unix)

    @property
    def may_give_a_file(self) -> bool:
        """Whether it has a file, or has not ended yet."""
        return bool(self.file_url) or self.workflow_state not in (*_DONE, *_BROKEN)


class _Progress(BaseModel):
    workflow_state: str | None = None


class _User(BaseModel):
    id: _Id


_EXPORT = TypeAdapter(_ContentExport)
_EXPORTS = TypeAdapter(list[_ContentExport])
_PROGRESS = TypeAdapter(_Progress)
_USER = TypeAdapter(_User)


class CourseExports:
    """The content exports of one Canvas, as a source of `ol_core.orchestration.exports`.

    Args:
        canvas: Sends the requests.
        directory: Where cartridges are written.
        wanted_since: Since when processes that were killed have been after a course's version, in unix seconds. What
            this login has submitted from then on is of that version: it is taken up, and not submitted again.
        unix: The time, in unix seconds.
    """

    def __init__(
        self,
        canvas: HttpClient,
        directory: Path,
        *,
        wanted_since: Mapping[str, float] = {},
        unix: Callable[[], float] = time.time,
    ) -> None:
        self._canvas, self._directory, self._wanted_since, self._unix = canvas, directory, wanted_since, unix

    def submit(self, courses: Sequence[str]) -> dict[str, Accepted | OlError]:
        """Ask for an export of each course, one by one; nobody is notified by e-mail."""
        answers: dict[str, Accepted | OlError] = {}
        for course in courses:
            try:
                answers[course] = self._submit(course).accepted
            except OlError as error:
                answers[course] = error
        return answers

    def _submit(self, course: str) -> _ContentExport:
        started = self._unix()
        since = self._wanted_since.get(course)
        export = None if since is None else self._submitted(course, since)
        if export is not None:
            return export
        try:
            wanted = {"export_type": _KIND, "skip_notifications": True}
            return read_json(self._canvas.request("POST", _exports(course), json=wanted), _EXPORT)
        except TransientFailure:  # Canvas may have taken it without saying so
            export = self._submitted(course, started)
            if export is None:
                raise
            return export

    def _submitted(self, course: str, since: float) -> _ContentExport | None:
        """Return the export that this login submitted since a time, where it has a file or may still get one."""
        newest = self._canvas.request("GET", _exports(course), params={"per_page": _LISTED})
        candidates = [
            export
            for export in read_json(newest, _EXPORTS)
            if export.export_type == _KIND and export.is_as_new_as(since) and export.may_give_a_file
        ]
        return next((export for export in candidates if export.user_id == self._user_id), None)

    @cached_property
    def _user_id(self) -> str:
        return read_json(self._canvas.request("GET", "api/v1/users/self"), _USER).id

    def look(self, submission: Submission) -> Look:
        """Read an export's state. Every one that is not known to be an end is waited for, as long as its job lives."""
        response = self._canvas.request("GET", _export(submission), accept=(404,))
        if not response.is_success:
            return Look("missing", "not known to Canvas")
        export = read_json(response, _EXPORT)
        match export.workflow_state:
            case state if state in _DONE:
                return Look("ready", state) if export.file_url else Look("missing", f"{state} without a file")
            case state if state in _BROKEN:
                return Look("failed", f"{state}; look at the course's content exports in Canvas")
            case state if self._job_failed(submission):
                return Look("failed", f"{state}, and the job that makes it has failed")
            case state:
                return Look("waiting", state or "in no state")

    def _job_failed(self, submission: Submission) -> bool:
        """Whether Canvas's job died without a word to the export, which would stay as it is for ever.

        A job that cannot be read decides nothing: Canvas hides it by a 403 or 404, and by a 401 where it is older.
        """
        if not submission.reference:
            return False
        try:
            progress = self._canvas.request("GET", f"api/v1/progress/{part_of_path(submission.reference)}")
            return read_json(progress, _PROGRESS).workflow_state == "failed"
        except PermanentFailure:
            return False

    def collect(self, submission: Submission) -> CanvasExport:
        """Fetch the cartridge; its address holds for a while only, so it is read again."""
        course = submission.partition
        try:
            export = read_json(self._canvas.request("GET", _export(submission)), _EXPORT)
        except PermanentFailure as error:
            raise TransientFailure(
                f"{course}: what became of export {submission.remote_id} is unknown: {error}"
            ) from error
        if not export.file_url:
            raise TransientFailure(f"{course}: the file of export {export.id} is gone; it is to be exported again")
        path = self._directory / f"{part_of_path(course)}.imscc"
        download = self._canvas.download(export.file_url, path)
        return CanvasExport(course, export.id, path, download.size_bytes, download.sha256)


def part_of_path(value: object) -> str:
    """Return an id as one part of a path."""
    return quote(str(value), safe="")


def _exports(course: str) -> str:
    return f"api/v1/courses/{part_of_path(course)}/content_exports"


def _export(submission: Submission) -> str:
    return f"{_exports(submission.partition)}/{part_of_path(submission.remote_id)}"
