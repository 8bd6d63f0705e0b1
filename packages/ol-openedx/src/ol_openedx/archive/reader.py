"""Reads an archive: one pass over it, then linking, then rows. No row leaves before the whole archive is verified."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ol_openedx.archive.course import Linker
from ol_openedx.archive.emission import ArchiveSummary, ContentCount, Emission
from ol_openedx.archive.identity import identify
from ol_openedx.archive.inventory import Inventory
from ol_openedx.archive.limits import ArchiveLimits
from ol_openedx.archive.rows import RowSink
from ol_openedx.archive.scan import Scan, may_define_blocks, names_course
from ol_openedx.archive.tables import ParquetTables
from ol_openedx.course_key import CourseKey

_DEFAULT_LIMITS = ArchiveLimits()


@dataclass(frozen=True, slots=True)
class ArchiveDigest:
    """What identifies an archive's content.

    Attributes:
        content_digest: The same for the same files at the same paths, however the archive was packed.
        olx_course_id: The id that the archive itself gives.
        member_count: Files of the course: regular files below its root, without what was skipped or refused.
        total_bytes: Their bytes.
    """

    content_digest: str
    olx_course_id: str
    member_count: int
    total_bytes: int


def read_archive(
    stream: BinaryIO,
    *,
    name: str,
    write: RowSink,
    course_id: str | None = None,
    limits: ArchiveLimits = _DEFAULT_LIMITS,
) -> ArchiveSummary:
    """Read a course or library export and write the rows of its tables.

    The archive is decompressed once and nothing is extracted. Memory grows with the number of blocks, not with static
    files. What is found depends on the archive alone: the same input gives the same rows.

    Args:
        stream: The tar.gz; need not be seekable.
        name: The archive's name, for errors and the summary.
        write: Called with a table's kind (see `TABLE_KINDS`) and some of its rows; `course_metadata` comes last.
            Never called for an archive that is refused.
        course_id: The id that the LMS uses; where it is not given, the archive's own.
        limits: Bounds on the archive.

    Returns:
        The counts.

    Raises:
        ArchiveError: The archive is damaged, unsafe, beyond a limit, or holds no course.
        InvalidCourseKey: `course_id` is not a course key.
    """
    given = CourseKey.parse(course_id) if course_id is not None else None
    with Inventory() as inventory:
        scan = Scan(name, limits, inventory)
        scan.run(stream, is_wanted=may_define_blocks)
        prefix, files = scan.root()
        identity = identify(files, archive=name)
        linker = Linker(files)
        linker.link(identity.root)
        emission = Emission(scan, prefix, identity, key=given or identity.key, write=write)
        return emission.run(files, linker)


def digest_archive(stream: BinaryIO, *, name: str, limits: ArchiveLimits = _DEFAULT_LIMITS) -> ArchiveDigest:
    """Digest an archive's content, with the checks of `read_archive`; no XML is read but what names the course.

    Raises:
        ArchiveError: As for `read_archive`.
    """
    with Inventory() as inventory:
        scan = Scan(name, limits, inventory)
        scan.run(stream, is_wanted=names_course)
        prefix, files = scan.root()
        identity = identify(files, archive=name)
        content = ContentCount(prefix)
        for entry in inventory:
            content.add(entry)
        return ArchiveDigest(
            content_digest=content.digest.hexdigest(),
            olx_course_id=str(identity.key),
            member_count=content.member_count,
            total_bytes=content.total_bytes,
        )


def write_parquet_tables(
    stream: BinaryIO,
    *,
    name: str,
    out: Path,
    course_id: str | None = None,
    limits: ArchiveLimits = _DEFAULT_LIMITS,
) -> ArchiveSummary:
    """Read an archive into one Parquet file per table, `out/KIND.parquet`, all of them or none.

    Raises:
        ArchiveError: As for `read_archive`; files that were there stay as they were.
    """
    with ParquetTables(out) as tables:
        return read_archive(stream, name=name, write=tables.write, course_id=course_id, limits=limits)
