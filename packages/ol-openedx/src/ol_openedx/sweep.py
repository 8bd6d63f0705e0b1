"""How a deployment is swept: what course runs it has, and at which version each is."""

import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

from ol_core.failures import UpstreamMissing
from ol_core.http import HttpPolicy
from ol_core.orchestration.desired_state import as_version
from ol_core.orchestration.discovery import Discovery, Unknown, discovered
from ol_core.orchestration.sweep import Answers, Sweep

from ol_openedx.client import CourseRun, OpenEdxClient
from ol_openedx.client.openedx import VERSIONS_AT_ONCE

SWEEP_POLICY = HttpPolicy(timeout_seconds=10.0, attempts=2, budget_seconds=10.0, outage_after=100)
"""How a sweep's client treats its server: it gives up soon, since the next tick asks again.

The sweep itself tells an outage: a client that sent nothing after a few failures would hide that others are answered.
"""

_BATCHES_AT_A_TIME = 2
_OUTLINES_AT_A_TIME = 8


@dataclass(slots=True)
class _Reading:
    """How far a list was read.

    Attributes:
        runs: Course runs so far, by their keys.
        pages: How many pages that was.
        last: Keys on the last one; while they stay there, nothing has moved from one page to another.
    """

    runs: dict[str, CourseRun] = field(default_factory=dict)
    pages: int = 0
    last: Sequence[str] = ()

    def go_on(self, client: OpenEdxClient) -> Iterator[CourseRun]:
        """Yield what was read before, and then the rest; all of it anew where the last page has changed."""
        pages = client.course_pages(max(self.pages, 1))
        if self.pages and self._stands(pages):
            yield from list(self.runs.values())
        elif self.pages:
            self.runs, self.pages, pages = {}, 0, client.course_pages()
        for number, page in enumerate(pages, start=self.pages + 1):
            new = {run.course_id: run for run in page if run.course_id not in self.runs}
            self.runs |= new
            self.pages, self.last = number, _course_ids(page)
            yield from new.values()

    def _stands(self, pages: Iterator[list[CourseRun]]) -> bool:
        """Whether the last page is as it was."""
        try:
            return _course_ids(next(pages)) == self.last
        except UpstreamMissing:  # the list has become shorter
            return False


_UNFINISHED: dict[str, _Reading] = {}
"""Lists that did not fit into a tick, by the address of the LMS; a new process begins at the first page."""


@dataclass(frozen=True, slots=True)
class DeploymentSource:
    """A deployment as a source of `ol_core.orchestration.sweep_tick`."""

    client: OpenEdxClient
    clock: Callable[[], float] = time.monotonic

    def discover(self, budget_seconds: float) -> Discovery:
        """Return the course runs that the LMS lists; unknown where the list cannot be read to its end in this time.

        An LMS lets staff ask 40 times a minute for 100 course runs, so a long list is read on in the next ticks.
        """
        reading = _UNFINISHED.setdefault(self.client.lms_url, _Reading())
        before = reading.pages
        found = discovered(
            reading.go_on(self.client),
            what="course runs",
            key=_course_id,
            version=list_version,
            budget_seconds=budget_seconds,
            clock=self.clock,
        )
        if not isinstance(found, Unknown):
            del _UNFINISHED[self.client.lms_url]
        elif reading.pages > before:
            return replace(found, reason=f"{found.reason}; the next tick reads on", goes_on=True)
        return found

    def sweep(self, keys: Sequence[str], budget_seconds: float) -> Sweep:
        """Ask the export plugin for 200 versions at a time where it tells them, and for an outline each elsewhere.

        Raises:
            OlError: Studio does not answer.
        """
        started = self.clock()
        one = random.choice(keys) if keys else ""  # noqa: S311 - the same bad one in every tick would stop the sweep
        at_once = bool(one) and self.client.has_export_versions(one)
        return Sweep(
            self._export_versions if at_once else self._outline_versions,
            batch_size=VERSIONS_AT_ONCE if at_once else 1,
            concurrency=_BATCHES_AT_A_TIME if at_once else _OUTLINES_AT_A_TIME,
            budget_seconds=max(0.0, budget_seconds - (self.clock() - started)),
            clock=self.clock,
        )

    def _export_versions(self, courses: Sequence[str]) -> Answers:
        return _tags(self.client.export_versions(courses))

    def _outline_versions(self, courses: Sequence[str]) -> Answers:
        return _tags(self.client.outline_versions(courses))


def list_version(runs: Collection[CourseRun]) -> str:
    """Return the version of a list of course runs."""
    return as_version(repr(sorted(runs, key=_course_id)))


def _course_id(run: CourseRun) -> str:
    return run.course_id


def _course_ids(runs: Sequence[CourseRun]) -> list[str]:
    return [run.course_id for run in runs]


def _tags(versions: Answers) -> Answers:
    return {course: as_version(one) if isinstance(one, str) else one for course, one in versions.items()}
