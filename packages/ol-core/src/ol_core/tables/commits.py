"""What a table is declared to be, and what a commit left behind."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from ol_core.environment import RAW_NAMESPACE

if TYPE_CHECKING:
    from pyiceberg.table import Table

PARTITION_COLUMN = "course_id"

_KEPT = "history.expire.min-snapshots-to-keep"
_AGE = "history.expire.max-snapshot-age-ms"
_FILES = "ol.compact-above-files"
_ORPHANS = "ol.orphan-age-hours"


@dataclass(frozen=True, slots=True)
class TablePolicy:
    """How a table is maintained; it stands in the table's own properties, which other engines read too.

    Attributes:
        snapshots_kept: Snapshots that are never expired, whatever their age.
        snapshot_age_hours: Age from which the others are.
        compact_above_files: A partition of more data files is rewritten into as few as it takes.
        orphan_age_hours: Age from which a file that no snapshot needs is removed; longer than any write takes.
    """

    snapshots_kept: int = 5
    snapshot_age_hours: int = 7 * 24
    compact_above_files: int = 4
    orphan_age_hours: int = 3 * 24

    @property
    def properties(self) -> dict[str, str]:
        """The policy, and how commits behave, as properties of an Iceberg table."""
        return {
            _KEPT: str(self.snapshots_kept),
            _AGE: str(self.snapshot_age_hours * 3_600_000),
            _FILES: str(self.compact_above_files),
            _ORPHANS: str(self.orphan_age_hours),
            "commit.manifest-merge.enabled": "true",
            "commit.retry.num-retries": "20",
            "commit.retry.max-wait-ms": "2000",
        }

    @classmethod
    def of(cls, properties: Mapping[str, str]) -> "TablePolicy":
        """Read the policy of a table; what it does not state is the default."""
        default = cls().properties
        stated = {name: int(properties.get(name, default[name])) for name in (_KEPT, _AGE, _FILES, _ORPHANS)}
        return cls(stated[_KEPT], stated[_AGE] // 3_600_000, stated[_FILES], stated[_ORPHANS])


DEFAULT_POLICY = TablePolicy()


@dataclass(frozen=True, slots=True)
class TableCommit:
    """What a commit left behind.

    Attributes:
        table: Name of the table, without the namespace.
        rows: Rows handed over.
        changed_partitions: Partitions whose rows were replaced; the others held just these rows already.
        total_rows: Rows of the table after it.
        total_bytes: Bytes of the table's data files after it.
        snapshot_id: The committed snapshot; None for a table that never held a row.
        columns: (name, type, description) of each column.
    """

    table: str
    rows: int
    changed_partitions: int
    total_rows: int
    total_bytes: int
    snapshot_id: int | None
    columns: tuple[tuple[str, str, str | None], ...]

    @property
    def unchanged(self) -> bool:
        """Whether the table held all of it already, so that nothing was committed."""
        return self.changed_partitions == 0

    @property
    def metadata(self) -> dict[str, dg.MetadataValue | dg.TableSchema | str | int | bool]:
        """What Dagster shows of the commit."""
        columns = [dg.TableColumn(name, kind, description) for name, kind, description in self.columns]
        return {
            "dagster/table_name": f"{RAW_NAMESPACE}.{self.table}",
            "dagster/row_count": self.total_rows,
            "dagster/column_schema": dg.TableSchema(columns),
            "rows_written": 0 if self.unchanged else self.rows,
            "unchanged": self.unchanged,
            "size_bytes": self.total_bytes,
            "snapshot_id": str(self.snapshot_id),
        }

    @classmethod
    def of(cls, name: str, table: "Table", *, rows: int, changed_partitions: int) -> "TableCommit":
        """Describe a table as it is now."""
        snapshot = table.current_snapshot()
        summary = snapshot.summary if snapshot and snapshot.summary else {}
        return cls(
            table=name,
            rows=rows,
            changed_partitions=changed_partitions,
            total_rows=int(summary.get("total-records", 0) or 0),
            total_bytes=int(summary.get("total-files-size", 0) or 0),
            snapshot_id=snapshot.snapshot_id if snapshot else None,
            columns=tuple((field.name, str(field.field_type), field.doc) for field in table.schema().fields),
        )
