"""From resources and modules to items: what each one is, what belongs to it, and where it stands."""

import posixpath
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace

from ol_canvas.cartridge.manifest import MANIFEST, SETTINGS, SYLLABUS, FileMeta, Module, ModuleItem, Resource
from ol_canvas.cartridge.members import Quarantine
from ol_canvas.cartridge.parsing import Facts
from ol_canvas.cartridge.records import CartridgeItem

QUIZZES = "non_cc_assessments/"
_PAGES = "wiki_content/"
_LEARNING_APPLICATION = "associatedcontent/imscc_xmlv1p1/learning-application-resource"

# The type of a resource begins with one of these; its end names the version of Common Cartridge.
_RESOURCE_TYPES = {
    "imsdt_": "discussion",
    "imswl_": "weblink",
    "imsbasiclti_": "lti",
    "imslti_": "lti",
    "assignment_": "assignment",
    "imsqti_": "quiz",
}
_ROOTS = {"objectbank": "question_bank", "assessment": "quiz", "quiz": "quiz", "assignment": "assignment"}
# What a module may hold without a resource: Canvas's content_type -> item type.
_PLACED_TYPES = {
    "ContextModuleSubHeader": "subheader",
    "ExternalUrl": "weblink",
    "ContextExternalTool": "lti",
    "Lti::MessageHandler": "lti",
}


def assign_files(
    resources: list[Resource], paths: Collection[str], facts: Mapping[str, Facts]
) -> tuple[list[Resource], frozenset[str]]:
    """Settles which resource each file of the cartridge belongs to.

    Fallbacks and settings join the resource they serve; files that no resource names join the resource whose folder
    they lie in, or become a resource of their own.

    Returns:
        The resources that stand for themselves, and the identifiers of those whose files are all missing.
    """
    by_id = {resource.identifier: resource for resource in reversed(resources)}
    named = {path for resource in resources for path in resource.files}
    absent = {id(resource) for resource in resources if resource.missing and not resource.files}
    served: set[int] = set()
    for resource in resources:
        owner = by_id.get(resource.variant_of or "")
        if owner is not None and owner is not resource:
            owner.files += resource.files
            served.add(id(resource))
        for identifier in resource.dependencies:
            settings = by_id.get(identifier)
            if settings is not None and _serves(settings, resource, facts):
                resource.files += settings.files
                served.add(id(settings))
    added: list[Resource] = []
    if SYLLABUS in paths and not any(resource.files[:1] == [SYLLABUS] for resource in resources):
        added.append(Resource(SYLLABUS, _LEARNING_APPLICATION, files=[SYLLABUS]))
    for path in sorted(paths):
        if path not in named and path != MANIFEST and not path.startswith(SETTINGS):
            owner = by_id.get(owner_name(path))
            if owner is not None:
                owner.files.append(path)
            else:
                added.append(_unnamed(path))
    standing = [resource for resource in resources if not {id(resource)} & (served | absent)]
    return standing + added, frozenset(resource.identifier for resource in resources if id(resource) in absent)


def _serves(settings: Resource, resource: Resource, facts: Mapping[str, Facts]) -> bool:
    is_bank = any(facts[path].root == "objectbank" for path in settings.files if path in facts)
    return settings.is_associated and not resource.is_associated and not is_bank


def owner_name(path: str) -> str:
    """The identifier of the resource to which a file belongs by its place; empty where the place tells nothing."""
    folder, _, name = path.partition("/")
    return name.partition(".")[0] if path.startswith(QUIZZES) else folder if name else ""


def _unnamed(path: str) -> Resource:
    if path.startswith(QUIZZES) and path.endswith(".qti"):
        return Resource(posixpath.basename(path).partition(".")[0], _LEARNING_APPLICATION, files=[path])
    return Resource(path, "webcontent", files=[path])


def item_type_of(resource: Resource, facts: Mapping[str, Facts]) -> str | None:
    """The item type of a resource; None for Canvas's settings, which are not content."""
    main = resource.files[0] if resource.files else ""
    if main == SYLLABUS or (resource.is_webcontent and resource.intended_use == "syllabus"):
        return "syllabus"
    if main.startswith(SETTINGS):
        return None
    if resource.is_webcontent:
        return "page" if main.startswith(_PAGES) and main.endswith((".html", ".htm")) else "file"
    known = [facts[path] for path in resource.files if path in facts]
    if resource.is_associated:
        return next((_ROOTS[fact.root] for fact in known if fact.root in _ROOTS), _type_by_name(resource))
    return _type_by_standard(resource.type, known)


def _type_by_standard(resource_type: str, known: list[Facts]) -> str:
    if resource_type.endswith("/question-bank"):
        return "question_bank"
    item_type = next((kind for start, kind in _RESOURCE_TYPES.items() if resource_type.startswith(start)), "other")
    announced = item_type == "discussion" and any(fact.topic_type == "announcement" for fact in known)
    return "announcement" if announced else item_type


def _type_by_name(resource: Resource) -> str:
    # Reached when the settings themselves could not be parsed.
    names = {posixpath.basename(path) for path in resource.files}
    if "assignment_settings.xml" in names:
        return "assignment"
    return "quiz" if "assessment_meta.xml" in names else "other"


class ItemBuilder:
    """Builds the items of one cartridge.

    Attributes:
        items: item_id -> item.
        outline: What the modules hold, without identifiers: the part of the digest that no file's bytes show.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        facts: Mapping[str, Facts],
        files_meta: Mapping[str, FileMeta],
        quarantine: Quarantine,
    ) -> None:
        self._sizes, self._facts, self._files_meta, self._quarantine = sizes, facts, files_meta, quarantine
        self.items: dict[str, CartridgeItem] = {}
        self.outline: list[object] = []
        self._by_path: dict[str, str] = {}
        self._by_name: dict[str, str] = {}

    def add_resource(self, resource: Resource) -> None:
        """Adds the item that a resource is; a second resource with the same main file is the same item."""
        item_type = item_type_of(resource, self._facts)
        if item_type is None:
            return
        if not resource.files:
            detail = f"the manifest's resource {resource.identifier!r} ({resource.type}) names no file"
            self._quarantine.add(resource.identifier, "resource_without_file", detail)
            return
        path = resource.files[0]
        item_id = self._by_path.get(path)
        if item_id is None:
            free = resource.identifier and resource.identifier not in self.items
            item_id = resource.identifier if free else path
            title, state = self._own_title_and_state(resource, item_type)
            self.items[item_id] = CartridgeItem(
                self._quarantine.course_id,
                item_id,
                item_type,
                title=title,
                path=path,
                workflow_state=state,
                size_bytes=self._sizes[path],
            )
            self._by_path[path] = item_id
        self._by_name.setdefault(resource.identifier, item_id)
        for fact in (self._facts[path] for path in resource.files if path in self._facts):
            if fact.lookup_uuid:
                self._by_name.setdefault(fact.lookup_uuid, item_id)

    def _own_title_and_state(self, resource: Resource, item_type: str) -> tuple[str | None, str | None]:
        meta = self._files_meta.get(resource.identifier)
        files = resource.files[:1] if item_type == "syllabus" else resource.files
        if item_type == "file" and meta is not None and (meta.display_name or meta.workflow_state):
            return meta.display_name, meta.workflow_state
        # Settings before pages: a page's title is decorated ("Assignment: ..."). Beside a syllabus lie other settings.
        paths = sorted(path for path in files if path in self._facts)
        known = sorted((self._facts[path] for path in paths), key=lambda fact: fact.root == "html")
        title = next((fact.title for fact in known if fact.title), None)
        available = next((fact.available for fact in known if fact.available), None)
        if item_type == "quiz" and available is not None:
            return title, "published" if available == "true" else "unpublished"
        states = [fact.workflow_state for fact in known] + [fact.nested_state for fact in known]
        return title, next((state for state in states if state), None)

    def add_module(self, module: Module, absent: AbstractSet[str]) -> None:
        """Adds a module and places what it holds.

        Args:
            module: The module; without an identifier and a title it stands for places outside every module.
            absent: Identifiers of resources that are already in quarantine because their files are missing.
        """
        if not module.identifier and module.title is None:
            module_id = None
        else:
            module_id = self._free_id(module.identifier or f"module {module.position}")
            self.items[module_id] = CartridgeItem(
                self._quarantine.course_id,
                module_id,
                "module",
                title=module.title,
                workflow_state=module.workflow_state,
                module_id=module_id,
                module_title=module.title,
                module_position=module.position,
            )
        places = [self._place(place, module, module_id, absent) for place in module.items]
        self.outline.append([module.position, module.title, module.workflow_state, places])

    def _place(
        self, place: ModuleItem, module: Module, module_id: str | None, absent: AbstractSet[str]
    ) -> list[object]:
        item_id = next((self._by_name[name] for name in place.references if name in self._by_name), None)
        known = None if item_id is None else self.items[item_id]
        kind = _PLACED_TYPES.get(place.content_type or "")
        if place.content_type is None and not place.references:
            kind = "subheader"
        if known is not None and known.module_id is not None and kind == "lti":
            known = None  # one tool, several links to it: each link is an item
        if known is None and kind is not None:
            item_id = self._free_id(place.identifier or f"{module_id} {place.position}")
            known = CartridgeItem(self._quarantine.course_id, item_id, kind)
        if known is None:
            self._refuse(place, module, absent)
        elif known.module_id is None:
            self.items[known.item_id] = replace(
                known,
                title=known.title or place.title,
                workflow_state=known.workflow_state or place.workflow_state,
                module_id=module_id,
                module_title=module.title,
                module_position=None if module_id is None else module.position,
                position=None if module_id is None else place.position,
            )
        what = (kind or place.content_type, None) if known is None else (known.item_type, known.path)
        return [place.position, place.title, place.workflow_state, *what, place.url, place.indent]

    def _refuse(self, place: ModuleItem, module: Module, absent: AbstractSet[str]) -> None:
        if not absent & set(place.references):
            name = place.references[0] if place.references else place.identifier
            detail = f"module {module.title!r} names {place.title!r}, which no resource of the manifest is"
            self._quarantine.add(name, "missing_resource", detail)

    def _free_id(self, wanted: str) -> str:
        number, free = 1, wanted
        while free in self.items:
            number += 1
            free = f"{wanted} ({number})"
        return free

    def finished(self) -> tuple[CartridgeItem, ...]:
        """All items: module by module, then those outside modules; in an order that no re-export changes."""
        titled = (
            replace(item, title=posixpath.basename(item.path)) if item.title is None and item.path else item
            for item in self.items.values()
        )
        return tuple(sorted(titled, key=_order))


def _order(item: CartridgeItem) -> tuple[bool, int, int, str, str, str]:
    return (
        item.module_id is None,
        item.module_position or 0,
        -1 if item.item_type == "module" else item.position or 0,
        item.item_type,
        item.path or "",
        item.item_id,
    )
