"""Keys of Open edX courses and libraries: parsing and block ids.

The grammar is that of the platform's opaque keys: `course-v1:ORG+COURSE+RUN`, the older `ORG/COURSE/RUN`, and
`library-v1:ORG+LIBRARY`; each part is one or more of letters, digits, `_ - ~ . :`.
"""

import re
from dataclasses import dataclass
from typing import Self

from ol_core.failures import PermanentFailure

_PART = r"[\w\-~.:]+"
_COURSE = re.compile(
    rf"course-v1:(?P<org>{_PART})\+(?P<course>{_PART})\+(?P<run>{_PART})"
    rf"(?P<revision>(?:\+branch@{_PART})?(?:\+version@[0-9a-f]{{24}})?)"
)
_OLD_COURSE = re.compile(rf"(?P<org>{_PART})/(?P<course>{_PART})/(?P<run>{_PART})")
_LIBRARY = re.compile(rf"library-v1:(?P<org>{_PART})\+(?P<course>{_PART})")
_VALID = "course-v1:ORG+COURSE+RUN, ORG/COURSE/RUN or library-v1:ORG+LIBRARY, of letters, digits and _ - ~ . :"


class InvalidCourseKey(PermanentFailure):
    """A text that names neither a course run nor a library."""


@dataclass(frozen=True, slots=True)
class CourseKey:
    """The key of a course run or of a library; `str()` gives the text it was parsed from.

    Attributes:
        org: Organisation.
        course: Course number, or the library's code.
        run: Course run; None for a library.
        is_old_style: Written `ORG/COURSE/RUN`.
        revision: `+branch@...` and `+version@...` as written, else empty.
    """

    org: str
    course: str
    run: str | None
    is_old_style: bool = False
    revision: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a key, exactly: no surrounding space, no trailing newline, no percent-encoding.

        Raises:
            InvalidCourseKey: The text has none of the three forms.
        """
        for pattern in (_COURSE, _OLD_COURSE, _LIBRARY):
            if match := pattern.fullmatch(text):
                found = match.groupdict()
                return cls(
                    org=found["org"],
                    course=found["course"],
                    run=found.get("run"),
                    is_old_style=pattern is _OLD_COURSE,
                    revision=found.get("revision") or "",
                )
        raise InvalidCourseKey(f"{text!r} is not a course key; valid is {_VALID}")

    def __str__(self) -> str:
        if self.run is None:
            return f"library-v1:{self.org}+{self.course}"
        if self.is_old_style:
            return f"{self.org}/{self.course}/{self.run}"
        return f"course-v1:{self.org}+{self.course}+{self.run}{self.revision}"

    def block_id(self, block_type: str, url_name: str) -> str:
        """Usage id of a block of this course or library."""
        if self.run is None:
            return f"lib-block-v1:{self.org}+{self.course}+type@{block_type}+block@{url_name}"
        if self.is_old_style:
            return f"i4x://{self.org}/{self.course}/{block_type}/{url_name}"
        return f"block-v1:{self.org}+{self.course}+{self.run}+type@{block_type}+block@{url_name}"
