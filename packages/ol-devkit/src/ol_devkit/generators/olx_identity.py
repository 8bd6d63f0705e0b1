"""The names and dates of a generated Open edX course run."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ol_devkit.generators.seeds import Seed
from ol_devkit.generators.vocabulary import ORGANIZATIONS, SUBJECTS, topic


@dataclass(frozen=True, slots=True)
class OlxIdentity:
    """What the LMS says of a course run. Times are UTC."""

    org: str
    course: str
    run: str
    display_name: str
    start: datetime
    end: datetime
    enrollment_start: datetime
    enrollment_end: datetime
    self_paced: bool

    @property
    def course_id(self) -> str:
        """`course-v1:ORG+COURSE+RUN`."""
        return f"course-v1:{self.org}+{self.course}+{self.run}"


def olx_identity(seed: int | str, index: int) -> OlxIdentity:
    """The names and dates of course `index`, without its content."""
    place = Seed.of(seed).child("olx", index)
    number, name = place.choice("subject", SUBJECTS)
    year, term = place.integer("year", 2023, 2026), place.integer("term", 1, 3)
    start = datetime(year, 4 * term - 3, place.integer("day", 1, 28), 5, tzinfo=UTC)
    return OlxIdentity(
        org=place.choice("org", ORGANIZATIONS),
        course=f"{number}.{index + 1}x",
        run=f"{term}T{year}",
        display_name=f"{name}: {topic(place)}",
        start=start,
        end=start + timedelta(days=7 * place.integer("weeks", 6, 15)),
        enrollment_start=start - timedelta(days=90),
        enrollment_end=start + timedelta(days=14),
        self_paced=bool(place.integer("self_paced", 0, 1)),
    )


def stamp(moment: datetime) -> str:
    """`moment` as Studio writes it, for example `2025-09-01T05:00:00Z`."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
