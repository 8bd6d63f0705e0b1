"""What Canvas rewrites at every export: `imsmanifest.xml` and the files of `course_settings/`."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from xml.etree.ElementTree import Element, SubElement

from ol_devkit.generators.canvas_view import CanvasIdentity
from ol_devkit.generators.cartridge_parts import (
    APPLICATION_RESOURCE,
    Part,
    Resource,
    add_fields,
    canvas_element,
    document,
    html_document,
)
from ol_devkit.generators.seeds import Member, Seed
from ol_devkit.generators.vocabulary import paragraphs

MANIFEST_NAMESPACES = {
    "xmlns": "http://www.imsglobal.org/xsd/imsccv1p1/imscp_v1p1",
    "xmlns:lom": "http://ltsc.ieee.org/xsd/imsccv1p1/LOM/resource",
    "xmlns:lomimscc": "http://ltsc.ieee.org/xsd/imsccv1p1/LOM/manifest",
}
SETTINGS = ("course_settings", "module_meta", "assignment_groups", "files_meta", "media_tracks", "rubrics", "events")


@dataclass(frozen=True, slots=True)
class PlannedItem:
    """An item of a module: `type` as in `module_meta.xml`; `refers_to` is the identifier of a resource."""

    identifier: str
    type: str
    title: str
    position: int
    published: bool
    refers_to: str | None
    url: str | None


@dataclass(frozen=True, slots=True)
class ModulePlan:
    """A module of the cartridge."""

    identifier: str
    title: str
    position: int
    published: bool
    items: tuple[PlannedItem, ...]


def rewritten_members(
    identity: CanvasIdentity,
    parts: Sequence[Part],
    modules: Sequence[ModulePlan],
    *,
    export: Seed,
    exported_at: datetime,
) -> Iterator[Member]:
    """The manifest and the settings as one export writes them."""
    own = Seed.of(identity.id)
    yield Member(
        "imsmanifest.xml", document(_manifest(identity, parts, modules, export=export, exported_at=exported_at))
    )
    roots = {
        "course_settings": _course_settings(identity, export),
        "module_meta": _module_meta(modules),
        "files_meta": _files_meta(parts, export),
        "assignment_groups": canvas_element("assignmentGroups"),
        "media_tracks": canvas_element("media_tracks"),
        "rubrics": canvas_element("rubrics"),
        "events": canvas_element("events"),
    }
    group = SubElement(roots["assignment_groups"], "assignmentGroup", {"identifier": "i" + own.hex("group")})
    add_fields(group, title="Assignments", position=1, group_weight=0.0)
    stamp = f"<!-- {exported_at.isoformat()} -->\n".encode()
    for name in SETTINGS:
        yield Member(f"course_settings/{name}.xml", document(roots[name]) + stamp)
    joke = f"Q: Which export is this?\nA: The one of {exported_at:%A}, number {export.hex('joke', 6)}\n"
    yield Member("course_settings/canvas_export.txt", joke.encode())
    syllabus = html_document("Syllabus", paragraphs(own.child("syllabus"), 3))
    yield Member("course_settings/syllabus.html", syllabus)


def _manifest(
    identity: CanvasIdentity,
    parts: Sequence[Part],
    modules: Sequence[ModulePlan],
    *,
    export: Seed,
    exported_at: datetime,
) -> Element:
    own = Seed.of(identity.id)
    root = Element("manifest", {"identifier": "i" + own.hex("manifest"), **MANIFEST_NAMESPACES})
    metadata = SubElement(root, "metadata")
    add_fields(metadata, schema="IMS Common Cartridge", schemaversion="1.1.0")
    lom = SubElement(metadata, "lomimscc:lom")
    name = SubElement(SubElement(lom, "lomimscc:general"), "lomimscc:title")
    SubElement(name, "lomimscc:string").text = identity.name
    contribution = SubElement(SubElement(lom, "lomimscc:lifeCycle"), "lomimscc:contribute")
    SubElement(SubElement(contribution, "lomimscc:date"), "lomimscc:dateTime").text = f"{exported_at:%Y-%m-%d}"
    organization = SubElement(SubElement(root, "organizations"), "organization", {"identifier": "org_1"})
    organization.set("structure", "rooted-hierarchy")
    learning_modules = SubElement(organization, "item", {"identifier": "LearningModules"})
    for module in modules:
        _organization_item(learning_modules, module)
    resources = SubElement(root, "resources")
    own_id = "i" + own.hex("settings")
    names = [f"course_settings/{name}.xml" for name in SETTINGS] + ["course_settings/canvas_export.txt"]
    settings = Resource(own_id, APPLICATION_RESOURCE, names[-1], tuple(export.shuffled("settings", names)))
    path = "course_settings/syllabus.html"
    syllabus = Resource(own_id + "_syllabus", APPLICATION_RESOURCE, path, (path,), intended_use="syllabus")
    content = (resource for part in parts for resource in part.resources)
    for resource in export.shuffled("resources", (settings, syllabus, *content)):
        _resource(resources, resource)
    return root


def _organization_item(parent: Element, module: ModulePlan) -> None:
    element = SubElement(parent, "item", {"identifier": module.identifier})
    SubElement(element, "title").text = module.title
    for item in module.items:
        child = SubElement(element, "item", {"identifier": item.identifier})
        if item.refers_to:
            child.set("identifierref", item.refers_to)
        SubElement(child, "title").text = item.title


def _resource(parent: Element, resource: Resource) -> None:
    element = SubElement(parent, "resource", {"identifier": resource.identifier, "type": resource.type})
    if resource.href:
        element.set("href", resource.href)
    if resource.intended_use:
        element.set("intendeduse", resource.intended_use)
    for path in resource.files:
        SubElement(element, "file", {"href": path})
    if resource.depends_on:
        SubElement(element, "dependency", {"identifierref": resource.depends_on})


def _course_settings(identity: CanvasIdentity, export: Seed) -> Element:
    tabs = json.dumps([{"id": number} for number in export.shuffled("tabs", range(12))])
    return canvas_element(
        "course",
        "i" + Seed.of(identity.id).hex("settings"),
        title=identity.name,
        course_code=identity.course_code,
        start_at=identity.start_at,
        conclude_at=identity.end_at,
        is_public=False,
        default_view="modules",
        license="private",
        tab_configuration=tabs,
    )


def _module_meta(modules: Sequence[ModulePlan]) -> Element:
    root = canvas_element("modules")
    for module in modules:
        element = SubElement(root, "module", {"identifier": module.identifier})
        state = "active" if module.published else "unpublished"
        add_fields(element, title=module.title, workflow_state=state, position=module.position, locked=False)
        items = SubElement(element, "items")
        for item in module.items:
            child = SubElement(items, "item", {"identifier": item.identifier})
            state = "active" if item.published else "unpublished"
            add_fields(child, content_type=item.type, workflow_state=state, title=item.title)
            if item.refers_to:
                add_fields(child, identifierref=item.refers_to)
            if item.url:
                add_fields(child, url=item.url)
            add_fields(child, position=item.position, new_tab=False, indent=0)
    return root


def _files_meta(parts: Sequence[Part], export: Seed) -> Element:
    root = canvas_element("fileMeta")
    folders = SubElement(root, "folders")
    add_fields(SubElement(folders, "folder", {"path": "course_image"}), hidden=True)
    files = SubElement(root, "files")
    uploads = [part for part in parts if part.members[0].path.startswith("web_resources/")]
    for part in export.shuffled("files_meta", uploads[::4]):
        name = part.members[0].path.rpartition("/")[2]
        add_fields(
            SubElement(files, "file", {"identifier": part.identifier}), display_name=name, category="uncategorized"
        )
    return root
