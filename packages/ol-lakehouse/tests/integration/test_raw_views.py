"""The plugin against a real Iceberg catalog; DuckDB may fetch nothing."""

from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from ol_core.tables import RawTableIOManager
from ol_lakehouse.raw_views import Plugin, RawViewsError, read_catalog
from pyiceberg.catalog.sql import SqlCatalog

SCHEMA = pa.schema([pa.field("course_id", pa.string()), pa.field("n", pa.int64())])


def write(folder: Path, tables: dict[str, list[int]]) -> Path:
    folder.mkdir(exist_ok=True)
    catalog = SqlCatalog("any name", uri=f"sqlite:///{folder / 'catalog.db'}", warehouse=str(folder))
    catalog.create_namespace_if_not_exists("ol_warehouse_raw_data")
    catalog.create_namespace_if_not_exists("elsewhere")
    for name, values in tables.items():
        table = catalog.create_table_if_not_exists(name, schema=SCHEMA)
        rows = [{"course_id": "course-v1:A+B+C", "n": value} for value in values]
        table.append(pa.Table.from_pylist(rows, schema=SCHEMA))
    catalog.close()
    return folder / "catalog.db"


def connect(warehouse: Path, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(
        warehouse,
        read_only=read_only,
        config={"autoinstall_known_extensions": False, "autoload_known_extensions": False},
    )


def plugin(catalog: Path) -> Plugin:
    return Plugin(name="raw_views", plugin_config={"catalog": str(catalog)})


def test_views_follow_the_current_snapshot_of_each_table(tmp_path: Path) -> None:
    folder, warehouse = tmp_path / "tables ü'x", tmp_path / "w.duckdb"
    query = "select course_id, n from ol_warehouse_raw_data.one"
    for added, values in (([1], [1]), ([2], [1, 2])):
        catalog = write(folder, {"ol_warehouse_raw_data.one": added, "elsewhere.two": [5]})
        with connect(warehouse) as connection:
            plugin(catalog).configure_connection(connection)
            rows = connection.execute(f"{query} order by n").fetchall()
            assert rows == [("course-v1:A+B+C", value) for value in values]
            views = connection.execute("select view_name from duckdb_views() where not internal").fetchall()
            assert views == [("one",)]


def test_columns_that_evolved_are_read_across_old_and_new_files(tmp_path: Path) -> None:
    folder = tmp_path / "tables"
    tables = RawTableIOManager(kind="sql", uri=f"sqlite:///{folder}/catalog.db", warehouse=str(folder), writable=True)
    for course, n, kind, title in (("a", 1, pa.int32(), "name"), ("b", 2**40, pa.int64(), "title")):
        schema = pa.schema([("course_id", pa.string()), ("n", kind), (title, pa.string())])
        row = pa.Table.from_pylist([{"course_id": course, "n": n, title: course.upper()}], schema=schema)
        tables.replace_partitions("one", schema, [course], [row])

    with connect(tmp_path / "w.duckdb") as connection:
        plugin(folder / "catalog.db").configure_connection(connection)
        query = "select course_id, n, name, title from ol_warehouse_raw_data.one order by 1"
        found = connection.execute(query).fetchall()

    assert found == [("a", 1, "A", None), ("b", 2**40, None, "B")]


def test_a_view_of_a_table_that_is_gone_goes(tmp_path: Path) -> None:
    warehouse = tmp_path / "w.duckdb"
    catalog = write(tmp_path / "tables", {"ol_warehouse_raw_data.one": [1], "ol_warehouse_raw_data.two": []})
    with connect(warehouse) as connection:
        plugin(catalog).configure_connection(connection)
        assert connection.execute("select count(*) from ol_warehouse_raw_data.two").fetchall() == [(0,)]
    store = SqlCatalog("any name", uri=f"sqlite:///{catalog}", warehouse=str(catalog.parent))
    store.drop_table("ol_warehouse_raw_data.two")
    store.close()
    with connect(warehouse) as connection:
        plugin(catalog).configure_connection(connection)
        assert connection.execute("select view_name from duckdb_views() where not internal").fetchall() == [("one",)]
    with connect(warehouse, read_only=True) as connection:
        plugin(catalog).configure_connection(connection)
        assert connection.execute("select n from ol_warehouse_raw_data.one").fetchall() == [(1,)]


def test_no_catalog_means_no_tables_and_a_foreign_file_is_an_error(tmp_path: Path) -> None:
    assert read_catalog(tmp_path / "catalog.db") == {}
    (tmp_path / "other.db").write_text("not a database, and long enough to be read as one: " + "x" * 100)
    with pytest.raises(RawViewsError, match="is not the SQLite file of an Iceberg catalog"):
        read_catalog(tmp_path / "other.db")


def test_a_profile_without_the_catalog_is_an_error() -> None:
    with pytest.raises(RawViewsError, match=r"set it in profiles\.yml"):
        Plugin(name="raw_views", plugin_config={})
