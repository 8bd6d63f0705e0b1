"""What a cartridge is read into, and what may go wrong with it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from ol_core.failures import PermanentFailure

_MIB = 1024 * 1024
_GIB = 1024 * _MIB


@dataclass(frozen=True, slots=True)
class CartridgeLimits:
    """How much one cartridge may ask of the machine that reads it.

    Attributes:
        members: Entries of the zip, folders included.
        member_bytes: Uncompressed bytes of one member.
        total_bytes: Uncompressed bytes of all members together.
        ratio: Uncompressed bytes for each compressed one, over the whole cartridge (not asked below 1 MiB).
        name_length: Characters of a member's name.
        xml_bytes: Bytes of an XML file that is parsed.
        xml_depth: Levels of elements in an XML file that is parsed.
    """

    members: int = 100_000
    member_bytes: int = 16 * _GIB
    total_bytes: int = 64 * _GIB
    ratio: float = 200.0
    name_length: int = 1024
    xml_bytes: int = 64 * _MIB
    xml_depth: int = 100


class CartridgeError(PermanentFailure):
    """A cartridge as a whole cannot be read. The message names the cartridge and, where one is to blame, the member."""

    def __init__(self, cartridge: str, problem: str, *, member: str | None = None) -> None:
        where = f"cartridge {cartridge!r}" + (f", member {member!r}" if member is not None else "")
        super().__init__(f"{where}: {problem}")
        self.cartridge = cartridge
        self.member = member


@dataclass(frozen=True, slots=True)
class CartridgeItem:
    """One item of content (grain: course_id, item_id). Counted once, however many modules name it.

    Attributes:
        item_id: Identifier in the manifest or in Canvas's settings; a path where neither names the item.
        item_type: module, page, assignment, quiz, discussion, announcement, weblink, lti, file, syllabus,
            question_bank, subheader or other.
        path: The item's main file in the cartridge; None for what has none (a module, a subheader).
        workflow_state: As its own settings say (quizzes: published or unpublished; files: hidden or locked), else as
            the module that names it says.
        module_id: The first module that names the item; for a module its own identifier.
        position: In the module, counted from 1.
        size_bytes: Of the main file.
    """

    course_id: str
    item_id: str
    item_type: str
    title: str | None = None
    path: str | None = None
    workflow_state: str | None = None
    module_id: str | None = None
    module_title: str | None = None
    module_position: int | None = None
    position: int | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class CartridgeFile:
    """One file of the course (grain: course_id, path).

    Attributes:
        path: In the zip.
        size_bytes: Uncompressed.
        crc32: CRC-32 of its bytes, 8 hexadecimal digits.
        content_type: By the name's ending; None where that says nothing.
    """

    course_id: str
    path: str
    size_bytes: int
    crc32: str
    content_type: str | None


@dataclass(frozen=True, slots=True)
class QuarantineEntry:
    """What could not be used, where and why. `reason` is a slug, `detail` is for people."""

    course_id: str
    path: str
    line: int | None
    reason: str
    detail: str
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class Cartridge:
    """What one cartridge holds.

    Attributes:
        name: As given to `read_cartridge`.
        title: Of the course, from the manifest, else from Canvas's course settings.
        schema_version: Of Common Cartridge, for example `1.1.0`.
        content_digest: SHA-256 (hexadecimal) of the content; the same after a re-export without a change.
        items_by_type: Items of each type that occurs.
        file_bytes: Uncompressed bytes of `files`.
        member_count: Entries of the zip that are not folders, quarantined ones included.
    """

    name: str
    title: str | None
    schema_version: str | None
    content_digest: str
    items_by_type: Mapping[str, int]
    file_count: int
    file_bytes: int
    member_count: int
    quarantined_count: int
    items: tuple[CartridgeItem, ...]
    files: tuple[CartridgeFile, ...]
    quarantine: tuple[QuarantineEntry, ...]

    def rows(self, kind: str) -> list[dict[str, object]]:
        """The rows of one table.

        Args:
            kind: One of `TABLE_KINDS`.

        Returns:
            Rows whose keys are the columns of `table_schema(kind)`, in its order.

        Raises:
            KeyError: `kind` is none of `TABLE_KINDS`.
        """
        records: Mapping[str, tuple[CartridgeItem | CartridgeFile | QuarantineEntry, ...]] = {
            "course_items": self.items,
            "course_files": self.files,
            "course_quarantine": self.quarantine,
        }
        return [{field.name: getattr(record, field.name) for field in fields(record)} for record in records[kind]]
