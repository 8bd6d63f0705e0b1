"""Packs trees of OLX as tar.gz archives, whole ones and broken ones, and reads them."""

import gzip
import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ol_openedx.archive import ArchiveLimits, ArchiveSummary, read_archive

Tree = dict[str, str | bytes]


def small_course() -> Tree:
    """A course with one of each common thing: pointers, inline blocks, static files, a policy.

    Published blocks: course, chapter, sequential, vertical, problem, html, video, discussion.
    """
    return {
        "course.xml": '<course url_name="R1" org="Org" course="C1"/>',
        "course/R1.xml": '<course display_name="Physics"><chapter url_name="ch"/><wiki slug="Org.C1.R1"/></course>',
        "chapter/ch.xml": '<chapter display_name="Week 1"><sequential url_name="seq"/></chapter>',
        "sequential/seq.xml": '<sequential display_name="Lesson"><vertical url_name="unit"/></sequential>',
        "vertical/unit.xml": """
            <vertical display_name="Unit">
              <problem url_name="prob"/>
              <html url_name="page"/>
              <video url_name="clip"/>
              <discussion url_name="talk" xblock-family="xblock.v1" discussion_category="Week 1"/>
            </vertical>""",
        "problem/prob.xml": '<problem display_name="Sum"><p>1 + 1</p><video url_name="not_a_block"/></problem>',
        "html/page.xml": '<html filename="page" display_name="Page"/>',
        "html/page.html": "<p>Hello<br>unclosed",
        "video/clip.xml": '<video url_name="clip" display_name="Clip" youtube_id_1_0="abc"/>',
        "policies/R1/policy.json": '{"course/R1": {"start": "2030-01-01T00:00:00Z"}}',
        "policies/R1/grading_policy.json": '{"GRADER": [], "GRADE_CUTOFFS": {"Pass": 0.5}}',
        "policies/assets.json": "{}",
        "about/overview.html": "<h2>About</h2>",
        "static/images/logo.png": b"\x89PNG",
        "static/notes.txt": "notes",
    }


SMALL_COURSE_BLOCKS = dict.fromkeys(
    ["chapter", "course", "discussion", "html", "problem", "sequential", "vertical", "video"], 1
)


def pack(
    tree: Mapping[str, str | bytes],
    *,
    root: str = "course/",
    folders: bool = False,
    mtime: int = 0,
    owner: str = "",
    more: Sequence[tuple[tarfile.TarInfo, bytes]] = (),
) -> bytes:
    """Pack a tree in its order; `root` stands before every name; `more` are members as they are."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=mtime) as compressed:
        compressed.write(pack_tar(tree, root=root, folders=folders, mtime=mtime, owner=owner, more=more))
    return buffer.getvalue()


def pack_tar(
    tree: Mapping[str, str | bytes],
    *,
    root: str = "course/",
    folders: bool = False,
    mtime: int = 0,
    owner: str = "",
    more: Sequence[tuple[tarfile.TarInfo, bytes]] = (),
) -> bytes:
    """The tar of `pack`, uncompressed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        members = [(member(f"{root}{path}"), _bytes(content)) for path, content in tree.items()]
        if folders:
            names = dict.fromkeys(path.name.rpartition("/")[0] for path, _ in members)
            members = [*((member(name, tarfile.DIRTYPE), b"") for name in names if name), *members]
        for header, content in [*members, *more]:
            header.mtime, header.uname = mtime, owner
            header.size = header.size or len(content)
            tar.addfile(header, io.BytesIO(content))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, *, linkname: str = "") -> tarfile.TarInfo:
    """A tar header."""
    header = tarfile.TarInfo(name)
    header.type, header.linkname = kind, linkname
    return header


@dataclass
class Reading:
    """What an archive was read into."""

    summary: ArchiveSummary
    rows: dict[str, list[dict[str, object]]] = field(default_factory=dict)

    def blocks(self, state: str = "published") -> list[dict[str, object]]:
        """Rows of blocks in one state."""
        return [row for row in self.rows["course_blocks"] if row["state"] == state]

    def names(self, state: str = "published") -> list[str]:
        """`type/url_name` of the blocks in one state."""
        return [f"{row['block_type']}/{row['url_name']}" for row in self.blocks(state)]

    def block(self, url_name: str, state: str = "published") -> dict[str, object]:
        """The row of one block."""
        (row,) = [row for row in self.blocks(state) if row["url_name"] == url_name]
        return row

    def video(self, url_name: str) -> dict[str, object]:
        """The row of one video."""
        (row,) = [row for row in self.rows["course_video"] if row["url_name"] == url_name]
        return row

    @property
    def metadata(self) -> dict[str, object]:
        """The row of the course."""
        (row,) = self.rows["course_metadata"]
        return row

    @property
    def quarantine(self) -> list[tuple[object, object]]:
        """Path and reason of what could not be used."""
        return [(row["path"], row["reason"]) for row in self.rows.get("course_quarantine", [])]


def read(
    archive: bytes | Mapping[str, str | bytes], *, course_id: str | None = None, limits: ArchiveLimits | None = None
) -> Reading:
    """Read an archive, or a tree that is packed first."""
    data = archive if isinstance(archive, bytes) else pack(archive)
    rows: dict[str, list[dict[str, object]]] = {}

    def write(kind: str, some: list[dict[str, object]]) -> None:
        rows.setdefault(kind, []).extend(some)

    summary = read_archive(
        io.BytesIO(data), name="course.tar.gz", write=write, course_id=course_id, limits=limits or ArchiveLimits()
    )
    return Reading(summary, rows)


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content
