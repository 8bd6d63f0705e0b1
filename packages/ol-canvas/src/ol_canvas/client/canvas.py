"""The requests: courses and what is in them; exports are in `exports`.

Sources: Canvas LMS REST API documentation (developerdocs.instructure.com), and canvas-lms for what it leaves out:
throttling, and which status a hidden tool answers.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import httpx
from ol_core.failures import OlError, PermanentFailure
from ol_core.http import (
    BearerAuth,
    HttpClient,
    HttpPolicy,
    Records,
    Runtime,
    failure,
    link_pages,
    validated,
)
from ol_core.orchestration.exports import Clock, ExportLimits, Submission, export_all
from pydantic import TypeAdapter

from ol_canvas.client.exports import CourseExports, part_of_path
from ol_canvas.client.records import (
    CanvasAssignment,
    CanvasCourse,
    CanvasExport,
    CanvasFile,
    CanvasModule,
    CanvasPage,
    CourseMetadata,
)

COURSES_AT_A_TIME = 4
"""Courses to read at once: Canvas charges each parallel request up front, and hardly ever throttles a few."""

_PER_PAGE = 100
_RESERVE = 100.0
"""Quota below which requests wait; a full one is 600."""
_OUTFLOW_PER_SECOND = 10.0
"""What Canvas gives back to the quota."""


_COURSES = TypeAdapter(tuple[CanvasCourse, ...])
_FILES = TypeAdapter(tuple[CanvasFile, ...])
_PAGES = TypeAdapter(tuple[CanvasPage, ...])
_ASSIGNMENTS = TypeAdapter(tuple[CanvasAssignment, ...])
_MODULES = TypeAdapter(tuple[CanvasModule, ...])


class CanvasClient:
    """Reads one account of a Canvas; safe to share between threads.

    Requests slow down where Canvas says that its quota runs out.
    """

    def __init__(  # noqa: PLR0913 - an address, a login, an account, and what tests replace
        self,
        base_url: str,
        access_token: str,
        *,
        account_id: int | str,
        policy: HttpPolicy | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._account_id = account_id
        self._runtime = Runtime(transport, sleep, clock)
        paced = replace(policy or HttpPolicy(), pace=_pause_seconds)
        self._http = HttpClient(base_url, auth=BearerAuth(access_token), policy=paced, runtime=self._runtime)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds that only grow, by which its requests are timed."""
        return self._runtime.clock

    def courses(self) -> Iterator[CanvasCourse]:
        """Yield the courses of the account, each once.

        Raises:
            OlError: the list cannot be read to its end.
        """
        seen: set[str] = set()
        url = f"api/v1/accounts/{part_of_path(self._account_id)}/courses"
        first = self._http.request("GET", url, params={"per_page": _PER_PAGE})
        for records in link_pages(self._http, first):
            for course in validated(_COURSES, records, source=f"courses of Canvas account {self._account_id}"):
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
            "GET", f"api/v1/courses/{part_of_path(course_id)}/{what}", params=params, accept=(401, 403, 404)
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
        url = (
            module.get("items_url")
            or f"api/v1/courses/{part_of_path(course_id)}/modules/{part_of_path(module.get('id'))}/items"
        )
        first = self._http.request("GET", str(url), params={"per_page": _PER_PAGE})
        return [record for records in link_pages(self._http, first) for record in records]

    def export_courses(  # noqa: PLR0913 - what to export, how, and what is known of it
        self,
        versions: Mapping[str, str],
        directory: Path,
        *,
        limits: ExportLimits,
        resume: Mapping[str, Submission] = {},
        wanted_since: Mapping[str, float] = {},
        on_submitted: Callable[[Sequence[Submission]], None] = lambda _: None,
    ) -> Iterator[tuple[str, CanvasExport | OlError]]:
        """Export courses as common cartridges; give what became of each as it finishes, and every course once.

        Args:
            versions: Courses, and the version that each has now.
            directory: Where cartridges are written; the caller may move or remove each once it has it.
            limits: Exports in flight, and how long each may take.
            resume: Exports that were submitted before; see `ol_core.orchestration.exports.export_all`.
            wanted_since: Since when killed processes have been after a course's version; see `CourseExports`.
            on_submitted: Called with each batch that Canvas accepted, before it is waited for.
        """
        clock = Clock(self._runtime.sleep, self._runtime.clock)
        source = CourseExports(self._http, directory, wanted_since=wanted_since)
        return export_all(source, versions, limits=limits, resume=resume, on_submitted=on_submitted, clock=clock)


def _pause_seconds(response: httpx.Response) -> float | None:
    """Return how long Canvas's leaky bucket needs until the reserve is free again; None where it does not say."""
    try:
        remaining = float(response.headers["x-rate-limit-remaining"])
    except (KeyError, ValueError):
        return None
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
