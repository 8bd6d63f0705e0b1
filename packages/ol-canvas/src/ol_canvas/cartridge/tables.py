"""The tables that cartridges become. Columns are the fields of the records, in their order."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS: dict[str, tuple[tuple[str, str, bool], ...]] = {  # kind -> (column, Arrow type, nullable)
    "course_items": (
        ("course_id", "string", False),
        ("item_id", "string", False),
        ("item_type", "string", False),
        ("title", "string", True),
        ("path", "string", True),
        ("workflow_state", "string", True),
        ("module_id", "string", True),
        ("module_title", "string", True),
        ("module_position", "int64", True),
        ("position", "int64", True),
        ("size_bytes", "int64", True),
    ),
    "course_files": (
        ("course_id", "string", False),
        ("path", "string", False),
        ("size_bytes", "int64", False),
        ("crc32", "string", False),
        ("content_type", "string", True),
    ),
    "course_quarantine": (
        ("course_id", "string", False),
        ("path", "string", False),
        ("line", "int64", True),
        ("reason", "string", False),
        ("detail", "string", False),
        ("size_bytes", "int64", True),
    ),
}

TABLE_KINDS: tuple[str, ...] = tuple(_COLUMNS)


def table_schema(kind: str) -> "pa.Schema":
    """The Arrow schema of one table.

    Args:
        kind: One of `TABLE_KINDS`.

    Raises:
        KeyError: `kind` is none of `TABLE_KINDS`.
    """
    import pyarrow as pa

    return pa.schema(
        [pa.field(name, pa.type_for_alias(type_), nullable=nullable) for name, type_, nullable in _COLUMNS[kind]]
    )
