"""The IO manager: rows that assets hand over become Iceberg tables."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from ol_core.environment import RAW_NAMESPACE, Environment, SecretRef
from ol_core.failures import PermanentFailure, UpstreamMissing
from ol_core.secrets import Secrets, secrets_resource
from ol_core.tables.catalogs import open_catalog
from ol_core.tables.commits import DEFAULT_POLICY, TableCommit, TablePolicy
from ol_core.tables.maintenance import TableUpkeep, keep_up
from ol_core.tables.staging import WHOLE_TABLE, staged
from ol_core.tables.writing import ensure_table, replace

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

    def replace_partitions(  # noqa: PLR0917 - the policy is hardly ever stated
        self,
        table: str,
        schema: "pa.Schema",
        partitions: Sequence[str],
        batches: "Iterable[pa.Table | pa.RecordBatch]",
        policy: TablePolicy = DEFAULT_POLICY,
    ) -> TableCommit:
        """Replace exactly these partitions by these rows, in one commit; create or widen the table where needed.

        A partition whose rows the table holds already is left alone; where that is so of all, nothing is committed.

        Args:
            table: Name without the namespace. Partitioned by `course_id`.
            schema: Columns of the table, their descriptions as field metadata `doc`; a column that it lacks is added.
            partitions: Values of `course_id` whose rows go; also those that get no row.
            batches: Rows, all of these partitions; they are read once and kept in temporary files.
            policy: How the table is maintained.

        Raises:
            PermanentFailure: the environment does not declare the catalog writable, a row is of another partition, or a
                column changed to a type that Iceberg cannot promote it to.
            TransientFailure: the catalog or the store failed; the table is as it was.
        """
        if not partitions:
            with self._writing(table) as catalog:
                stored = ensure_table(catalog, table, schema, partitioned=True, policy=policy)
                return TableCommit.of(table, stored, rows=0, changed_partitions=0)
        return self._replace(table, schema, partitions, batches, policy)

    def replace(
        self, table: str, rows: "pa.Table | pa.RecordBatchReader", policy: TablePolicy = DEFAULT_POLICY
    ) -> TableCommit:
        """Replace the whole of an unpartitioned table in one commit; see `replace_partitions`."""
        batches = [rows] if hasattr(rows, "column") else rows
        return self._replace(table, rows.schema, [WHOLE_TABLE], batches, policy)

    def _replace(  # noqa: PLR0917 - what `replace_partitions` takes
        self,
        table: str,
        schema: "pa.Schema",
        partitions: Sequence[str],
        batches: "Iterable[pa.Table | pa.RecordBatch]",
        policy: TablePolicy,
    ) -> TableCommit:
        self._require_writable(table)
        with staged(table, schema, partitions, batches) as stage, self._writing(table) as catalog:
            return replace(catalog, table, stage, policy)

    def ensure(self, table: str, schema: "pa.Schema", policy: TablePolicy = DEFAULT_POLICY) -> None:
        """Create a table that is replaced partition by partition, or widen it: queries find it while it is empty."""
        with self._writing(table) as catalog:
            ensure_table(catalog, table, schema, partitioned=True, policy=policy)

    def snapshots(self) -> Mapping[str, str]:
        """Return the committed snapshot's id for each raw table that exists; "" for one that never held a row."""
        with self._catalog("the list of raw tables") as catalog:
            current = {name: catalog.load_table((RAW_NAMESPACE, name)).current_snapshot() for name in _names(catalog)}
        return {name: str(snapshot.snapshot_id) if snapshot else "" for name, snapshot in current.items()}

    def keep_up(self) -> Iterator[TableUpkeep]:
        """Maintain each raw table as its policy says; yield what became of it, also where that failed.

        Raises:
            PermanentFailure: the environment does not declare the catalog writable.
        """
        with self._writing("the maintenance of raw tables") as catalog:
            names = _names(catalog)
        for name in names:
            yield keep_up(lambda name=name: self._writing(name), name)  # type: ignore[misc]  # the default binds it

    def handle_output(self, context: dg.OutputContext, obj: "pa.Table | pa.RecordBatchReader") -> None:
        """Replace the raw table of the asset, or the run's partitions of it, by what it returned."""
        name = context.asset_key.path[-1]
        if not hasattr(obj, "schema"):
            kind = type(obj).__name__
            raise PermanentFailure(f"{name}: the asset returned a {kind}; return a pyarrow Table or RecordBatchReader")
        if context.has_asset_partitions:
            batches = [obj] if hasattr(obj, "column") else obj
            commit = self.replace_partitions(name, obj.schema, list(context.asset_partition_keys), batches)
        else:
            commit = self.replace(name, obj)
        context.add_output_metadata(commit.metadata)

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
            where = self.uri or self.warehouse
            raise UpstreamMissing(f"there is no table {table} in {where}; materialize {key} first") from error

    def load_input(self, context: dg.InputContext) -> "pa.Table":
        """Read the whole raw table of an upstream asset; see `read`."""
        return self.read(context.asset_key.path[-1])

    def _require_writable(self, what: str) -> None:
        if not self.writable:
            raise PermanentFailure(f"the environment does not declare the catalog writable; refused to write {what}")

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
        return open_catalog({key: value for key, value in stated.items() if value}, what)


def _names(catalog: "Catalog") -> list[str]:
    from pyiceberg.exceptions import NoSuchNamespaceError

    try:
        return sorted(name for *_, name in catalog.list_tables(RAW_NAMESPACE))
    except NoSuchNamespaceError:
        return []
