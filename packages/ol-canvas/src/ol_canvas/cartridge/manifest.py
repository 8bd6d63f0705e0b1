"""imsmanifest.xml and Canvas's own settings: resources, modules, and what names them.

Layout: Common Cartridge 1.1 to 1.3 (IMS) and what Canvas adds in `course_settings/`.
"""

import posixpath
import re
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from ol_canvas.cartridge.parsing import children, text_of

MANIFEST = "imsmanifest.xml"
SETTINGS = "course_settings/"
MODULE_META = SETTINGS + "module_meta.xml"
FILES_META = SETTINGS + "files_meta.xml"
ASSIGNMENT_GROUPS = SETTINGS + "assignment_groups.xml"
COURSE_SETTINGS = SETTINGS + "course_settings.xml"
SYLLABUS = SETTINGS + "syllabus.html"

_XML_BASE = "{http://www.w3.org/XML/1998/namespace}base"


@dataclass(slots=True)
class Resource:
    """One resource of the manifest, its files found in the zip.

    Attributes:
        files: Those that the zip holds, the main one first.
        missing: What it names and the zip lacks.
        dependencies: Identifiers of the resources it needs.
        variant_of: The resource for which it is a fallback (Common Cartridge 1.3).
    """

    identifier: str
    type: str
    intended_use: str = ""
    files: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    dependencies: list[str] = field(default_factory=list)
    variant_of: str | None = None

    @property
    def is_webcontent(self) -> bool:
        """Whether its files are served as they are."""
        return self.type == "webcontent"

    @property
    def is_associated(self) -> bool:
        """Whether it is a "learning application resource": in Canvas, settings or something that only Canvas reads."""
        return self.type.startswith("associatedcontent/")


@dataclass(slots=True)
class ModuleItem:
    """A place in a module. `references` are identifiers of what stands there, the most telling first."""

    identifier: str
    title: str | None
    workflow_state: str | None
    content_type: str | None
    position: int
    references: list[str]
    url: str | None = None
    indent: str | None = None


@dataclass(slots=True)
class Module:
    """A module and its places, in their order."""

    identifier: str
    title: str | None
    workflow_state: str | None
    position: int
    items: list[ModuleItem]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What imsmanifest.xml says."""

    title: str | None
    schema_version: str | None
    resources: list[Resource]
    modules: list[Module]


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What Canvas's files_meta.xml says of one file."""

    display_name: str | None
    workflow_state: str | None


class MemberIndex:
    """Finds the member that an href means: as written, percent-decoded, or composed differently in Unicode."""

    def __init__(self, paths: Collection[str]) -> None:
        self._paths = {unicodedata.normalize("NFC", path): path for path in paths}

    def find(self, href: str) -> str | None:
        """The member's path, or None."""
        for candidate in (href, unquote(href)):
            path = self._paths.get(unicodedata.normalize("NFC", posixpath.normpath(candidate)))
            if path is not None:
                return path
        return None


def parse_manifest(root: Element, members: MemberIndex) -> Manifest:
    """Reads the manifest's tree."""
    base = root.get(_XML_BASE, "")
    resources = [
        _resource(node, base + group.get(_XML_BASE, ""), members)
        for group in children(root, "resources")
        for node in children(group, "resource")
    ]
    lom = ("metadata", "lom", "general", "title")
    title = text_of(root, *lom, "string") or text_of(root, *lom, "langstring")
    return Manifest(title, text_of(root, "metadata", "schemaversion"), resources, _organization_modules(root))


def _resource(node: Element, base: str, members: MemberIndex) -> Resource:
    resource = Resource(node.get("identifier", ""), node.get("type", "").strip(), node.get("intendeduse", ""))
    hrefs = [node.get("href"), *(child.get("href") for child in children(node, "file"))]
    base += node.get(_XML_BASE, "")
    for href in dict.fromkeys(base + href for href in hrefs if href):
        path = members.find(href)
        if path is None:
            resource.missing.append(href)
        elif path not in resource.files:
            resource.files.append(path)
    resource.dependencies = [ref for child in children(node, "dependency") if (ref := child.get("identifierref"))]
    resource.variant_of = next((child.get("identifierref") for child in children(node, "variant")), None)
    return resource


def _organization_modules(root: Element) -> list[Module]:
    modules: list[Module] = []
    for organizations in children(root, "organizations"):
        for organization in children(organizations, "organization"):
            for node in _top_items(organization):
                modules.append(_organization_module(node, len(modules) + 1))
    return modules


def _top_items(organization: Element) -> list[Element]:
    # A cartridge wraps its modules in one root item without a title; some exporters leave it out, some give it a title.
    tops = list(children(organization, "item"))
    if len(tops) == 1 and not tops[0].get("identifierref"):
        inner = list(children(tops[0], "item"))
        if text_of(tops[0], "title") is None or any(next(children(item, "item"), None) is not None for item in inner):
            return inner
    return tops


def _organization_module(node: Element, position: int) -> Module:
    # An item with a resource and nothing below it stands in no module: a module without identifier and title.
    if node.get("identifierref") and next(children(node, "item"), None) is None:
        return Module("", None, None, position, list(_places([node])))
    items = list(_places([node] if node.get("identifierref") else children(node, "item")))
    return Module(node.get("identifier", ""), text_of(node, "title"), None, position, items)


def _places(nodes: Iterator[Element] | list[Element]) -> Iterator[ModuleItem]:
    # Folders inside a module become headers above their items, which is how Canvas shows them.
    pending = [(node, 0) for node in reversed(list(nodes))]
    position = 0
    while pending:
        node, indent = pending.pop()
        position += 1
        reference = node.get("identifierref")
        yield ModuleItem(
            identifier=node.get("identifier", ""),
            title=text_of(node, "title"),
            workflow_state=None,
            content_type=None,
            position=position,
            references=[reference] if reference else [],
            indent=str(indent),
        )
        pending += [(child, indent + 1) for child in reversed(list(children(node, "item")))]


def parse_module_meta(root: Element) -> list[Module]:
    """Canvas's modules, in the order of their positions."""
    modules = [
        Module(
            identifier=node.get("identifier", ""),
            title=text_of(node, "title"),
            workflow_state=text_of(node, "workflow_state"),
            position=_number(text_of(node, "position"), rank),
            items=_module_items(node),
        )
        for rank, node in enumerate(children(root, "module"), start=1)
    ]
    return sorted(modules, key=lambda module: module.position)


def _module_items(module: Element) -> list[ModuleItem]:
    nodes = [node for items in children(module, "items") for node in children(items, "item")]
    places = []
    for rank, node in enumerate(nodes, start=1):
        names = (text_of(node, "lti_resource_link_lookup_uuid"), text_of(node, "identifierref"))
        places.append(
            ModuleItem(
                identifier=node.get("identifier", ""),
                title=text_of(node, "title"),
                workflow_state=text_of(node, "workflow_state"),
                content_type=text_of(node, "content_type"),
                position=_number(text_of(node, "position"), rank),
                references=[name for name in names if name],
                url=text_of(node, "url"),
                indent=text_of(node, "indent"),
            )
        )
    return sorted(places, key=lambda item: item.position)


def merge_modules(settings: list[Module], organizations: list[Module]) -> list[Module]:
    """One list of modules from Canvas's settings, which know more, and the manifest, which is always there."""
    modules = {module.identifier: module for module in settings}
    following = max((module.position for module in settings), default=0)
    merged = list(settings)
    for module in organizations:
        known = modules.get(module.identifier) if module.identifier else None
        if known is None:
            module.position += following if settings else 0
            merged.append(module)
        else:
            known.title = known.title or module.title
            _merge_items(known.items, module.items)
    return merged


def _merge_items(known: list[ModuleItem], others: list[ModuleItem]) -> None:
    # The manifest names an external tool's place by the place's identifier, everything else by its resource.
    by_name = {item.identifier: item for item in known}
    by_reference = {reference: item for item in known for reference in item.references}
    following = max((item.position for item in known), default=0)
    for other in others:
        reference = other.references[0] if other.references else ""
        same = by_name.get(other.identifier) or by_name.get(reference) or by_reference.get(reference)
        if same is None:
            following += 1
            other.position = following
            known.append(other)
        elif reference and reference not in same.references:
            same.references.insert(0, reference)


def parse_files_meta(root: Element) -> dict[str, FileMeta]:
    """Canvas's settings of files, by the identifier of their resource."""
    return {
        node.get("identifier", ""): FileMeta(text_of(node, "display_name"), _file_state(node))
        for files in children(root, "files")
        for node in children(files, "file")
    }


def _file_state(node: Element) -> str | None:
    for flag in ("locked", "hidden"):
        if text_of(node, flag) == "true":
            return flag
    return None


def parse_assignment_groups(root: Element) -> list[list[str]]:
    """Title, position and weight of each assignment group, sorted."""
    names = ("title", "position", "group_weight")
    return sorted([text_of(node, name) or "" for name in names] for node in children(root, "assignmentGroup"))


def _number(text: str | None, default: int) -> int:
    return int(text) if text is not None and re.fullmatch(r"-?[0-9]{1,9}", text) else default
