"""How an instance is swept: what courses it has, and at which version each is.

Canvas states no version of a course's content. Its metadata (files, pages, assignments, modules with their items and
times of change) costs a handful of cheap calls and moves when content moves, so its digest is the version wanted.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from ol_core.http import HttpPolicy
from ol_core.orchestration.desired_state import as_version
from ol_core.orchestration.discovery import Discovery, discovered
from ol_core.orchestration.sweep import Answers, Sweep

from ol_canvas.client import CanvasClient, CanvasCourse
from ol_canvas.client.canvas import COURSES_AT_A_TIME

SWEEP_POLICY = HttpPolicy(timeout_seconds=10.0, attempts=2, budget_seconds=10.0, outage_after=100)
"""How a sweep's client treats its server: it gives up soon, since the next tick asks again.

The sweep itself tells an outage: a client that sent nothing after a few failures would hide that others are answered.
"""

_LOOK_SECONDS = 60.0
"""A course takes some calls, and more where modules have many items; what a tick may take bounds it as well."""


@dataclass(frozen=True, slots=True)
class InstanceSource:
    """An instance as a source of `ol_core.orchestration.sweep_tick`."""

    client: CanvasClient
    clock: Callable[[], float] = time.monotonic

    def discover(self, budget_seconds: float) -> Discovery:
        """Return the courses of the account; unknown where the list cannot be read to its end in this time."""
        return discovered(
            self.client.courses(),
            what="courses",
            key=_course_id,
            version=list_version,
            budget_seconds=budget_seconds,
            clock=self.clock,
        )

    def sweep(self, keys: Sequence[str], budget_seconds: float) -> Sweep:  # noqa: ARG002 - all are asked for alike
        """Read the metadata of a few courses at a time, so that Canvas is hardly ever led to throttle."""
        return Sweep(
            self._versions,
            concurrency=COURSES_AT_A_TIME,
            budget_seconds=budget_seconds,
            look_seconds=_LOOK_SECONDS,
            clock=self.clock,
        )

    def _versions(self, courses: Sequence[str]) -> Answers:
        return {course: as_version(self.client.course_metadata(course).digest) for course in courses}


def list_version(courses: Collection[CanvasCourse]) -> str:
    """Return the version of a list of courses."""
    return as_version(repr(sorted(courses, key=_course_id)))


def _course_id(course: CanvasCourse) -> str:
    return course.course_id
