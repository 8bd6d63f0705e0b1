"""What an archive may ask of its reader, and the error where it asks for more."""

from dataclasses import dataclass

from ol_core.failures import PermanentFailure


class ArchiveError(PermanentFailure):
    """The archive as a whole cannot be read: damaged, unsafe, too large, or without a course in it.

    The message names the archive, the member where there is one, what was found and what is valid.
    """

    def __init__(self, archive: str, problem: str, *, member: str | None = None) -> None:
        where = f"archive {archive!r}" if member is None else f"archive {archive!r}, member {member!r}"
        super().__init__(f"{where}: {problem}")


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Bounds on one archive. Beyond any but the last three the archive is refused with an `ArchiveError`.

    Attributes:
        members: Headers in the tar, folders included.
        member_bytes: Bytes of one member.
        total_bytes: Decompressed bytes of the whole tar.
        ratio: Decompressed over compressed bytes, asked once `ratio_floor_bytes` are decompressed.
        ratio_floor_bytes: Below this no ratio is refused: small tars are mostly padding.
        blocks: Block elements in all XML files together, which is what the reader's memory grows with.
        xml_bytes: Bytes of one XML file; a larger file is quarantined.
        xml_depth: Nesting of elements in one XML file; a deeper file is quarantined.
        policy_bytes: Bytes of all policy files together; the file beyond is quarantined.
    """

    members: int = 200_000
    member_bytes: int = 4 * 1024**3
    total_bytes: int = 16 * 1024**3
    ratio: int = 200
    ratio_floor_bytes: int = 8 * 1024**2
    blocks: int = 500_000
    xml_bytes: int = 16 * 1024**2
    xml_depth: int = 256
    policy_bytes: int = 4 * 1024**2
