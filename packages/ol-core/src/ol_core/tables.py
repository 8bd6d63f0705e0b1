"""Raw tables: one Apache Iceberg table a kind, replaced partition by partition in one commit."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from ol_core.environment import RAW_NAMESPACE, Environment
from ol_core.failures import PermanentFailure, TransientFailure, UpstreamMissing

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.catalog import Catalog
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.table import Table

_ROWS_AN_APPEND = 500_000


@dataclass(frozen=True, slots=True)
class TableCommit:
    """What a commit left behind.

    Attributes:
        table: Name of the table, without the namespace.
        rows: Rows written by this commit.
        total_rows: Rows of the table after it.
        total_bytes: Bytes of the table's data files after it.
        snapshot_id: The committed snapshot; None for a table that never held a row.
        columns: (name, type) of each column.
    """

    table: str
    rows: int
    total_rows: int
    total_bytes: int
    snapshot_id: int | None
    columns: tuple[tuple[str, str], ...]

    @property
    def metadata(self) -> dict[str, dg.MetadataValue | dg.TableSchema | str | int]:
        """What Dagster shows of the commit."""
        return {
            "dagster/table_name": f"{RAW_NAMESPACE}.{self.table}",
            "dagster/row_count": self.total_rows,
            "dagster/column_schema": dg.TableSchema([dg.TableColumn(name, kind) for name, kind in self.columns]),
            "rows_written": self.rows,
            "size_bytes": self.total_bytes,
            "snapshot_id": str(self.snapshot_id),
        }


class RawTableIOManager(dg.ConfigurableIOManager):
    """Writes and reads the raw tables of an Iceberg catalog.

    An asset without partitions may return an Arrow table, which replaces the whole raw table named by the last part of
    its key. An asset that works through many partitions calls `replace_partitions` once: each commit
    costs the same.
    """

    kind: str = Field(description="Kind of the Iceberg catalog: sql, rest or glue.")
    uri: str = Field(description="Address of the catalog; empty for Glue.")
    warehouse: str = Field(description="Root of the tables' data.")
    writable: bool = Field(description="Whether this environment may write here.")

    @classmethod
    def of(cls, environment: Environment) -> "RawTableIOManager":
        """Build the IO manager of an environment's catalog."""
        catalog = environment.tables
        uri = "" if catalog.kind == "glue" else str(catalog.uri)
        return cls(kind=catalog.kind, uri=uri, warehouse=catalog.warehouse, writable=catalog.writable)

    def replace_partitions(
        self, table: str, schema: "pa.Schema", partitions: Sequence[str], batches: Iterator["pa.Table"]
    ) -> TableCommit:
        """Replace exactly these partitions by these rows, in one commit; create or widen the table where needed.

        Args:
            table: Name without the namespace. Partitioned by `course_id`.
            schema: Columns of the table; a column that the table lacks is added.
            partitions: Values of `course_id` whose rows go; also those that get no row.
            batches: Rows, all of these partitions.

        Raises:
            PermanentFailure: the environment does not declare the catalog writable, or a column changed its type.
            TransientFailure: the catalog or the store failed; the table is as it was.
        """
        from pyiceberg.expressions import In

        with self._catalog(table) as catalog:
            stored = self._ensure(catalog, table, schema, partition_column="course_id")
            ours = In("course_id", set(partitions))  # type: ignore[misc,call-arg]  # its generated __init__ has no types
            rows = _commit(stored, ours, schema, batches) if partitions else 0
            return _describe(table, catalog.load_table((RAW_NAMESPACE, table)), rows)

    def replace(self, table: str, rows: "pa.Table") -> TableCommit:
        """Replace the whole of an unpartitioned table in one commit; see `replace_partitions`."""
        from pyiceberg.expressions import AlwaysTrue

        with self._catalog(table) as catalog:
            stored = self._ensure(catalog, table, rows.schema, partition_column=None)
            written = _commit(stored, AlwaysTrue(), rows.schema, iter([rows]))
            return _describe(table, catalog.load_table((RAW_NAMESPACE, table)), written)

    def ensure(self, table: str, schema: "pa.Schema") -> None:
        """Create a table that is replaced partition by partition, or widen it: queries find it while it is empty."""
        with self._catalog(table) as catalog:
            self._ensure(catalog, table, schema, partition_column="course_id")

    def snapshots(self) -> Mapping[str, str]:
        """Return the committed snapshot's id for each raw table that exists; "" for one that never held a row."""
        from pyiceberg.exceptions import NoSuchNamespaceError

        with self._catalog("the list of raw tables") as catalog:
            try:
                names = sorted(name for *_, name in catalog.list_tables(RAW_NAMESPACE))
            except NoSuchNamespaceError:
                return {}
            current = {name: catalog.load_table((RAW_NAMESPACE, name)).current_snapshot() for name in names}
        return {name: str(snapshot.snapshot_id) if snapshot else "" for name, snapshot in current.items()}

    def handle_output(self, context: dg.OutputContext, obj: "pa.Table") -> None:
        """Replace the raw table of the asset by what it returned."""
        context.add_output_metadata(self.replace(context.asset_key.path[-1], obj).metadata)

    def read(self, table: str) -> "pa.Table":
        """Read a whole raw table.

        Raises:
            UpstreamMissing: the table was never made.
        """
        from pyiceberg.exceptions import NoSuchTableError

        try:
            with self._catalog(table) as catalog:
                return catalog.load_table((RAW_NAMESPACE, table)).scan().to_arrow()
        except NoSuchTableError as error:
            key = f"{RAW_NAMESPACE}/{table}"
            raise UpstreamMissing(f"there is no table {table} in {self.uri}; materialize {key} first") from error

    def load_input(self, context: dg.InputContext) -> "pa.Table":
        """Read the whole raw table of an upstream asset; see `read`."""
        return self.read(context.asset_key.path[-1])

    @contextmanager
    def _catalog(self, what: str) -> Iterator["Catalog"]:
        """Open the catalog, and translate what goes wrong with it; `what` is named in the message."""
        from pyiceberg.catalog import load_catalog
        from pyiceberg.exceptions import CommitFailedException, ServerError, ServiceUnavailableError, ValidationError

        if self.uri.startswith("sqlite:///"):
            Path(self.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        properties = {"type": self.kind, "uri": self.uri, "warehouse": self.warehouse}
        try:
            with load_catalog("ol", **{key: value for key, value in properties.items() if value}) as catalog:
                yield catalog
        except (CommitFailedException, ServerError, ServiceUnavailableError, OSError) as error:
            raise TransientFailure(f"the catalog failed over {what}: {error}; what it held is as it was") from error
        except (ValidationError, ValueError, TypeError) as error:
            raise PermanentFailure(f"cannot write {what}: {error}") from error

    def _ensure(self, catalog: "Catalog", table: str, schema: "pa.Schema", *, partition_column: str | None) -> "Table":
        from pyiceberg.exceptions import NamespaceAlreadyExistsError, NoSuchTableError

        if not self.writable:
            raise PermanentFailure(f"the environment does not declare the catalog writable; refused to write {table}")
        try:
            stored = catalog.load_table((RAW_NAMESPACE, table))
        except NoSuchTableError:
            with suppress(NamespaceAlreadyExistsError):
                catalog.create_namespace(RAW_NAMESPACE)
            with catalog.create_table_transaction((RAW_NAMESPACE, table), schema) as creation:
                if partition_column is not None:
                    with creation.update_spec() as spec:
                        spec.add_identity(partition_column)
            return catalog.load_table((RAW_NAMESPACE, table))
        with stored.update_schema() as update:
            update.union_by_name(schema)
        return stored


def _commit(stored: "Table", gone: "BooleanExpression", schema: "pa.Schema", batches: Iterator["pa.Table"]) -> int:
    import pyarrow as pa

    rows = 0
    with warnings.catch_warnings(), stored.transaction() as transaction:
        warnings.filterwarnings("ignore", "Delete operation did not match any records")
        transaction.delete(gone)
        for some in _gather(batches):
            rows += sum(len(batch) for batch in some)
            transaction.append(pa.concat_tables(some).select(schema.names).cast(schema))
    return rows


def _gather(batches: Iterator["pa.Table"]) -> Iterator[list["pa.Table"]]:
    """Group batches, since each append is a data file of its own for each partition."""
    some: list[pa.Table] = []
    for batch in batches:
        some.append(batch)
        if sum(len(one) for one in some) >= _ROWS_AN_APPEND:
            yield some
            some = []
    if some and any(len(one) for one in some):
        yield some


def _describe(name: str, table: "Table", rows: int) -> TableCommit:
    snapshot = table.current_snapshot()
    summary = snapshot.summary if snapshot and snapshot.summary else {}
    return TableCommit(
        table=name,
        rows=rows,
        total_rows=int(summary.get("total-records", 0) or 0),
        total_bytes=int(summary.get("total-files-size", 0) or 0),
        snapshot_id=snapshot.snapshot_id if snapshot else None,
        columns=tuple((field.name, str(field.field_type)) for field in table.schema().fields),
    )
