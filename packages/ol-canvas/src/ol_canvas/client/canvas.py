"""The requests: courses, what is in them, and their exports.

Sources: Canvas LMS REST API documentation (developerdocs.instructure.com), and canvas-lms for what it leaves out:
states of content exports, throttling, and which status a hidden tool answers.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import quote

import httpx
from ol_core.failures import PermanentFailure, TransientFailure
from ol_core.http import (
    BearerAuth,
    HttpClient,
    HttpPolicy,
    Records,
    Runtime,
    failure,
    link_pages,
    poll_delays,
    read_json,
    validated,
)
from pydantic import BaseModel, Field, TypeAdapter

from ol_canvas.client.records import (
    CanvasAssignment,
    CanvasCourse,
    CanvasExport,
    CanvasFile,
    CanvasModule,
    CanvasPage,
    CourseMetadata,
)

_PER_PAGE = 100
_RESERVE = 100.0
"""Quota below which requests wait; a full one is 600."""
_OUTFLOW_PER_SECOND = 10.0
"""What Canvas gives back to the quota."""


class _Attachment(BaseModel):
    url: str = ""


class _ContentExport(BaseModel):
    id: Annotated[str, Field(coerce_numbers_to_str=True)]
    workflow_state: str | None = None
    attachment: _Attachment | None = None


_EXPORT = TypeAdapter(_ContentExport)
_COURSES = TypeAdapter(tuple[CanvasCourse, ...])
_FILES = TypeAdapter(tuple[CanvasFile, ...])
_PAGES = TypeAdapter(tuple[CanvasPage, ...])
_ASSIGNMENTS = TypeAdapter(tuple[CanvasAssignment, ...])
_MODULES = TypeAdapter(tuple[CanvasModule, ...])


class CanvasClient:
    """Reads one Canvas; safe to share between threads. Its requests slow down where Canvas says that quota runs out."""

    def __init__(
        self,
        base_url: str,
        access_token: str,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sleep, self._clock = sleep, clock
        self._http = HttpClient(
            base_url,
            auth=BearerAuth(access_token),
            policy=HttpPolicy(pace=_pause_seconds),
            runtime=Runtime(transport, sleep, clock),
        )

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def courses(self, account_id: int | str) -> Iterator[CanvasCourse]:
        """Yield the courses of an account, each once.

        Raises:
            OlError: the list cannot be read to its end.
        """
        seen: set[str] = set()
        first = self._http.request(
            "GET", f"api/v1/accounts/{_part(account_id)}/courses", params={"per_page": _PER_PAGE}
        )
        for records in link_pages(self._http, first):
            for course in validated(_COURSES, records, source=f"courses of Canvas account {account_id}"):
                if course.course_id not in seen:  # a list that changes while it is paged repeats some
                    seen.add(course.course_id)
                    yield course

    def course_metadata(self, course_id: str) -> CourseMetadata:
        """Return what the API says about a course; what Canvas hides there is named, and no failure.

        Raises:
            UpstreamMissing: there is no such course.
            PermanentFailure: the token may read nothing of it, or is not valid.
            TransientFailure: Canvas did not answer.
        """
        unavailable: list[str] = []
        source = f"Canvas course {course_id}"
        files = self._listed(course_id, "files", unavailable)
        folders = self._listed(course_id, "folders", unavailable) if files else []
        paths = {str(folder.get("id")): folder.get("full_name") for folder in folders}
        files = [{**file, "folder_path": paths.get(str(file.get("folder_id")))} for file in files]
        pages = self._listed(course_id, "pages", unavailable)
        assignments = self._listed(course_id, "assignments", unavailable)
        modules = self._listed(course_id, "modules", unavailable, include="items")
        if {"files", "pages", "assignments", "modules"} <= set(unavailable):
            raise PermanentFailure(f"{source}: Canvas shows nothing of it to this token; grant it access to the course")
        modules = [{**module, "items": self._items(course_id, module)} for module in modules]
        return CourseMetadata(
            course_id=course_id,
            files=validated(_FILES, files, source=f"files of {source}"),
            pages=validated(_PAGES, pages, source=f"pages of {source}"),
            assignments=validated(_ASSIGNMENTS, assignments, source=f"assignments of {source}"),
            modules=validated(_MODULES, modules, source=f"modules of {source}"),
            unavailable=tuple(unavailable),
        )

    def _listed(self, course_id: str, what: str, unavailable: list[str], *, include: str = "") -> Records:
        params: dict[str, str | int] = {"per_page": _PER_PAGE}
        if include:
            params["include[]"] = include
        first = self._http.request(
            "GET", f"api/v1/courses/{_part(course_id)}/{what}", params=params, accept=(401, 403, 404)
        )
        if first.is_success:
            return [record for records in link_pages(self._http, first) for record in records]
        if not _is_hidden(first):
            raise failure(first)
        unavailable.append(what)
        return []

    def _items(self, course_id: str, module: dict[str, Any]) -> Records:
        """Return a module's items; Canvas leaves them out of modules that have many."""
        if module.get("items") is not None:
            return list(module["items"])
        url = module.get("items_url") or f"api/v1/courses/{_part(course_id)}/modules/{_part(module.get('id'))}/items"
        first = self._http.request("GET", str(url), params={"per_page": _PER_PAGE})
        return [record for records in link_pages(self._http, first) for record in records]

    def export_course(self, course_id: str, destination: Path, *, deadline_seconds: float) -> CanvasExport:
        """Export a course as a common cartridge: submit, wait, download. No one is notified by e-mail.

        Args:
            course_id: Id of the course.
            destination: File to write; it appears when it is complete.
            deadline_seconds: How long to wait for Canvas to finish the export.

        Raises:
            PermanentFailure: the export failed, was deleted, or has no file.
            TransientFailure: it did not finish in time, or Canvas did not answer.
        """
        exports = f"api/v1/courses/{_part(course_id)}/content_exports"
        wanted = {"export_type": "common_cartridge", "skip_notifications": True}
        export = read_json(self._http.request("POST", exports, json=wanted), _EXPORT)
        url = self._wait_for_file(
            exports,
            export,
            source=f"export {export.id} of Canvas course {course_id}",
            deadline_seconds=deadline_seconds,
        )
        download = self._http.download(url, destination)
        return CanvasExport(course_id, export.id, destination, download.size_bytes, download.sha256)

    def _wait_for_file(self, exports: str, export: _ContentExport, *, source: str, deadline_seconds: float) -> str:
        """Return the URL of the finished export's file. Every state that is not known to be an end is waited for."""
        deadline, asked, state = self._clock() + deadline_seconds, 0.0, export.workflow_state
        for delay in poll_delays():
            match state:
                case "exported" | "exported_for_course_copy":
                    if export.attachment is not None and export.attachment.url:
                        return export.attachment.url
                    raise PermanentFailure(f"{source} is {state} without a file; it expired or was lost, export again")
                case "failed" | "deleted":
                    raise PermanentFailure(f"{source} is {state}; look at the course's content exports in Canvas")
            left = deadline - self._clock()
            if left <= 0:
                raise TransientFailure(f"{source} is still {state} after {deadline_seconds:.0f} s")
            self._sleep(min(max(delay, asked), left))
            try:
                export = read_json(self._http.request("GET", f"{exports}/{_part(export.id)}"), _EXPORT)
                state, asked = export.workflow_state, 0.0
            except TransientFailure as error:  # the export goes on; only the deadline ends the wait
                state, asked = f"unknown ({error})", error.retry_after_seconds or 0.0
        raise AssertionError("poll_delays never ends")


def _part(value: object) -> str:
    return quote(str(value), safe="")


def _pause_seconds(response: httpx.Response) -> float:
    """Return how long Canvas's leaky bucket needs until the reserve is free again."""
    try:
        remaining = float(response.headers.get("x-rate-limit-remaining", "inf"))
    except ValueError:
        return 0.0
    return max(0.0, (_RESERVE - remaining) / _OUTFLOW_PER_SECOND)


def _is_hidden(response: httpx.Response) -> bool:
    """Say whether Canvas hides a tool of the course, rather than refusing the token or missing the course."""
    match response.status_code:
        case 401:
            return "www-authenticate" not in response.headers  # with it, the token itself is dead
        case 403:
            return True
        case _:
            return "has been disabled" in response.text
