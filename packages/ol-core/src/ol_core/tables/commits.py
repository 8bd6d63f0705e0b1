"""What a table is declared to be, and what a commit left behind."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import dagster as dg

from ol_core.environment import RAW_NAMESPACE

if TYPE_CHECKING:
    from pyiceberg.table import Table

PARTITION_COLUMN = "course_id"
"""Column of a partitioned table's partitions, where its declaration names no other."""

VERSION_PROPERTY = "ol.content-version"
"""Names the version of a table's content in the summary of its snapshot; compaction hands it on."""

NO_ROWS = "empty"
"""Version of what holds no row."""

_KEPT = "history.expire.min-snapshots-to-keep"
_AGE = "history.expire.max-snapshot-age-ms"
_FILES = "ol.compact-above-files"
_ORPHANS = "ol.orphan-age-hours"

_SHORTEST_ORPHAN_AGE_HOURS = 24


@dataclass(frozen=True, slots=True)
class TablePolicy:
    """How a table is maintained; it stands in the table's own properties, which other engines read too.

    Attributes:
        snapshots_kept: Snapshots that are never expired, whatever their age.
        snapshot_age_hours: Age from which the others are.
        compact_above_files: A partition of more data files is rewritten into as few as it takes.
        orphan_age_hours: Age from which a file that no snapshot needs is removed; longer than any write takes, so at
            least 24.
    """

    snapshots_kept: int = 5
    snapshot_age_hours: int = 7 * 24
    compact_above_files: int = 4
    orphan_age_hours: int = 3 * 24

    def __post_init__(self) -> None:
        if self.orphan_age_hours < _SHORTEST_ORPHAN_AGE_HOURS:
            raise ValueError(
                f"orphan_age_hours is {self.orphan_age_hours}; state {_SHORTEST_ORPHAN_AGE_HOURS} or more, since a "
                "write under way has files that no snapshot needs yet"
            )
        if self.snapshots_kept < 1 or self.compact_above_files < 1 or self.snapshot_age_hours < 0:
            raise ValueError(f"{self} keeps no snapshot or no file; state 1 or more of both, and an age of 0 or more")

    @property
    def properties(self) -> dict[str, str]:
        """The policy as properties of an Iceberg table; an asset declares it by them, as its metadata."""
        return {
            _KEPT: str(self.snapshots_kept),
            _AGE: str(self.snapshot_age_hours * 3_600_000),
            _FILES: str(self.compact_above_files),
            _ORPHANS: str(self.orphan_age_hours),
        }

    @classmethod
    def of(cls, properties: Mapping[str, str]) -> "TablePolicy":
        """Read the policy of a table or an asset; what it does not state is the default.

        Raises:
            ValueError: it states what no table may be maintained by.
        """
        stated = {**cls().properties, **properties}
        for name in (_KEPT, _AGE, _FILES, _ORPHANS):
            if not stated[name].isdecimal():
                raise ValueError(f"{name} is {stated[name]!r}; state a whole number")
        hours = -(-int(stated[_AGE]) // 3_600_000)
        return cls(int(stated[_KEPT]), hours, int(stated[_FILES]), int(stated[_ORPHANS]))

    @staticmethod
    def is_declared(properties: Mapping[str, str]) -> bool:
        """Tell whether a table states a policy, so that it is one of ours; others share the namespace."""
        return _FILES in properties


DEFAULT_POLICY = TablePolicy()


@dataclass(frozen=True, slots=True)
class TableCommit:
    """What a commit left behind.

    A version names committed content: it is given to what a commit changed, stays where nothing did, and survives
    compaction. The same rows written again have the same version.

    Attributes:
        table: Name of the table, without the namespace.
        rows: Rows handed over.
        changed_partitions: Partitions whose rows were replaced; the others held just these rows already.
        total_rows: Rows of the table after it.
        total_bytes: Bytes of the table's data files after it.
        snapshot_id: The current snapshot; None for a table that never held a row.
        version: Version of the table's content.
        columns: (name, type, description) of each column.
        partition_versions: Version of the content of each partition that was asked for.
        partition_rows: Its rows.
    """

    table: str
    rows: int
    changed_partitions: int
    total_rows: int
    total_bytes: int
    snapshot_id: int | None
    version: str
    columns: tuple[tuple[str, str, str | None], ...]
    partition_versions: Mapping[str, str] = field(default_factory=dict)
    partition_rows: Mapping[str, int] = field(default_factory=dict)

    @property
    def unchanged(self) -> bool:
        """Whether the table held all of it already, so that nothing was committed."""
        return self.changed_partitions == 0

    @property
    def data_version(self) -> dg.DataVersion:
        """What Dagster should take for the version of the asset: of the partitions asked for, else of the table."""
        return dg.DataVersion(joint_version(self.partition_versions.values()) if self.partition_rows else self.version)

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
    def of(  # noqa: PLR0913 - what a commit knows beside its table
        cls,
        name: str,
        table: "Table",
        *,
        rows: int = 0,
        changed_partitions: int = 0,
        partition_versions: Mapping[str, str] | None = None,
        partition_rows: Mapping[str, int] | None = None,
    ) -> "TableCommit":
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
            version=table_version(table) or NO_ROWS,
            columns=tuple((field.name, str(field.field_type), field.doc) for field in table.schema().fields),
            partition_versions=partition_versions or {},
            partition_rows=partition_rows or {},
        )


def table_version(table: "Table") -> str:
    """Return the version of a table's content: of our last commit, or the snapshot's id where another engine wrote.

    Empty for a table that never held a row.
    """
    snapshot = table.current_snapshot()
    if snapshot is None:
        return ""
    summary = snapshot.summary
    return str((summary.get(VERSION_PROPERTY) if summary else None) or snapshot.snapshot_id)


def joint_version(versions: Collection[str]) -> str:
    """Return one version for several: theirs where they agree."""
    different = sorted(set(versions))
    if len(different) == 1:
        return different[0]
    return hashlib.sha256("\n".join(different).encode()).hexdigest()[:32] if different else NO_ROWS
