"""Which course an archive in a folder is: read from its name, else from its course.xml."""

import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO
from urllib.parse import unquote
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse

from ol_devkit.campus.courses import CourseRun

PART = r"[\w\-~.:]+"
COURSE_KEY = re.compile(rf"(?:course-v1:({PART})\+({PART})\+({PART})|({PART})/({PART})/({PART}))")
PEEK_LIMIT_BYTES = 1 << 30  # of the decompressed archive: a bomb must not hold up the campus
UNREADABLE = (tarfile.TarError, OSError, EOFError, ValueError, ParseError, DefusedXmlException)
NAMING_FILES = {"course.xml": "course", "library.xml": "library"}


def runs_of(paths: Sequence[Path]) -> Iterator[CourseRun]:
    """The course run of each archive; two archives of one course get different runs."""
    taken: set[str] = set()
    for path in paths:
        first = run = run_of(path)
        copy = 1
        while run.course_id in taken:
            copy += 1
            run = course_run(first.org, first.number, f"{first.run}.{copy}", name=first.name)
        taken.add(run.course_id)
        yield run


def run_of(path: Path) -> CourseRun:
    """The course run of one archive; an archive that tells nothing is `course-v1:unreadable+<name>+archive`."""
    stem = unquote(re.sub(r"\.(tar\.gz|tgz)$", "", path.name, flags=re.IGNORECASE))
    if match := COURSE_KEY.fullmatch(stem):
        org, number, run = (part for part in match.groups() if part)
        return replace(course_run(org, number, run, name=f"{number} {run}"), course_id=stem)
    slug = re.sub(r"[^\w\-~.:]+", "-", stem).strip("-") or "archive"
    try:
        names = _peek(path)
    except UNREADABLE:
        names = None
    if names is None:
        return course_run("unreadable", slug, "archive", name=path.name)
    org, number, run = names
    return course_run(org, number, run or slug, name=f"{number} {run or slug}")


def course_run(org: str, number: str, run: str, *, name: str) -> CourseRun:
    """A run with the id that follows from its parts."""
    return CourseRun(f"course-v1:{org}+{number}+{run}", org, number, run, name)


def _peek(path: Path) -> tuple[str, str, str] | None:
    """org, course and run of the shallowest file that names them."""
    best: tuple[int, tuple[str, str, str]] | None = None
    with tarfile.open(path, "r|gz") as archive:
        for member in archive:
            if member.offset > PEEK_LIMIT_BYTES:
                break
            parts = [part for part in member.name.split("/") if part not in {"", "."}]
            tag = NAMING_FILES.get(parts[-1]) if parts and member.isfile() else None
            stream = archive.extractfile(member) if tag and (best is None or len(parts) < best[0]) else None
            names = _names(stream, str(tag)) if stream else None
            if names:
                best = (len(parts), names)
            if best and best[0] <= 2:  # noqa: PLR2004  # the root, or a folder in it: nothing can be shallower and other
                break
    return best[1] if best else None


def _names(stream: IO[bytes], tag: str) -> tuple[str, str, str] | None:
    try:
        _, root = next(iter(iterparse(stream, events=("start",))))
    except (StopIteration, ParseError, DefusedXmlException, ValueError):
        return None
    names = (root.get("org", ""), root.get(tag, ""), root.get("url_name", ""))
    valid = root.tag == tag and all(re.fullmatch(PART, name) for name in names[:2])
    return (names[0], names[1], names[2] if re.fullmatch(PART, names[2]) else "") if valid else None
