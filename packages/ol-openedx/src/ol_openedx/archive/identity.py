"""Where in an archive the course is, and which course it is."""

from collections.abc import Iterable
from dataclasses import dataclass

from ol_openedx.archive.course import CourseFiles, Source, definition_path
from ol_openedx.archive.definitions import Element
from ol_openedx.archive.limits import ArchiveError
from ol_openedx.course_key import CourseKey, InvalidCourseKey

ROOT_FILES = ("course.xml", "library.xml")
_VALID = "course.xml (or a library's library.xml) at the top of the archive or in one folder at the top"


@dataclass(frozen=True, slots=True)
class CourseIdentity:
    """The course of an archive.

    Attributes:
        key: Its key as the archive spells it.
        archive_format: `course` or `library`.
        root: The course's or library's own block.
    """

    key: CourseKey
    archive_format: str
    root: Source


def root_prefix(paths: Iterable[str], *, refused: Iterable[str], archive: str) -> str:
    """The folder of the course, empty or ending in `/`: that of the shallowest course.xml, else library.xml.

    Args:
        paths: The archive's course.xml and library.xml files at depth 0 and 1.
        refused: Such files that are links or otherwise refused: what the error may have to explain.
        archive: Name for the error.

    Raises:
        ArchiveError: None, or two at the same depth.
    """
    found = sorted(paths, key=lambda path: (path.count("/"), path))
    for name in ROOT_FILES:
        candidates = [path for path in found if path.rpartition("/")[2] == name]
        if not candidates:
            continue
        first, *others = candidates
        if rivals := [path for path in others if path.count("/") == first.count("/")]:
            raise ArchiveError(archive, f"two courses: {', '.join([first, *rivals])}; an archive holds one, {_VALID}")
        return first.removesuffix(name)
    hint = "".join(f"; {path} is refused: it is not a regular file" for path in refused)
    raise ArchiveError(archive, f"no course in it; valid is {_VALID}{hint}")


def identify(files: CourseFiles, *, archive: str) -> CourseIdentity:
    """Read which course it is from its root file and, behind a pointer, its definition.

    Raises:
        ArchiveError: The root file or the definition cannot be used, or does not name the course.
    """
    name = next(name for name in ROOT_FILES if name in files.definitions or name in files.problems)
    archive_format = name.removesuffix(".xml")
    pointer = _definition(files, name, archive=archive)
    if pointer.tag != archive_format:
        raise ArchiveError(archive, f"the root element is <{pointer.tag}>, not <{archive_format}>", member=name)
    body, path = _body(files, pointer, name, archive=archive)
    attributes = {**body.attributes, **pointer.attributes}
    run = attributes.get("url_name") or attributes.get("slug")
    named = {"org": attributes.get("org")}
    if archive_format == "course":
        named |= {"course": attributes.get("course") or attributes.get("number"), "url_name": run}
    else:
        named["library"] = attributes.get("library")
    if missing := [key for key, value in named.items() if not value]:
        needed = ", ".join(named)
        raise ArchiveError(archive, f"gives no {', '.join(missing)}; {needed} name a {archive_format}", member=name)
    prefix = "course-v1" if archive_format == "course" else "library-v1"
    try:
        key = CourseKey.parse(f"{prefix}:{'+'.join(str(value) for value in named.values())}")
    except InvalidCourseKey as error:
        raise ArchiveError(archive, f"does not name a {archive_format}: {error}", member=name) from error
    root = Source(pointer.tag, run or pointer.tag, attributes, body, path, is_inline=False, body_path=path)
    return CourseIdentity(key, archive_format, root)


def _body(files: CourseFiles, pointer: Element, name: str, *, archive: str) -> tuple[Element, str]:
    """The element with the course's children, and its file: behind an empty root element where that file exists."""
    run = pointer.attributes.get("url_name")
    if not run or not pointer.is_empty:
        return pointer, name
    path = definition_path(pointer.tag, run)
    if path in files.definitions or path in files.problems:
        return _definition(files, path, archive=archive), path
    if pointer.tag == "course" and pointer.is_pointer:
        raise ArchiveError(archive, f"points to {path}, which is not in the archive", member=name)
    return pointer, name


def _definition(files: CourseFiles, path: str, *, archive: str) -> Element:
    if problem := files.problems.get(path):
        line = f" (line {problem.line})" if problem.line else ""
        raise ArchiveError(archive, f"{problem.reason}: {problem.detail}{line}", member=path)
    return files.definitions[path]
