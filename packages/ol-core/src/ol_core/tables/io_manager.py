"""The IO manager: rows that assets hand over become Iceberg tables."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from ol_core.environment import RAW_NAMESPACE, Environment, SecretRef
from ol_core.failures import PermanentFailure, UpstreamMissing
from ol_core.secrets import Secrets, secrets_resource
from ol_core.tables.catalogs import open_catalog
from ol_core.tables.commits import DEFAULT_POLICY, PARTITION_COLUMN, TableCommit, TablePolicy, table_version
from ol_core.tables.maintenance import TableUpkeep, folders_of, keep_up
from ol_core.tables.reading import rows_of
from ol_core.tables.schemas import declared_columns
from ol_core.tables.staging import WHOLE_TABLE, Stage, staged
from ol_core.tables.writing import replace

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.catalog import Catalog


class RawTableIOManager(dg.ConfigurableIOManager):
    """Writes and reads the raw tables of an Iceberg catalog.

    An asset without partitions may return an Arrow table, or a stream of record batches with their schema
    (`pyarrow.RecordBatchReader`); it replaces the whole raw table named by the last part of its key. So does an asset
    of one or more partitions, with these only. An asset that works through many partitions may call
    `replace_partitions` itself: each commit costs the same.
    """

    kind: str = Field(description="Kind of the Iceberg catalog: sql, rest or glue.")
    uri: str = Field(default="", description="Address of the catalog; empty for Glue.")
    warehouse: str = Field(description="Root of the tables' data, or what a REST catalog calls it.")
    writable: bool = Field(description="Whether this environment may write here.")
    credential: str = Field(default="", description="Where a REST catalog's `id:secret` is, as path#key.")
    oauth2_server_uri: str = Field(default="", description="Where the credential is exchanged for a token.")
    s3_endpoint_url: str = Field(default="", description="Address of an S3 server other than AWS's; empty for AWS.")
    region: str = Field(default="", description="Region of Glue and of the tables' bucket.")
    secrets: dg.ResourceDependency[Secrets] = None  # type: ignore[assignment]  # without a credential it needs none

    @classmethod
    def of(cls, environment: Environment) -> "RawTableIOManager":
        """Build the IO manager of an environment's catalog."""
        catalog = environment.tables
        match catalog.kind:
            case "sql":
                return cls(kind="sql", warehouse=catalog.warehouse, uri=catalog.uri, writable=catalog.writable)
            case "glue":
                return cls(kind="glue", warehouse=catalog.warehouse, region=catalog.region, writable=catalog.writable)
            case "rest":
                return cls(
                    kind="rest",
                    warehouse=catalog.warehouse,
                    uri=str(catalog.uri).rstrip("/"),
                    credential=str(catalog.credential),
                    oauth2_server_uri=str(catalog.oauth2_server_uri),
                    s3_endpoint_url=catalog.s3_endpoint_url,
                    region=catalog.region,
                    secrets=secrets_resource(environment),
                    writable=catalog.writable,
                )

    def replace_partitions(  # noqa: PLR0913 - a table's declaration, and its rows
        self,
        table: str,
        schema: "pa.Schema",
        partitions: Sequence[str],
        batches: "Iterable[pa.Table | pa.RecordBatch]",
        *,
        policy: TablePolicy = DEFAULT_POLICY,
        column: str = PARTITION_COLUMN,
    ) -> TableCommit:
        """Replace exactly these partitions by these rows, in one commit; create or widen the table where needed.

        A partition whose rows the table holds already is left alone; where that is so of all, nothing is committed.

        Args:
            table: Name without the namespace.
            schema: Columns of the table, their descriptions as field metadata `doc`; see `ol_core.tables.schemas` for
                what may change from one commit to the next.
            partitions: Values of the partition column whose rows go; also those that get no row.
            batches: Rows, all of these partitions; they are read once and kept in temporary files.
            policy: How the table is maintained.
            column: The partition column, declared as string.

        Raises:
            PermanentFailure: the environment does not declare the catalog writable, a row is of another partition or
                not as declared, or a column changed to a type that Iceberg cannot promote it to.
            TransientFailure: the catalog or the store failed; the table is as it was.
        """
        return self._replace(table, schema, partitions, batches, policy=policy, column=column)

    def replace(
        self, table: str, rows: "pa.Table | pa.RecordBatchReader", *, policy: TablePolicy = DEFAULT_POLICY
    ) -> TableCommit:
        """Replace the whole of an unpartitioned table in one commit; see `replace_partitions`."""
        return self._replace(table, rows.schema, [WHOLE_TABLE], _batches(rows), policy=policy, column=None)

    def _replace(  # noqa: PLR0913 - what `replace_partitions` takes
        self,
        table: str,
        schema: "pa.Schema",
        partitions: Sequence[str],
        batches: "Iterable[pa.Table | pa.RecordBatch]",
        *,
        policy: TablePolicy,
        column: str | None,
    ) -> TableCommit:
        self._require_writable(table)
        stage = Stage(declared_columns(table, schema), column, tuple(dict.fromkeys(partitions)))
        with staged(table, stage, batches), self._writing(table) as catalog:
            return replace(catalog, table, stage, policy)

    def ensure(
        self,
        table: str,
        schema: "pa.Schema",
        *,
        policy: TablePolicy = DEFAULT_POLICY,
        column: str | None = PARTITION_COLUMN,
    ) -> None:
        """Create a table, or widen it: queries find it while it is empty."""
        self._replace(table, schema, [], [], policy=policy, column=column)

    def snapshots(self) -> Mapping[str, str]:
        """Return the version of the content of each raw table that exists; "" for one that never held a row.

        It is another one after each commit that changed a row, and the same one after compaction.
        """
        with self._catalog("the list of raw tables") as catalog:
            return {name: table_version(catalog.load_table((RAW_NAMESPACE, name))) for name in _names(catalog)}

    def keep_up(
        self, names: Iterable[str] | None = None, *, now: Callable[[], datetime] | None = None
    ) -> Iterator[TableUpkeep]:
        """Maintain each raw table as its policy says; yield what became of it, also where that failed.

        Args:
            names: Tables to maintain, without the namespace; None for all of the catalog.
            now: The clock that ages are told by; the system's where none is given.

        Raises:
            PermanentFailure: the environment does not declare the catalog writable.
        """
        with self._writing("the maintenance of raw tables") as catalog:
            known = _names(catalog)
            folders = folders_of(catalog, known)
        for name in known if names is None else names:
            yield keep_up(lambda name=name: self._writing(name), name, folders, now=now)  # type: ignore[misc]  # the default binds it

    def handle_output(self, context: dg.OutputContext, obj: "pa.Table | pa.RecordBatchReader") -> None:
        """Replace the raw table of the asset, or the run's partitions of it, by what it returned.

        Unless the asset stated a data version itself, that of the materialization is the version of what is committed.

        Raises:
            PermanentFailure: the asset returned something else, or declares what no table can be.
            OlError: as `replace_partitions`.
        """
        import pyarrow as pa

        name = context.asset_key.path[-1]
        if not isinstance(obj, pa.Table | pa.RecordBatch | pa.RecordBatchReader):
            kind = type(obj).__name__
            raise PermanentFailure(f"{name}: the asset returned a {kind}; return a pyarrow Table or RecordBatchReader")
        column, policy = _declared(name, context.definition_metadata or {})
        if context.has_asset_partitions:
            commit = self.replace_partitions(
                name,
                obj.schema,
                list(context.asset_partition_keys),
                _batches(obj),
                policy=policy,
                column=column,
            )
        else:
            commit = self.replace(name, obj, policy=policy)
        context.add_output_metadata(commit.metadata)
        try:
            asset = dg.AssetExecutionContext.get()
        except dg.DagsterInvariantViolationError:  # the context was built by hand: nothing is materialized
            return
        asset.set_data_version(context.asset_key, commit.data_version)
        for partition, rows in commit.partition_rows.items():
            asset.add_asset_metadata({"dagster/partition_row_count": rows}, context.asset_key, partition)

    def read(self, table: str, partitions: Sequence[str] | None = None) -> "pa.Table":
        """Read a raw table, all at once.

        Args:
            table: Name without the namespace.
            partitions: Partitions to read; None for all.

        Raises:
            UpstreamMissing: the table was never made.
        """
        from pyiceberg.exceptions import NoSuchTableError

        try:
            with self._catalog(table) as catalog:
                stored = catalog.load_table((RAW_NAMESPACE, table))
                return rows_of(stored, partitions)
        except NoSuchTableError as error:
            key = f"{RAW_NAMESPACE}/{table}"
            where = self.uri or self.warehouse
            raise UpstreamMissing(f"there is no table {table} in {where}; materialize {key} first") from error

    def load_input(self, context: dg.InputContext) -> "pa.Table":
        """Read the raw table of an upstream asset, or the partitions of it that the input maps to; see `read`."""
        partitions = list(context.asset_partition_keys) if context.has_asset_partitions else None
        return self.read(context.asset_key.path[-1], partitions)

    def _require_writable(self, what: str) -> None:
        if not self.writable:
            raise PermanentFailure(
                f"the environment does not declare the catalog {self.uri or self.warehouse} writable; refused to write "
                f"{what}; where it may be written, set writable = true under [tables] in environment.toml"
            )

    def _writing(self, what: str) -> AbstractContextManager["Catalog"]:
        self._require_writable(what)
        return self._catalog(what)

    def _catalog(self, what: str) -> AbstractContextManager["Catalog"]:
        stated: dict[str, Any] = {
            "type": self.kind,
            "uri": self.uri,
            "warehouse": self.warehouse,
            "credential": self.secrets.get(SecretRef.parse(self.credential)) if self.credential else "",
            "oauth2-server-uri": self.oauth2_server_uri,
            "s3.endpoint": self.s3_endpoint_url,
            "s3.region": self.region,
            "glue.region": self.region if self.kind == "glue" else "",
        }
        return open_catalog({key: value for key, value in stated.items() if value}, what, writable=self.writable)


def _declared(name: str, metadata: Mapping[str, Any]) -> tuple[str, TablePolicy]:
    """Return the partition column and the policy that an asset's metadata declares."""
    stated = {key: one.value if isinstance(one, dg.MetadataValue) else one for key, one in metadata.items()}
    column = stated.get("partition_expr", PARTITION_COLUMN)
    if not isinstance(column, str):
        raise PermanentFailure(f"{name}: partition_expr is {column!r}; state the name of one column")
    try:
        return column, TablePolicy.of({key: str(one) for key, one in stated.items()})
    except ValueError as error:
        raise PermanentFailure(f"{name}: {error}, in the metadata of its asset") from error


def _batches(rows: "pa.Table | pa.RecordBatchReader") -> "Iterable[pa.Table | pa.RecordBatch]":
    return [rows] if hasattr(rows, "column") else rows


def _names(catalog: "Catalog") -> list[str]:
    from pyiceberg.exceptions import NoSuchNamespaceError

    try:
        return sorted(name for *_, name in catalog.list_tables(RAW_NAMESPACE))
    except NoSuchNamespaceError:
        return []
