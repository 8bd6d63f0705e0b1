"""A dbt-duckdb plugin that shows the raw Iceberg tables to DuckDB as views of the schema `ol_warehouse_raw_data`.

dbt's sources are then plain relations on DuckDB as they are on Trino. The profile names this module; dbt calls it each
time it opens the warehouse, under Dagster and on the command line alike. Nothing is downloaded: the DuckDB extensions
come from their wheels and are loaded by path.
"""

import importlib.resources
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import duckdb
from dbt.adapters.duckdb.plugins import BasePlugin
from ol_core.failures import PermanentFailure

SCHEMA = "ol_warehouse_raw_data"
EXTENSIONS = ("avro", "iceberg")  # iceberg reads its manifests through avro and would otherwise download it


class RawViewsError(PermanentFailure, RuntimeError):
    """The raw tables cannot be shown; as a RuntimeError it is, for dbt, a failure to connect."""


class Plugin(BasePlugin):
    """Loads the extensions, then makes the views agree with the catalog.

    Config:
        catalog: Path of the SQLite file of the Iceberg catalog. Where it does not exist there are no raw tables, and
            dbt's `require_raw_tables` says which are missing.
    """

    def initialize(self, plugin_config: Mapping[str, object]) -> None:
        """Take the path of the catalog from the profile.

        A reader gives the file up after each use: dagster-dbt counts rows in its own process, which outlives dbt's, and
        the next run could not write to a file that it holds.
        """
        if self.creds is not None and (self.creds.config_options or {}).get("access_mode") == "READ_ONLY":
            self.creds.keep_open = False
        if not plugin_config.get("catalog"):
            raise RawViewsError(
                "the plugin ol_lakehouse.raw_views has no `catalog` in its config; set it in profiles.yml to the "
                "SQLite file of the Iceberg catalog"
            )
        self._catalog = Path(str(plugin_config["catalog"]))

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Prepare a connection that was just opened; a reader finds the views as the last writer left them."""
        load_extensions(conn)
        if not _is_read_only(conn):
            show_raw_tables(conn, read_catalog(self._catalog))


def load_extensions(connection: duckdb.DuckDBPyConnection) -> None:
    """Load the Iceberg extension and what it needs from the installed wheels.

    Raises:
        RawViewsError: where a wheel is missing or was built for another DuckDB.
    """
    for name in EXTENSIONS:
        package = importlib.resources.files(f"duckdb_extension_{name}")
        file = package / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
        if not file.is_file():
            raise RawViewsError(
                f"the DuckDB extension {name} is not at {file}; install duckdb-extension-{name}=={duckdb.__version__}, "
                f"the version of DuckDB itself"
            )
        connection.execute(f"load {_literal(str(file))}")


def read_catalog(catalog: Path) -> dict[str, str]:
    """Read which raw tables exist and where each one's current metadata is.

    The table `iceberg_tables` is the layout that PyIceberg's SqlCatalog shares with Iceberg's JdbcCatalog
    (https://py.iceberg.apache.org/configuration/#sql-catalog); reading it directly spares each dbt process the import
    of PyIceberg.

    Returns:
        Metadata file by table name; empty where nothing was written yet.
    """
    if not catalog.exists():
        return {}
    with closing(sqlite3.connect(f"{catalog.absolute().as_uri()}?mode=ro", uri=True)) as database:
        try:
            rows = database.execute(
                "select table_name, metadata_location from iceberg_tables where table_namespace = ?", (SCHEMA,)
            ).fetchall()
        except sqlite3.DatabaseError as error:
            raise RawViewsError(f"{catalog} is not the SQLite file of an Iceberg catalog: {error}") from error
    return dict(rows)


def show_raw_tables(connection: duckdb.DuckDBPyConnection, tables: Mapping[str, str]) -> None:
    """Make the views of the schema those of `tables`, each over the given metadata file; unchanged ones are kept."""
    connection.execute(f"create schema if not exists {SCHEMA}")
    views = dict(
        connection.execute("select view_name, sql from duckdb_views() where schema_name = ?", [SCHEMA]).fetchall()
    )
    for name in views.keys() - tables.keys():
        connection.execute(f"drop view {SCHEMA}.{_identifier(name)}")
    for name, metadata_file in tables.items():
        scan = f"iceberg_scan({_literal(metadata_file.removeprefix('file://'))})"
        if scan not in views.get(name, ""):
            connection.execute(f"create or replace view {SCHEMA}.{_identifier(name)} as from {scan}")


def _is_read_only(connection: duckdb.DuckDBPyConnection) -> bool:
    query = "select readonly from duckdb_databases() where database_name = current_database()"
    return connection.execute(query).fetchall() == [(True,)]


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
