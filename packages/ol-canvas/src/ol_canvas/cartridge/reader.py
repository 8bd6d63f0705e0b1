"""Reads a cartridge: the manifest first, then every other member once."""

import hashlib
import mimetypes
from collections import Counter
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO
from xml.etree.ElementTree import Element

from ol_canvas.cartridge.digest import content_digest
from ol_canvas.cartridge.items import QUIZZES, ItemBuilder, assign_files, owner_name
from ol_canvas.cartridge.manifest import (
    ASSIGNMENT_GROUPS,
    COURSE_SETTINGS,
    FILES_META,
    MANIFEST,
    MODULE_META,
    SETTINGS,
    SYLLABUS,
    Manifest,
    MemberIndex,
    Resource,
    merge_modules,
    parse_assignment_groups,
    parse_files_meta,
    parse_manifest,
    parse_module_meta,
)
from ol_canvas.cartridge.members import CartridgeZip, Quarantine
from ol_canvas.cartridge.parsing import (
    Facts,
    FactsReader,
    HtmlHeadReader,
    Reader,
    TreeReader,
    XmlFault,
    XmlReader,
    local_name,
)
from ol_canvas.cartridge.records import Cartridge, CartridgeError, CartridgeFile, CartridgeItem, CartridgeLimits

_TREES = frozenset({MODULE_META, FILES_META, ASSIGNMENT_GROUPS})
_DEFAULT_LIMITS = CartridgeLimits()
_WEB_RESOURCES = "web_resources/"
_CONTENT_TYPES = mimetypes.MimeTypes()  # the standard library's own table, not the machine's
for _suffix, _type in {
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".vtt": "text/vtt",
    ".srt": "application/x-subrip",
}.items():
    _CONTENT_TYPES.add_type(_type, _suffix)


@dataclass(slots=True)
class _Contents:
    """What the pass over the members leaves behind; its size grows with their number, not with their bytes."""

    members: dict[str, tuple[int, str]] = field(default_factory=dict)
    facts: dict[str, Facts] = field(default_factory=dict)
    trees: dict[str, Element] = field(default_factory=dict)
    syllabus: str | None = None


class _SyllabusReader:
    """Digests a page's words: its bytes lie in course_settings/, which every export rewrites."""

    def __init__(self, limit: int) -> None:
        self._text, self._limit = bytearray(), limit

    def feed(self, chunk: bytes, /) -> None:
        self._text += chunk[: max(0, self._limit - len(self._text))]

    def digest(self) -> str:
        body = self._text[max(0, self._text.find(b"<body")) :]
        words = b" ".join(body.split()).replace(b" <", b"<").replace(b"> ", b">")
        return hashlib.sha256(words).hexdigest()


def read_cartridge(
    source: Path | BinaryIO, *, name: str, course_id: str | None = None, limits: CartridgeLimits = _DEFAULT_LIMITS
) -> Cartridge:
    """Reads one cartridge, every member decompressed once, in chunks, its CRC verified; nothing is written to disk.

    Args:
        source: The zip: a path, or a stream that can seek.
        name: Names the cartridge in results and errors.
        course_id: Key of the rows; `name` where it is None.
        limits: How much the cartridge may ask for.

    Returns:
        What the cartridge holds. What could not be used is in its `quarantine`.

    Raises:
        CartridgeError: No readable zip, a corrupt or encrypted member, a limit passed, no usable imsmanifest.xml.
    """
    quarantine = Quarantine(name if course_id is None else course_id)
    with CartridgeZip(source, name=name, limits=limits, quarantine=quarantine) as members:
        manifest = _read_manifest(members, name, limits)
        contents = _read_members(members, manifest, limits, quarantine)
    _quarantine_missing(manifest, quarantine)
    trees = contents.trees
    standing, absent = assign_files(manifest.resources, members.infos, contents.facts)
    builder = ItemBuilder(
        {path: entry.file_size for path, entry in members.infos.items()},
        contents.facts,
        parse_files_meta(trees[FILES_META]) if FILES_META in trees else {},
        quarantine,
    )
    for resource in sorted(standing, key=lambda resource: (resource.files, resource.identifier)):
        builder.add_resource(resource)
    settings = parse_module_meta(trees[MODULE_META]) if MODULE_META in trees else []
    for module in merge_modules(settings, manifest.modules):
        builder.add_module(module, absent)
    items = builder.finished()
    files = _files(standing, items, members, quarantine.course_id)
    title = manifest.title or contents.facts.get(COURSE_SETTINGS, Facts()).title
    outline = {
        "title": title,
        "modules": builder.outline,
        "items": sorted(
            [item.item_type, item.title or "", item.workflow_state or "", item.path or ""] for item in items
        ),
        "assignment_groups": parse_assignment_groups(trees[ASSIGNMENT_GROUPS]) if ASSIGNMENT_GROUPS in trees else [],
        "syllabus": contents.syllabus,
    }
    return Cartridge(
        name=name,
        title=title,
        schema_version=manifest.schema_version,
        content_digest=content_digest(contents.members, outline),
        items_by_type=MappingProxyType(dict(sorted(Counter(item.item_type for item in items).items()))),
        file_count=len(files),
        file_bytes=sum(file.size_bytes for file in files),
        member_count=members.member_count,
        quarantined_count=len(quarantine.entries),
        items=items,
        files=files,
        quarantine=tuple(quarantine.entries),
    )


def _read_manifest(members: CartridgeZip, name: str, limits: CartridgeLimits) -> Manifest:
    if MANIFEST not in members.infos:
        inner = next((path for path in members.infos if path.endswith("/" + MANIFEST)), None)
        hint = f"; it lies at {inner!r}: pack the cartridge without the folder around it" if inner else ""
        raise CartridgeError(name, f"has no {MANIFEST} at its root: it is not a common cartridge{hint}")
    reader = TreeReader(limits)
    for chunk in members.chunks(MANIFEST):
        reader.feed(chunk)
    fault = reader.close()
    if fault is not None:
        place = "" if fault.line is None else f", line {fault.line}"
        raise CartridgeError(name, f"cannot be parsed{place}: {fault.detail} ({fault.reason})", member=MANIFEST)
    root = reader.root()
    if local_name(root.tag) != "manifest":
        problem = f"has the root element {local_name(root.tag)!r} where 'manifest' is expected"
        raise CartridgeError(name, problem, member=MANIFEST)
    return parse_manifest(root, MemberIndex(members.infos))


def _read_members(
    members: CartridgeZip, manifest: Manifest, limits: CartridgeLimits, quarantine: Quarantine
) -> _Contents:
    contents = _Contents()
    settings = _settings_paths(manifest, members)
    for path, entry in members.infos.items():
        if path == MANIFEST:
            continue
        reader = _reader_for(path, settings, limits)
        sha256 = hashlib.sha256()
        for chunk in members.chunks(path):
            sha256.update(chunk)
            if reader is not None:
                reader.feed(chunk)
        if not path.startswith(SETTINGS):
            contents.members[path] = (entry.file_size, sha256.hexdigest())
        if reader is not None:
            fault = _keep(path, reader, contents)
            if fault is not None:
                quarantine.add(path, fault.reason, fault.detail, line=fault.line, size_bytes=entry.file_size)
    return contents


def _settings_paths(manifest: Manifest, members: CartridgeZip) -> frozenset[str]:
    """The XML files that say what an item is: named by a resource, or lying where they belong to one."""
    served = {path for resource in manifest.resources if resource.is_webcontent for path in resource.files}
    named = {path for resource in manifest.resources for path in resource.files} - served
    owners = {resource.identifier for resource in manifest.resources}
    return frozenset(
        path
        for path in members.infos
        if path.endswith((".xml", ".qti"))
        and path not in served
        and (path in named or path.startswith((QUIZZES, COURSE_SETTINGS)) or owner_name(path) in owners)
    )


def _reader_for(path: str, settings: AbstractSet[str], limits: CartridgeLimits) -> Reader | None:
    if path == SYLLABUS:
        return _SyllabusReader(limits.xml_bytes)
    if path in _TREES:
        return TreeReader(limits)
    if path.startswith(_WEB_RESOURCES) or (path.startswith(SETTINGS) and path != COURSE_SETTINGS):
        return None
    if path.endswith((".html", ".htm")):
        return HtmlHeadReader()
    return FactsReader(limits) if path in settings else None


def _keep(path: str, reader: Reader, contents: _Contents) -> XmlFault | None:
    if isinstance(reader, _SyllabusReader):
        contents.syllabus, contents.facts[path] = reader.digest(), Facts("html", "Syllabus")
    elif isinstance(reader, HtmlHeadReader):
        contents.facts[path] = reader.facts()
    elif isinstance(reader, XmlReader):
        fault = reader.close()
        if fault is not None:
            return fault
        if isinstance(reader, TreeReader):
            contents.trees[path] = reader.root()
        elif isinstance(reader, FactsReader):
            contents.facts[path] = reader.facts
    return None


def _quarantine_missing(manifest: Manifest, quarantine: Quarantine) -> None:
    """Report content that the manifest names and the zip lacks; settings may be left out, and often are."""
    reported = {entry.path for entry in quarantine.entries}
    for resource in manifest.resources:
        for href in resource.missing:
            if href not in reported and not href.startswith(SETTINGS):
                reported.add(href)
                detail = f"the manifest's resource {resource.identifier!r} names it; the zip does not hold it"
                quarantine.add(href, "missing_member", detail)


def _files(
    resources: list[Resource], items: tuple[CartridgeItem, ...], members: CartridgeZip, course_id: str
) -> tuple[CartridgeFile, ...]:
    pages = {item.path for item in items if item.item_type == "page"}
    served = {path for resource in resources if resource.is_webcontent for path in resource.files}
    under = {path for path in members.infos if path.startswith(_WEB_RESOURCES)}
    return tuple(
        CartridgeFile(
            course_id,
            path,
            members.infos[path].file_size,
            f"{members.infos[path].CRC:08x}",
            _CONTENT_TYPES.guess_type(path)[0],
        )
        for path in sorted((served | under) - pages)
    )
