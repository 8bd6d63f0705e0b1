"""What Canvas has, and at which version.

Canvas states no version of a course's content. Its metadata (files, pages, assignments, modules with their items and
times of change) costs a handful of cheap calls and moves when content moves, so its digest is the version wanted.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ol_core.desired_state import as_version
from ol_core.failures import OlError, TransientFailure

from ol_canvas.client import CanvasClient, CanvasCourse

_WORKERS = 4
"""Canvas charges each parallel request up front; a few at a time are hardly ever throttled."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Answer of Canvas.

    Attributes:
        courses: The account's courses, ordered by id.
        versions: Digest of each course's metadata, where it could be read.
        unreadable: What went wrong for each of the others.
    """

    courses: Sequence[CanvasCourse]
    versions: Mapping[str, str]
    unreadable: Mapping[str, OlError]

    @property
    def digest(self) -> str:
        """Version of the list of courses."""
        return list_digest(self.courses)


def list_courses(client: CanvasClient, account_id: int) -> list[CanvasCourse]:
    """Return the account's courses, ordered by id."""
    return sorted(client.courses(account_id), key=lambda course: course.course_id)


def list_digest(courses: Sequence[CanvasCourse]) -> str:
    """Return the version of a list of courses."""
    return as_version(repr(list(courses)))


def sweep(client: CanvasClient, account_id: int) -> Sweep:
    """Ask Canvas for an account's courses and their versions.

    Raises:
        TransientFailure: no course at all could be read; that is an outage, not an empty account.
        PermanentFailure: the list itself was refused.
    """
    courses = list_courses(client, account_id)
    with ThreadPoolExecutor(_WORKERS) as pool:
        answers = dict(pool.map(lambda course: (course.course_id, version_of(client, course.course_id)), courses))
    unreadable = {course: answer for course, answer in answers.items() if isinstance(answer, OlError)}
    if courses and len(unreadable) == len(courses):
        course, error = next(iter(unreadable.items()))
        raise TransientFailure(f"none of {len(courses)} courses can be read; {course}: {error}")
    versions = {course: answer for course, answer in answers.items() if isinstance(answer, str)}
    return Sweep(courses=courses, versions=versions, unreadable=unreadable)


def version_of(client: CanvasClient, course_id: str) -> str | OlError:
    """Return the digest of a course's metadata, or why it cannot be read."""
    try:
        return as_version(client.course_metadata(course_id).digest)
    except OlError as error:
        return error
