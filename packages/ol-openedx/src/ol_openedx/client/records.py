"""What Open edX says, as records; times are naive UTC."""

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ol_core.http import NaiveUtc
from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class CourseRun:
    """A course run as the LMS lists it; times are naive UTC."""

    course_id: str
    name: str | None
    org: str | None
    number: str | None
    run: str | None
    start_at: datetime | None
    end_at: datetime | None
    enrollment_start_at: datetime | None
    enrollment_end_at: datetime | None
    pacing: str | None
    is_hidden: bool | None


@dataclass(frozen=True, slots=True)
class CourseExport:
    """A course run's archive, downloaded whole."""

    course_id: str
    path: Path
    size_bytes: int
    sha256: str


class ListedCourse(BaseModel):
    """A course run in the answer of `api/courses/v1/courses/`."""

    id: str
    name: str | None = None
    org: str | None = None
    number: str | None = None
    start: NaiveUtc = None
    end: NaiveUtc = None
    enrollment_start: NaiveUtc = None
    enrollment_end: NaiveUtc = None
    pacing: str | None = None
    hidden: bool | None = None

    def course_run(self) -> CourseRun:
        """Return it as a record; its run is the last part of its key, old-style or new."""
        return CourseRun(
            course_id=self.id,
            name=self.name,
            org=self.org,
            number=self.number,
            run=re.split(r"[+/]", self.id)[-1],
            start_at=self.start,
            end_at=self.end,
            enrollment_start_at=self.enrollment_start,
            enrollment_end_at=self.enrollment_end,
            pacing=self.pacing,
            is_hidden=self.hidden,
        )
