"""The requests: course runs and their versions; exports are in `exports`.

Sources: openedx-platform (course_api, learning_sequences) and ol_openedx_course_export (mitodl/open-edx-plugins).
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx
from ol_core.failures import OlError, PermanentFailure, UpstreamMissing
from ol_core.http import (
    ClientCredentialsAuth,
    HttpClient,
    HttpPolicy,
    Runtime,
    drf_pages,
    failure,
    read_json,
    validated,
)
from ol_core.orchestration.exports import Clock, ExportLimits, Submission, export_all
from pydantic import BaseModel, TypeAdapter

from ol_openedx.client.exports import EXPORT, StudioExports
from ol_openedx.client.records import CourseExport, CourseRun, ListedCourse

PAGE_SIZE = 100
"""Most course runs that the LMS gives on a page of its list."""

VERSIONS_AT_ONCE = 200
"""Most course runs that the export plugin tells the versions of in one call."""


class _Outline(BaseModel):
    published_version: str | None = None


class _Versions(BaseModel):
    versions: dict[str, dict[str, Any]]
    missing: list[str] = []


_LISTED = TypeAdapter(list[ListedCourse])
_OUTLINE = TypeAdapter(_Outline)
_VERSIONS = TypeAdapter(_Versions)
_OBJECT = TypeAdapter(dict[str, Any])


class OpenEdxClient:
    """Reads one deployment, its LMS and its Studio."""

    def __init__(  # noqa: PLR0913 - two addresses, a login, and what tests replace
        self,
        lms_url: str,
        studio_url: str,
        client_id: str,
        client_secret: str,
        *,
        policy: HttpPolicy | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runtime = runtime = Runtime(transport, sleep, clock)
        auth = ClientCredentialsAuth(
            f"{lms_url.rstrip('/')}/oauth2/access_token", client_id, client_secret, clock=clock
        )
        self._lms = HttpClient(lms_url, auth=auth, policy=policy or HttpPolicy(), runtime=runtime)
        self._studio = HttpClient(studio_url, auth=auth, policy=policy or HttpPolicy(), runtime=runtime)

    def close(self) -> None:
        """Close all connections."""
        self._lms.close()
        self._studio.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def lms_url(self) -> str:
        """Address of the LMS."""
        return str(self._lms.base_url)

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds that only grow, by which its requests are timed."""
        return self._runtime.clock

    def course_runs(self) -> Iterator[CourseRun]:
        """Yield the course runs that the LMS lists, each once.

        Raises:
            OlError: the list cannot be read to its end.
        """
        seen: set[str] = set()
        for page in self.course_pages():
            for run in page:
                if run.course_id not in seen:
                    seen.add(run.course_id)
                    yield run

    def course_pages(self, first: int = 1) -> Iterator[list[CourseRun]]:
        """Yield the pages of the list of course runs, from one of them on; one that changes meanwhile repeats some.

        Raises:
            UpstreamMissing: the list has no such page.
            OlError: it cannot be read to its end.
        """
        params = {"page_size": PAGE_SIZE, **({"page": first} if first > 1 else {})}
        answer = self._lms.request("GET", "api/courses/v1/courses/", params=params)
        for records in drf_pages(self._lms, answer):
            listed = validated(_LISTED, records, source="course list of the LMS")
            yield [one.course_run() for one in listed]

    def course_versions(self, course_ids: Iterable[str]) -> dict[str, str | OlError]:
        """Return the version of each course run's content, or why it is not known; see `has_export_versions`."""
        courses = list(dict.fromkeys(course_ids))
        try:
            at_once = bool(courses) and self.has_export_versions(courses[0])
        except OlError as error:
            return dict.fromkeys(courses, error)
        if not at_once:
            return self.outline_versions(courses)
        versions: dict[str, str | OlError] = {}
        for start in range(0, len(courses), VERSIONS_AT_ONCE):
            batch = courses[start : start + VERSIONS_AT_ONCE]
            try:
                versions |= self.export_versions(batch)
            except OlError as error:
                versions |= dict.fromkeys(batch, error)
        return versions

    def has_export_versions(self, course_id: str) -> bool:
        """Whether the export plugin tells versions (since 0.4.0), which move with blocks, files and transcripts.

        Elsewhere the outline's `published_version` stands in; that one does not move with files and transcripts.
        Plugins before 0.4.1 take a POST to any path under `export/` for a request to export the courses in it, so only
        one is named here.
        """
        return self._export_versions([course_id]) is not None

    def export_versions(self, courses: Sequence[str]) -> dict[str, str | OlError]:
        """Return what the export plugin says of up to 200 course runs."""
        answer = self._export_versions(courses)
        if answer is None:
            raise PermanentFailure("Studio's export plugin tells no versions any more")
        return answer

    def _export_versions(self, courses: Sequence[str]) -> dict[str, str | OlError] | None:
        """Return versions, or None where the plugin has no such endpoint."""
        response = self._studio.request(
            "POST", f"{EXPORT}versions/", json={"courses": list(courses)}, accept=(400, 404, 405), idempotent=True
        )
        if response.status_code in {404, 405} or "upload_task_ids" in read_json(response, _OBJECT):
            return None
        if not response.is_success:
            raise failure(response)
        answer = read_json(response, _VERSIONS)
        missing = set(answer.missing)
        return {course: _version(course, answer.versions.get(course), missing) for course in courses}

    def outline_versions(self, courses: Sequence[str]) -> dict[str, str | OlError]:
        """Return the `published_version` of each course run's outline; a call for each."""
        versions: dict[str, str | OlError] = {}
        for course in courses:
            try:
                versions[course] = self._outline_version(course)
            except OlError as error:
                versions[course] = error
        return versions

    def _outline_version(self, course: str) -> str:
        response = self._lms.request("GET", f"api/learning_sequences/v1/course_outline/{quote(course, safe='')}")
        version = read_json(response, _OUTLINE).published_version
        if not version:
            raise PermanentFailure(f"{course}: its outline has no published_version; publish the course in Studio")
        return version

    def export_courses(
        self,
        versions: Mapping[str, str],
        directory: Path,
        *,
        limits: ExportLimits,
        resume: Mapping[str, Submission] = {},
        on_submitted: Callable[[Sequence[Submission]], None] = lambda _: None,
    ) -> Iterator[tuple[str, CourseExport | OlError]]:
        """Export course runs; give each one's archive, or what went wrong, as it finishes, and every course run once.

        Args:
            versions: Course runs, and the version that each has now.
            directory: Where archives are written; the caller may move or remove each once it has it.
            limits: Exports in flight, and how long each may take.
            resume: Exports that were submitted before; see `ol_core.orchestration.exports.export_all`.
            on_submitted: Called with each batch that Studio accepted, before it is waited for.
        """
        clock = Clock(self._runtime.sleep, self._runtime.clock)
        source = StudioExports(self._studio, directory)
        return export_all(source, versions, limits=limits, resume=resume, on_submitted=on_submitted, clock=clock)


def _version(course: str, entry: dict[str, Any] | None, missing: set[str]) -> str | OlError:
    if course in missing:
        return UpstreamMissing(f"{course}: Studio has no such course")
    if entry is None:
        return PermanentFailure(f"{course}: Studio answered for other courses only")
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()
