from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from ol_core.environment import RAW_NAMESPACE
from ol_core.failures import PermanentFailure, UpstreamMissing
from ol_core.tables import RawTableIOManager

SCHEMA = pa.schema([pa.field("course_id", pa.string(), nullable=False), ("n", pa.int64())])


@pytest.fixture
def tables(tmp_path: Path) -> RawTableIOManager:
    root = tmp_path / "tables"
    return RawTableIOManager(kind="sql", uri=f"sqlite:///{root}/catalog.db", warehouse=str(root), writable=True)


def rows(course: str, *numbers: int, schema: pa.Schema = SCHEMA) -> pa.Table:
    return pa.Table.from_pylist([{"course_id": course, "n": number} for number in numbers], schema=schema)


def held(tables: RawTableIOManager) -> list[tuple[str, int]]:
    return sorted((row["course_id"], row["n"]) for row in tables.read("t").to_pylist())


def test_exactly_the_partitions_of_the_run_are_replaced(tables: RawTableIOManager) -> None:
    tables.replace_partitions("t", SCHEMA, ["a", "b"], iter([rows("a", 1, 2), rows("b", 3)]))

    commit = tables.replace_partitions("t", SCHEMA, ["a"], iter([rows("a", 9)]))

    assert held(tables) == [("a", 9), ("b", 3)]
    assert (commit.rows, commit.total_rows) == (1, 2)


def test_a_partition_without_rows_loses_its_old_ones(tables: RawTableIOManager) -> None:
    tables.replace_partitions("t", SCHEMA, ["a", "b"], iter([rows("a", 1), rows("b", 3)]))

    tables.replace_partitions("t", SCHEMA, ["a"], iter([rows("a")]))

    assert held(tables) == [("b", 3)]


def test_no_partition_means_no_commit(tables: RawTableIOManager) -> None:
    before = tables.replace_partitions("t", SCHEMA, ["a"], iter([rows("a", 1)]))

    after = tables.replace_partitions("t", SCHEMA, [], iter([]))

    assert after.snapshot_id == before.snapshot_id


def test_a_failure_in_the_middle_leaves_the_table_as_it_was(tables: RawTableIOManager) -> None:
    tables.replace_partitions("t", SCHEMA, ["a"], iter([rows("a", 1)]))
    snapshots = tables.snapshots()

    def broken() -> Iterator[pa.Table]:
        yield rows("a", 2)
        raise PermanentFailure("the second file is unreadable")

    with pytest.raises(PermanentFailure, match="the second file"):
        tables.replace_partitions("t", SCHEMA, ["a"], broken())

    assert held(tables) == [("a", 1)]
    assert tables.snapshots() == snapshots


def test_an_added_column_widens_the_table(tables: RawTableIOManager) -> None:
    tables.replace_partitions("t", SCHEMA, ["a"], iter([rows("a", 1)]))
    wider = SCHEMA.append(pa.field("title", pa.string()))

    tables.replace_partitions("t", wider, ["b"], iter([rows("b", 2, schema=wider)]))

    assert tables.read("t").column_names == ["course_id", "n", "title"]


def test_a_changed_type_is_refused_and_nothing_is_lost(tables: RawTableIOManager) -> None:
    tables.replace_partitions("t", SCHEMA, ["a"], iter([rows("a", 1)]))
    other = pa.schema([SCHEMA.field("course_id"), ("n", pa.string())])

    with pytest.raises(
        PermanentFailure, match=r"t\.n is long in the table but declared as string, which Iceberg cannot promote"
    ):
        tables.replace_partitions("t", other, ["a"], iter([]))

    assert held(tables) == [("a", 1)]


def test_a_table_may_exist_before_its_first_row(tables: RawTableIOManager) -> None:
    tables.ensure("t", SCHEMA)

    assert tables.snapshots() == {"t": ""}
    assert tables.read("t").num_rows == 0


def test_a_missing_table_names_the_asset_that_makes_it(tables: RawTableIOManager) -> None:
    tables.ensure("t", SCHEMA)

    with pytest.raises(UpstreamMissing, match=f"materialize {RAW_NAMESPACE}/other first"):
        tables.read("other")


def test_a_catalog_that_is_not_declared_writable_refuses(tables: RawTableIOManager) -> None:
    read_only = RawTableIOManager(kind="sql", uri=tables.uri, warehouse=tables.warehouse, writable=False)

    with pytest.raises(PermanentFailure, match="refused to write t"):
        read_only.ensure("t", SCHEMA)
