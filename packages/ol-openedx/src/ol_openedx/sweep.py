"""How a deployment is swept: what course runs it has, and at which version each is."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from ol_core.http import HttpPolicy
from ol_core.orchestration.desired_state import as_version
from ol_core.orchestration.sweep import Answers, Discovery, Sweep, discovered

from ol_openedx.client import CourseRun, OpenEdxClient
from ol_openedx.client.openedx import VERSIONS_AT_ONCE

SWEEP_POLICY = HttpPolicy(timeout_seconds=10.0, attempts=2, budget_seconds=10.0)
"""How a sweep's client treats its server: it gives up soon, since the next tick asks again."""

_BATCHES_AT_A_TIME = 2
_OUTLINES_AT_A_TIME = 8


@dataclass(frozen=True, slots=True)
class DeploymentSource:
    """A deployment as a source of `ol_core.orchestration.sweep_tick`."""

    client: OpenEdxClient
    clock: Callable[[], float] = time.monotonic

    def discover(self, budget_seconds: float) -> Discovery:
        """Return the course runs that the LMS lists; unknown where the list cannot be read to its end in this time."""
        return discovered(
            self.client.course_runs(),
            what="course runs",
            key=_course_id,
            version=list_version,
            budget_seconds=budget_seconds,
            clock=self.clock,
        )

    def sweep(self, keys: Sequence[str], budget_seconds: float) -> Sweep:
        """Ask the export plugin for 200 versions at a time where it tells them, and for an outline each elsewhere.

        Raises:
            OlError: Studio does not answer.
        """
        started = self.clock()
        at_once = bool(keys) and self.client.has_export_versions(keys[0])
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


def _tags(versions: Answers) -> Answers:
    return {course: as_version(one) if isinstance(one, str) else one for course, one in versions.items()}
