"""What a deployment has, and at which version."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ol_core.desired_state import as_version
from ol_core.failures import OlError, TransientFailure

from ol_openedx.client import CourseRun, OpenEdxClient


@dataclass(frozen=True, slots=True)
class Sweep:
    """Answer of a deployment.

    Attributes:
        runs: Its course runs, ordered by id.
        versions: Version of each course run's content, where it could be read.
        unreadable: What went wrong for each of the others.
    """

    runs: Sequence[CourseRun]
    versions: Mapping[str, str]
    unreadable: Mapping[str, OlError]

    @property
    def digest(self) -> str:
        """Version of the whole answer."""
        content = repr([(run, self.versions.get(run.course_id)) for run in self.runs])
        return as_version(content)


def sweep(client: OpenEdxClient) -> Sweep:
    """Ask a deployment for its course runs and their versions.

    Raises:
        TransientFailure: no version at all could be read; that is an outage, not an empty deployment.
        PermanentFailure: the list itself was refused.
    """
    runs = sorted(client.course_runs(), key=lambda run: run.course_id)
    answers = client.course_versions([run.course_id for run in runs])
    unreadable = {course: answer for course, answer in answers.items() if isinstance(answer, OlError)}
    if runs and len(unreadable) == len(runs):
        course, error = next(iter(unreadable.items()))
        raise TransientFailure(f"no version of any of {len(runs)} course runs can be read; {course}: {error}")
    versions = {course: as_version(answer) for course, answer in answers.items() if isinstance(answer, str)}
    return Sweep(runs=runs, versions=versions, unreadable=unreadable)
