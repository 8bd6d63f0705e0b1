"""Generated Open edX courses and the archives that Studio would export of them.

A course is a function of (seed, index, size, revision). Every export of it has the same content and different bytes:
gzip and tar times, member order, root prefix and the litter of macOS differ, as they do in real exports.
"""

import gzip
import itertools
import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO
from xml.etree.ElementTree import Element, SubElement

from ol_devkit.generators import olx_blocks
from ol_devkit.generators.olx_blocks import Leaf, pointer, xml_bytes
from ol_devkit.generators.olx_identity import OlxIdentity, olx_identity, stamp
from ol_devkit.generators.olx_policies import supporting_members
from ol_devkit.generators.seeds import Member, Seed
from ol_devkit.generators.vocabulary import title, units_of

LEAVES_PER_UNIT = 4
UNITS_PER_SEQUENTIAL = 3
SEQUENTIALS_PER_CHAPTER = 2
UNITS_PER_DRAFT = 12
EXPORT_EPOCH = 1_756_684_800  # 2025-09-01T00:00:00Z, when the first export was made


@dataclass(frozen=True, slots=True)
class OlxTruth:
    """What a reader of the archive must find.

    Attributes:
        published: `type@url_name` of every block that the course reaches, in preorder from the course itself.
        orphans: The blocks in files that nothing points to, and those in them.
        drafts: The blocks below `drafts/`.
        videos: Published video blocks.
        video_seconds: Their known durations, added up.
        static_files: Files below `static/`.
        static_bytes: Their sizes, added up.
    """

    published: tuple[str, ...]
    orphans: frozenset[str]
    drafts: frozenset[str]
    videos: int
    video_seconds: float
    static_files: int
    static_bytes: int

    @property
    def published_by_type(self) -> Mapping[str, int]:
        """How many published blocks there are of each type."""
        return Counter(block.split("@", 1)[0] for block in self.published)


@dataclass(frozen=True, slots=True)
class OlxExport:
    """How one export of a course differs from the others in bytes.

    Attributes:
        number: Sets times and member order.
        root: The folder that everything is in.
        dot_slash: Names begin with `./`.
        litter: The first member is `._{root}`, and `.DS_Store` files stand about.
        folders: There are members for folders.
    """

    number: int = 0
    root: str = "course"
    dot_slash: bool = False
    litter: bool = False
    folders: bool = True

    @classmethod
    def nth(cls, number: int) -> "OlxExport":
        """The export that `number` leads to: all the shapes come up in turn."""
        return cls(number, dot_slash=number % 3 == 1, litter=number % 4 in (2, 3), folders=number % 2 == 0)


@dataclass(frozen=True)
class OlxCourse:
    """A generated course run; `members` are its files below the root folder of the archive."""

    identity: OlxIdentity
    members: tuple[Member, ...]
    truth: OlxTruth

    @property
    def course_id(self) -> str:
        """`course-v1:ORG+COURSE+RUN`."""
        return self.identity.course_id

    @cached_property
    def folders(self) -> tuple[str, ...]:
        """The folders below the root, parents first."""
        parents = {"/".join(parts[:depth]) for parts in self._parts() for depth in range(1, len(parts))}
        return tuple(sorted(parents))

    def _parts(self) -> Iterator[list[str]]:
        return (member.path.split("/") for member in self.members)

    def write(self, stream: BinaryIO, export: OlxExport | None = None) -> None:
        """Write one export (a .tar.gz) to `stream`, in constant memory."""
        export = export or OlxExport()
        seed = Seed.of(f"export/{self.course_id}/{export.number}")
        prefix = ("./" if export.dot_slash else "") + export.root
        exported_at = EXPORT_EPOCH + export.number * 86_400 + seed.integer("second", 0, 86_399)
        with (
            gzip.GzipFile(filename="", fileobj=stream, mode="wb", mtime=exported_at, compresslevel=1) as zipped,
            tarfile.open(fileobj=zipped, mode="w|") as archive,
        ):
            if export.litter:
                _add(archive, Member(f"._{export.root}", b"\0\5\26\7"), exported_at)
                _add(archive, Member(f"{prefix}/.DS_Store", b"\0\0\0\1Bud1"), exported_at)
            if export.folders:
                for folder in ("", *self.folders):
                    info = tarfile.TarInfo(f"{prefix}/{folder}".rstrip("/"))
                    info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, exported_at
                    archive.addfile(info)
            for member in seed.shuffled("order", self.members):
                mtime = exported_at - seed.integer(member.path, 0, 3_600)
                _add(archive, Member(f"{prefix}/{member.path}", member.content), mtime)


def _add(archive: tarfile.TarFile, member: Member, mtime: int) -> None:
    info = tarfile.TarInfo(member.path)
    info.size, info.mtime = member.size_bytes, mtime
    with member.open() as content:
        archive.addfile(info, content)


def generate_olx_course(
    seed: int | str, index: int, size: str | int = "small", *, revision: int = 0, files_revision: int = 0
) -> OlxCourse:
    """Generate a course run.

    Args:
        seed: Two courses of one seed and index are equal.
        index: Number of the course; it is part of the course number, so ids differ between indexes.
        size: `small`, `medium`, `large`, or a number of units.
        revision: Each revision changes a text and adds a block; ids of everything else stay.
        files_revision: Each one adds a file below `static/`.

    Raises:
        ValueError: `size` is unknown.
    """
    identity = olx_identity(seed, index)
    place = Seed.of(seed).child("olx", index, "content")
    assembly = _Assembly(place, units_of(size), revision)
    members = (
        *assembly.course(identity),
        *assembly.unreachable(),
        *supporting_members(place, identity, units_of(size), revision=revision, files_revision=files_revision),
    )
    static = [member for member in members if member.path.startswith("static/")]
    truth = OlxTruth(
        published=tuple(assembly.published),
        orphans=frozenset(assembly.orphans),
        drafts=frozenset(assembly.drafts),
        videos=sum(block.startswith("video@") for block in assembly.published),
        video_seconds=round(assembly.video_seconds, 1),
        static_files=len(static),
        static_bytes=sum(member.size_bytes for member in static),
    )
    return OlxCourse(identity, members, truth)


class _Assembly:
    """The tree of one course while it is put together."""

    def __init__(self, seed: Seed, units: int, revision: int) -> None:
        self.seed = seed
        self.units = units
        self.revision = revision
        self.published: list[str] = []
        self.orphans: list[str] = []
        self.drafts: list[str] = []
        self.video_seconds = 0.0
        self._draft_targets: list[tuple[str, Leaf]] = []

    def course(self, identity: OlxIdentity) -> Iterator[Member]:
        """The files of everything that the course reaches."""
        run = identity.run
        self.published.append(f"course@{run}")
        root = Element("course", {"url_name": run, "org": identity.org, "course": identity.course})
        yield Member("course.xml", xml_bytes(root))
        element = Element("course", _course_attributes(identity))
        per_chapter = UNITS_PER_SEQUENTIAL * SEQUENTIALS_PER_CHAPTER
        for number, first in enumerate(range(0, self.units, per_chapter)):
            units = range(first, min(first + per_chapter, self.units))
            url_name = self.seed.hex(f"chapter/{number}")
            element.append(pointer("chapter", url_name))
            yield from self._chapter(url_name, number, units)
        SubElement(element, "wiki", {"slug": f"{identity.org}.{identity.course}.{run}"})
        yield Member(f"course/{run}.xml", xml_bytes(element))

    def _chapter(self, url_name: str, number: int, units: range) -> Iterator[Member]:
        self.published.append(f"chapter@{url_name}")
        element = Element("chapter", {"display_name": title(self.seed.child(url_name), number)})
        for first in units[::UNITS_PER_SEQUENTIAL]:
            sequential = self.seed.hex(f"sequential/{first}")
            element.append(pointer("sequential", sequential))
            yield from self._sequential(sequential, range(first, min(first + UNITS_PER_SEQUENTIAL, units.stop)))
        yield Member(f"chapter/{url_name}.xml", xml_bytes(element))

    def _sequential(self, url_name: str, units: range) -> Iterator[Member]:
        self.published.append(f"sequential@{url_name}")
        place = self.seed.child(url_name)
        element = Element("sequential", {"display_name": title(place, units.start)})
        if place.integer("graded", 0, 1):
            due = f"2030-0{place.integer('month', 1, 9)}-15T23:30:00+00:00"
            element.attrib.update({"format": "Homework", "graded": "true", "due": json.dumps(due)})
        for unit in units:
            vertical = self.seed.hex(f"vertical/{unit}")
            element.append(pointer("vertical", vertical))
            yield from self._vertical(vertical, unit)
        yield Member(f"sequential/{url_name}.xml", xml_bytes(element))

    def _vertical(self, url_name: str, unit: int) -> Iterator[Member]:
        place = self.seed.child("vertical", unit)
        first = unit * LEAVES_PER_UNIT
        builders = itertools.islice(itertools.cycle(olx_blocks.LEAVES), first % len(olx_blocks.LEAVES), None)
        leaves = [build(place.child(number)) for number, build in zip(range(LEAVES_PER_UNIT), builders, strict=False)]
        if unit == self.units - 1 and self.revision:
            leaves += [olx_blocks.html(place.child("revision", n + 1)) for n in range(self.revision)]
        element = Element("vertical", {"display_name": title(place, unit)})
        self.published.append(f"vertical@{url_name}")
        for leaf in leaves:
            element.append(leaf.node)
            self.published.extend(leaf.blocks)
            self.video_seconds += leaf.video_seconds
            yield from leaf.members
        if unit % UNITS_PER_DRAFT == 0:
            self._draft_targets.append((url_name, leaves[0]))
        yield Member(f"vertical/{url_name}.xml", xml_bytes(element))

    def unreachable(self) -> Iterator[Member]:
        """The files of orphans and drafts, some for every dozen units."""
        for number, (vertical, leaf) in enumerate(self._draft_targets):
            place = self.seed.child("unreachable", number)
            for orphan in (olx_blocks.problem(place.child("problem")), olx_blocks.video(place.child("video"))):
                self.orphans.extend(orphan.blocks)
                yield from orphan.members
            yield from self._loose_vertical(place.child("orphan"), "", self.orphans)
            yield from self._loose_vertical(place.child("draft"), "drafts/", self.drafts)
            # An edited unit of the published course: the same names again, below drafts/.
            self.drafts.extend((f"vertical@{vertical}", *leaf.blocks))
            element = Element("vertical", {"display_name": "Edited", **_draft_attributes(place)})
            element.append(leaf.node)
            yield Member(f"drafts/vertical/{vertical}.xml", xml_bytes(element))
            for member in leaf.members:
                if not member.path.startswith("static/"):
                    yield Member(f"drafts/{member.path}", member.content)

    def _loose_vertical(self, place: Seed, folder: str, blocks: list[str]) -> Iterator[Member]:
        url_name = place.hex("vertical")
        element = Element("vertical", {"display_name": title(place, 0)})
        if folder:
            element.attrib.update(_draft_attributes(place))
        leaves = [olx_blocks.html(place.child("html"), folder), olx_blocks.inline("poll")(place.child("poll"))]
        blocks.append(f"vertical@{url_name}")
        for leaf in leaves:
            element.append(leaf.node)
            blocks.extend(leaf.blocks)
            yield from leaf.members
        yield Member(f"{folder}vertical/{url_name}.xml", xml_bytes(element))


def _draft_attributes(place: Seed) -> dict[str, str]:
    parent = f"block-v1:X+Y+Z+type@sequential+block@{place.hex('parent')}"
    return {"parent_url": parent, "index_in_children_list": "0"}


def _course_attributes(identity: OlxIdentity) -> dict[str, str]:
    # Studio writes some values as they are and others as JSON, quotes included.
    return {
        "display_name": identity.display_name,
        "language": "en",
        "start": stamp(identity.start),
        "end": stamp(identity.end),
        "enrollment_start": json.dumps(stamp(identity.enrollment_start)),
        "enrollment_end": json.dumps(stamp(identity.enrollment_end)),
        "self_paced": str(identity.self_paced).lower(),
        "course_image": "course_image.png",
        "advanced_modules": json.dumps(["poll", "edx_sga", "lti_consumer", "drag-and-drop-v2"]),
    }
