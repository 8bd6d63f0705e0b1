"""A small reader of Canvas cartridges, for the REST view of courses that come from a folder.

It is written apart from the platform's own reader, so that each can check the other. It reads leniently: what is
missing or broken leaves a list shorter or empty, since Canvas itself would have answered from its database.
"""

import html
import mimetypes
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from ol_devkit.generators.canvas_view import (
    CanvasAssignment,
    CanvasFile,
    CanvasIdentity,
    CanvasModule,
    CanvasModuleItem,
    CanvasPage,
    CanvasView,
    IdCounter,
    folders_of,
)
from ol_devkit.generators.cartridge import CONTENT_TYPES

XML_LIMIT_BYTES = 20_000_000
UNREADABLE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError, KeyError, ParseError)


def read_course(path: Path, course_id: int) -> tuple[CanvasIdentity, CanvasView]:
    """The course in the cartridge at `path`; empty, and named after the file, where it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            reader = _Reader(archive, IdCounter(course_id))
            return reader.identity(course_id, path.stem), reader.view()
    except (*UNREADABLE, DefusedXmlException):
        return CanvasIdentity(course_id, path.stem, path.stem), CanvasView()


class _Reader:
    def __init__(self, archive: zipfile.ZipFile, ids: IdCounter) -> None:
        self.archive = archive
        self.ids = ids
        self.names = [name for name in archive.namelist() if not name.endswith("/")]
        self.manifest = self.xml("imsmanifest.xml")
        self.identifiers = {
            file.get("href", ""): resource.get("identifier", "")
            for resource in _all(self.manifest, "resource")
            for file in _all(resource, "file")
        }
        self.targets: dict[str, tuple[int | None, str | None]] = {}

    def read(self, name: str) -> bytes | None:
        """A member, unless it is missing or unreasonably large."""
        if name not in self.names or self.archive.getinfo(name).file_size > XML_LIMIT_BYTES:
            return None
        return self.archive.read(name)

    def xml(self, name: str) -> Element | None:
        """The root element of a member, where it is XML."""
        data = self.read(name)
        try:
            return None if data is None else fromstring(data)
        except (ParseError, ValueError, DefusedXmlException):
            return None

    def identity(self, course_id: int, fallback: str) -> CanvasIdentity:
        """The course as the list of courses shows it."""
        settings = self.xml("course_settings/course_settings.xml")
        general = next(_all(self.manifest, "general"), None)
        name = _text(settings, "title") or _text(general, "string") or fallback
        start, end = _text(settings, "start_at"), _text(settings, "conclude_at")
        return CanvasIdentity(
            course_id, name, _text(settings, "course_code") or name, start_at=_moment(start), end_at=_moment(end)
        )

    def view(self) -> CanvasView:
        """What the API lists below the course."""
        files = [self._file(name) for name in self.names if name.startswith("web_resources/")]
        folders = folders_of([file.path.removeprefix("web_resources/") for file in files], self.ids)
        placed = []
        for file in files:
            folder = file.path.removeprefix("web_resources/").rpartition("/")[0]
            placed.append(replace(file, folder_id=folders[folder].id))
        pages = [self._page(name) for name in self.names if name.startswith("wiki_content/") and name.endswith(".html")]
        assignments = [found for name in self.names if name.endswith(".xml") for found in self._assignments(name)]
        modules = [self._module(element, n) for n, element in enumerate(self._module_elements(), 1)]
        return CanvasView(tuple(folders.values()), tuple(placed), tuple(pages), tuple(assignments), tuple(modules))

    def _file(self, name: str) -> CanvasFile:
        identifier = self.identifiers.get(name, "")
        meta = next((e for e in _all(self._files_meta(), "file") if e.get("identifier") == identifier), None)
        display_name = _text(meta, "display_name") or name.rpartition("/")[2]
        record = CanvasFile(
            id=self.ids.next(),
            folder_id=0,
            path=name,
            display_name=display_name,
            content_type=mimetypes.guess_type(name)[0] or "application/octet-stream",
            size_bytes=self.archive.getinfo(name).file_size,
            locked=_text(meta, "locked") == "true",
            hidden=_text(meta, "hidden") == "true",
        )
        self.targets[identifier] = (record.id, None)
        return record

    def _files_meta(self) -> Element | None:
        return self.xml("course_settings/files_meta.xml")

    def _page(self, name: str) -> CanvasPage:
        text = (self.read(name) or b"").decode("utf-8", "replace")
        title = re.search(r"<title>(.*?)</title>", text, re.DOTALL)
        meta = dict(re.findall(r'<meta name="(\w+)" content="([^"]*)"', text))
        page = CanvasPage(
            id=self.ids.next(),
            url=name.removeprefix("wiki_content/").removesuffix(".html"),
            title=html.unescape(title[1].strip()) if title else name,
            published=meta.get("workflow_state", "active") == "active",
            front_page=meta.get("front_page") == "true",
        )
        self.targets[self.identifiers.get(name, "")] = (None, page.url)
        return page

    def _assignments(self, name: str) -> Iterator[CanvasAssignment]:
        is_settings = name.rpartition("/")[2] in {"assignment_settings.xml", "assignment.xml", "assessment_meta.xml"}
        root = self.xml(name) if is_settings or "/" not in name else None
        if root is None or _local(root) not in {"assignment", "quiz", "topicMeta"}:
            return
        # A quiz and a graded topic hold their assignment as a child; an extension repeats it inside itself.
        quiz_id = self.ids.next() if _local(root) == "quiz" else None
        refers_to = _text(root, "topic_id") or root.get("identifier") or ""
        found = [element for element in root.iter() if _local(element) == "assignment"]
        if quiz_id or not found:
            self.targets[refers_to] = (quiz_id or self.ids.next(), None)
        if found:
            record = self._assignment(found[-1], quiz_id)
            self.targets.setdefault(refers_to, (record.id, None))
            yield record

    def _assignment(self, element: Element, quiz_id: int | None) -> CanvasAssignment:
        points = _text(element, "points_possible")
        return CanvasAssignment(
            id=self.ids.next(),
            name=_text(element, "title") or "",
            points_possible=float(points) if points and re.fullmatch(r"-?\d{1,15}(\.\d+)?", points) else None,
            due_at=_moment(_text(element, "due_at")),
            published=_text(element, "workflow_state") == "published",
            submission_types=tuple((_text(element, "submission_types") or "none").split(",")),
            quiz_id=quiz_id,
        )

    def _module_elements(self) -> list[Element]:
        return list(_all(self.xml("course_settings/module_meta.xml"), "module"))

    def _module(self, element: Element, position: int) -> CanvasModule:
        items = [self._item(item, n) for n, item in enumerate(_all(element, "item"), 1)]
        name, state = _text(element, "title") or "", _text(element, "workflow_state")
        return CanvasModule(self.ids.next(), name, position, state == "active", tuple(items))

    def _item(self, element: Element, position: int) -> CanvasModuleItem:
        content_id, page_url = self.targets.get(_text(element, "identifierref") or "", (None, None))
        return CanvasModuleItem(
            id=self.ids.next(),
            title=_text(element, "title") or "",
            type=CONTENT_TYPES.get(_text(element, "content_type") or "", "SubHeader"),
            position=position,
            published=_text(element, "workflow_state") == "active",
            content_id=content_id,
            page_url=page_url,
            external_url=_text(element, "url"),
        )


def _local(element: Element) -> str:
    # Exporters disagree on the versions in namespaces; the local name is what is stable.
    return element.tag.rpartition("}")[2]


def _all(element: Element | None, name: str) -> Iterator[Element]:
    return (found for found in element.iter() if _local(found) == name) if element is not None else iter(())


def _text(element: Element | None, name: str) -> str | None:
    """The text of the first child (or of a string below) named `name`; None where empty."""
    if element is None:
        return None
    children = element.iter() if name == "string" else element
    return next((child.text.strip() for child in children if _local(child) == name and child.text), None) or None


def _moment(text: str | None) -> str | None:
    """A date and time of the cartridge, as the API writes it; None where it is none, which Canvas could not hold."""
    try:
        moment = datetime.fromisoformat(text or "")
        return (moment.astimezone(UTC) if moment.tzinfo else moment).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):
        return None
