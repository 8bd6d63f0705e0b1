"""Studio's course exports: submitted together, looked at in turn, collected as each finishes.

Sources: ol_openedx_course_export (mitodl/open-edx-plugins) and django-user-tasks.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from ol_core.failures import OlError, PermanentFailure, TransientFailure
from ol_core.http import HttpClient, Runtime, failure, poll_delays, read_json, redact
from pydantic import BaseModel, TypeAdapter

from ol_openedx.client.records import CourseExport

EXPORT = "api/courses/v0/export/"
"""Path of the export plugin below Studio's address."""

_LOST_AFTER = 5
"""Answers `Task not found` in a row before a task counts as lost; it may not be visible at once."""


class _Submitted(BaseModel):
    upload_urls: dict[str, str]
    upload_task_ids: dict[str, str]
    failed_uploads: dict[str, str] = {}


class _Status(BaseModel):
    state: str


_SUBMITTED = TypeAdapter(_Submitted)
_STATUS = TypeAdapter(_Status)
_OBJECT = TypeAdapter(dict[str, Any])


@dataclass(slots=True)
class _Task:
    """An export that Studio works on."""

    course_id: str
    task_id: str
    url: str
    deadline: float
    look_at: float = 0.0
    not_found: int = 0
    delays: Iterator[float] = field(default_factory=poll_delays)


class Exports:
    """Exports of one Studio. A course run that fails never costs the others theirs."""

    def __init__(self, studio: HttpClient, runtime: Runtime, *, directory: Path, deadline_seconds: float) -> None:
        self._studio, self._runtime = studio, runtime
        self._directory, self._deadline_seconds = directory, deadline_seconds

    def run(self, course_ids: Iterable[str], *, max_in_flight: int) -> Iterator[tuple[str, CourseExport | OlError]]:
        """Yield each course run once, with its archive or what went wrong, as it finishes."""
        waiting, running = deque(dict.fromkeys(course_ids)), list[_Task]()
        while waiting or running:
            batch = [waiting.popleft() for _ in range(min(len(waiting), max_in_flight - len(running)))]
            for course, answer in self._submit(batch) if batch else ():
                if isinstance(answer, _Task):
                    running.append(answer)
                else:
                    yield course, answer
            if running:
                task = min(running, key=lambda one: one.look_at)
                self._runtime.sleep(max(0.0, task.look_at - self._runtime.clock()))
                outcome = self._look(task)
                if outcome is not None:
                    running.remove(task)
                    yield task.course_id, outcome

    def _submit(self, courses: Sequence[str]) -> Iterator[tuple[str, _Task | OlError]]:
        try:
            response = self._studio.request("POST", EXPORT, json={"courses": list(courses)}, accept=(400,))
            if "upload_task_ids" not in read_json(response, _OBJECT):
                raise failure(response)
            submitted = read_json(response, _SUBMITTED)
        except OlError as error:
            yield from ((course, error) for course in courses)
            return
        now = self._runtime.clock()
        for course in courses:
            task_id, url = submitted.upload_task_ids.get(course), submitted.upload_urls.get(course)
            if task_id and url:
                task = _Task(course, task_id, url, deadline=now + self._deadline_seconds)
                task.look_at = now + next(task.delays)
                yield course, task
            else:
                reason = redact(submitted.failed_uploads.get(course, "it gave neither a task nor a reason"))
                yield course, PermanentFailure(f"{course}: Studio did not accept the export: {reason}")

    def _look(self, task: _Task) -> CourseExport | OlError | None:
        """Return the outcome of an export, or None where it has none yet.

        Studio's states are free text: every one that is not known to be an end is waited for.
        """
        asked = 0.0
        try:
            state = self._state(task)
        except TransientFailure as error:  # the export goes on; only the deadline ends the wait
            state, asked = f"unknown ({error})", error.retry_after_seconds or 0.0
        except OlError as error:
            return error
        match state:
            case "Succeeded":
                return self._collect(task)
            case "Failed" | "Canceled":
                return PermanentFailure(
                    f"{task.course_id}: export {task.task_id} is {state}; its reason is in Studio's log"
                )
            case "Task not found" if task.not_found == _LOST_AFTER:
                return TransientFailure(f"{task.course_id}: Studio lost export {task.task_id}; export the course again")
        now = self._runtime.clock()
        if now >= task.deadline:
            return TransientFailure(f"{task.course_id}: export {task.task_id} is still {state} at its deadline")
        task.look_at = min(task.deadline, now + max(next(task.delays), asked))
        return None

    def _state(self, task: _Task) -> str:
        response = self._studio.request(
            "GET", f"{EXPORT}{quote(task.course_id, safe='')}/", params={"task_id": task.task_id}, accept=(404,)
        )
        if response.is_success:
            task.not_found = 0
            return read_json(response, _STATUS).state
        if "task not found" not in response.text.lower():
            raise failure(response)
        task.not_found += 1
        return "Task not found"

    def _collect(self, task: _Task) -> CourseExport | OlError:
        name = hashlib.sha256(task.course_id.encode()).hexdigest()  # a course id may be longer than a file name
        path = self._directory / f"{name}.tar.gz"
        url = urlsplit(task.url)
        url = url._replace(path=quote(url.path, safe="/%"))  # the plugin leaves `+` as it is; to S3 that is a space
        try:
            download = self._studio.download(url.geturl(), path)
        except OlError as error:
            return error
        return CourseExport(task.course_id, path, download.size_bytes, download.sha256)
