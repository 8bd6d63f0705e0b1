"""Which course an archive holds, and its blocks: pointers followed from the root, the rest orphans and drafts."""

import re
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from hashlib import sha256

from ol_openedx.archive.block_types import DRAFTS, FILED, KNOWN, RESERVED_FOLDERS
from ol_openedx.archive.definitions import Element, XmlProblem

PUBLISHED, ORPHAN, DRAFT = "published", "orphan", "draft"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that could not be used: a row of the quarantine table."""

    path: str
    reason: str
    detail: str
    line: int | None = None
    size_bytes: int | None = None


@dataclass(slots=True, eq=False)
class Block:
    """A block of the course.

    Attributes:
        block_type: Tag of the element that names it.
        url_name: Its name; made from its place where it has none.
        attributes: As written.
        parts: For a video, the tag and attributes of its sources, transcripts and assets.
        path: File that defines it, below the course root.
        line: Line of its definition.
        is_inline: Whether it stands inside its parent's file.
        state: `published`, `orphan` or `draft`.
        parent: The block that holds it, None for the root, for orphans and for drafts that nothing holds.
        index: Place in a preorder walk of the published blocks; None otherwise.
        depth: 0 for the root; None for orphans and drafts.
        child_count: Blocks whose parent this is.
    """

    block_type: str
    url_name: str
    attributes: dict[str, str]
    parts: list[tuple[str, dict[str, str]]]
    path: str
    line: int
    is_inline: bool
    state: str
    parent: "Block | None" = None
    index: int | None = None
    depth: int | None = None
    child_count: int = 0


@dataclass(slots=True)
class Source:
    """A block before it has a place: what defines it, and the children it lists."""

    block_type: str
    url_name: str
    attributes: dict[str, str]
    body: Element
    path: str
    is_inline: bool
    body_path: str

    @property
    def key(self) -> tuple[str, str]:
        """What identifies the block among those of one state."""
        return self.block_type, self.url_name


@dataclass(frozen=True, slots=True)
class CourseFiles:
    """What linking needs of the files below the course root, by path.

    Attributes:
        definitions: Root element of each XML file that could be parsed.
        problems: What is wrong with each that could not.
        html_bodies: HTML files in `html/` folders.
    """

    definitions: Mapping[str, Element]
    problems: Mapping[str, XmlProblem]
    html_bodies: AbstractSet[str]

    def has_html(self, filename: str, folder: str | None) -> bool:
        """Whether the body that an html block names is there, `.html` or not in the name."""
        body = f"html/{filename.removesuffix('.html')}.html"
        return body in self.html_bodies or (folder is not None and f"{folder}/{body}" in self.html_bodies)


def definition_path(block_type: str, name: str) -> str:
    """File of a block, below the course root: a colon in the name is a folder."""
    return f"{block_type}/{name.replace(':', '/')}.xml"


@dataclass
class Linker:
    """Places every block once.

    A pointer leads to `TYPE/NAME.xml`; a `filename` attribute, the older form, to `TYPE/FILENAME.xml`. What a pointer
    of a type with files of its own does not find is a finding and no block.

    Attributes:
        files: The course's XML files.
        blocks: The placed blocks, published ones first and in preorder.
        findings: What could not be used.
    """

    files: CourseFiles
    blocks: list[Block] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    _reached: dict[str, str] = field(default_factory=dict)
    _placed: dict[tuple[str, str, str], Block] = field(default_factory=dict)
    _given_names: set[tuple[str, str]] = field(default_factory=set)

    def link(self, root: Source) -> None:
        """Place the published tree below the root, then drafts, then what nothing reaches."""
        self._reached |= dict.fromkeys((root.body_path, root.path), PUBLISHED)
        for path in self.files.definitions:
            self._given_names |= {
                (element.tag, element.attributes.get("url_name", "")) for element in self._elements(path)
            }
        self._walk(root, PUBLISHED)
        drafts = [path for path in sorted(self.files.definitions) if path.startswith(f"{DRAFTS}/")]
        self._walk_files([path for path in drafts if self._is_block_file(path.removeprefix(f"{DRAFTS}/"), path)], DRAFT)
        others = [path for path in sorted(self.files.definitions) if not path.startswith(f"{DRAFTS}/")]
        self._walk_files([p for p in others if p not in self._reached and self._is_block_file(p, p)], ORPHAN)

    def _is_block_file(self, path: str, file: str) -> bool:
        folder, slash, _ = path.partition("/")
        if not slash or folder in RESERVED_FOLDERS:
            return False
        root = self.files.definitions[file]
        if root.tag == folder:
            return True
        if folder not in KNOWN:
            return False
        if root.tag in KNOWN or "url_name" in root.attributes or "xblock-family" in root.attributes:
            return True
        if file not in self._reached:
            self._find(file, "not_a_block", f"<{root.tag}> in a folder of blocks is not a block", root.line)
        return False

    def _walk_files(self, paths: list[str], state: str) -> None:
        """Place the blocks of files that the published tree does not reach; those that no other one names go first."""
        named = {target for path in paths for target in self._pointed_at(path, state)}
        for path in sorted(paths, key=lambda path: (path in named, path)):
            if path in self._reached:
                continue
            self._reached[path] = state
            element = self.files.definitions[path]
            stem = path.removeprefix(f"{DRAFTS}/").partition("/")[2].removesuffix(".xml").replace("/", ":")
            name = element.attributes.get("url_name") or stem
            source = Source(element.tag, name, element.attributes, element, path, is_inline=False, body_path=path)
            if filled := self._with_content(source, state):
                self._walk(filled, state)

    def _elements(self, path: str) -> Iterator[Element]:
        elements = [self.files.definitions[path]]
        while elements:
            element = elements.pop()
            elements.extend(element.children)
            yield element

    def _pointed_at(self, path: str, state: str) -> Iterator[str]:
        for element in self._elements(path):
            if element.is_pointer:
                target = definition_path(element.tag, element.attributes["url_name"])
                if (target := f"{DRAFTS}/{target}" if state == DRAFT else target) != path:
                    yield target

    def _walk(self, first: Source, state: str) -> None:
        if (state, *first.key) in self._placed:
            self._find(first.path, "duplicate_block", f"{first.block_type} {first.url_name!r} is defined before", None)
            return
        stack = [(self._place(first, None, state), iter(first.body.children), first.body_path)]
        open_keys = {first.key}
        while stack:
            block, children, path = stack[-1]
            if (child := next(children, None)) is None:
                open_keys.discard((block.block_type, block.url_name))
                stack.pop()
            elif source := self._resolve(child, path, state, open_keys):
                placed = self._place(source, block, state)
                open_keys.add(source.key)
                stack.append((placed, iter(source.body.children), source.body_path))

    def _place(self, source: Source, parent: Block | None, state: str) -> Block:
        is_published = state == PUBLISHED
        block = Block(
            block_type=source.block_type,
            url_name=source.url_name,
            attributes=source.attributes,
            parts=source.body.parts,
            path=source.path,
            line=source.body.line,
            is_inline=source.is_inline,
            state=state,
            parent=parent,
            index=len(self.blocks) if is_published else None,
            depth=(parent.depth or 0) + 1 if is_published and parent else 0 if is_published else None,
        )
        if parent:
            parent.child_count += 1
        self._placed[state, *source.key] = block
        self.blocks.append(block)
        for line, tag in source.body.strangers:
            self._find(
                source.body_path, "unknown_element", f"<{tag}> in a {block.block_type} is not a known block", line
            )
        return block

    def _resolve(self, element: Element, path: str, state: str, open_keys: set[tuple[str, str]]) -> Source | None:
        """The source of a child, or None where it has a place already or none can be found."""
        attributes = element.attributes
        name = attributes.get("url_name") or attributes.get("slug") or self._made_name(element, path, state)
        if (state, element.tag, name) in self._placed:
            if (element.tag, name) in open_keys:
                self._find(path, "cycle", f"{element.tag} {name!r} is among its own parents", element.line)
            else:
                reason = "several_parents" if element.is_pointer else "duplicate_block"
                self._find(path, reason, f"{element.tag} {name!r} has its place already", element.line)
            return None
        if not element.is_pointer:
            source = Source(element.tag, name, attributes, element, path, is_inline=True, body_path=path)
            return self._with_content(source, state)
        return self._pointed(element, path, name, state)

    def _made_name(self, element: Element, path: str, state: str) -> str:
        """A name for a block without one: that of its display name, as the platform makes it, if no other has it.

        Else one of its place in its file, so that the same archive gives the same names.
        """
        shown = element.attributes.get("name") or element.attributes.get("display_name") or ""
        name = re.sub(r"_+", "_", re.sub(r"[^\w.-]", "_", shown))
        if name and (element.tag, name) not in self._given_names and (state, element.tag, name) not in self._placed:
            return name
        place = sha256(f"{path}\0{element.ordinal}".encode()).hexdigest()
        return f"{element.tag}_{place[:12]}"

    def _pointed(self, element: Element, path: str, name: str, state: str) -> Source | None:
        target = definition_path(element.tag, name)
        file = f"{DRAFTS}/{target}" if state == DRAFT else target
        if file in self.files.definitions and self._reached.get(file, state) == state:
            return self._opened(element.tag, file, name, state)
        if file in self.files.problems or target in self.files.definitions or target in self.files.problems:
            return None  # a finding for its own reason, or a block with its place in the published tree
        if element.tag not in FILED:
            return Source(element.tag, name, element.attributes, element, path, is_inline=True, body_path=path)
        self._find(path, "missing_definition", f"{element.tag} {name!r} points to {target}: no such file", element.line)
        return None

    def _opened(self, block_type: str, file: str, name: str, state: str) -> Source | None:
        root = self.files.definitions[file]
        self._reached[file] = state
        if root.tag != block_type:
            self._find(
                file, "unexpected_root", f"<{root.tag}> where <{block_type}> is expected; read as that", root.line
            )
        source = Source(block_type, name, root.attributes, root, file, is_inline=False, body_path=file)
        return self._with_content(source, state)

    def _with_content(self, source: Source, state: str) -> Source | None:
        """The source with its content taken from the file that a `filename` attribute names, where there is one."""
        filename = source.attributes.get("filename")
        if not filename or not source.body.is_empty or source.block_type not in FILED:
            return source
        if source.block_type == "html" and self.files.has_html(filename, DRAFTS if state == DRAFT else None):
            return source
        for file in _content_paths(source.block_type, filename, state):
            if file != source.path and (content := self.files.definitions.get(file)) is not None:
                self._reached.setdefault(file, state)
                source.attributes = {**content.attributes, **source.attributes}
                source.body, source.body_path = content, file
                return source
            if file in self.files.problems:
                return None
        detail = f"{source.block_type} {source.url_name!r} names the file {filename!r}: no such file"
        self._find(source.path, "missing_definition", detail, source.body.line)
        return source if source.block_type == "html" else None

    def _find(self, path: str, reason: str, detail: str, line: int | None) -> None:
        self.findings.append(Finding(path, reason, detail, line))


def _content_paths(block_type: str, filename: str, state: str) -> list[str]:
    """Where the content that a `filename` attribute names may be, as the platform and its exporters wrote it."""
    name = filename.removesuffix(".xml")
    paths = [
        f"{block_type}/{name}.xml",
        f"{block_type}/{name.partition('-')[0]}/{name}.xml",
        f"{block_type}s/{name}.xml",
    ]
    return [f"{DRAFTS}/{path}" for path in paths] + paths if state == DRAFT else paths
