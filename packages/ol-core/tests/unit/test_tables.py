"""Raw tables in a SQLite catalog: what a commit replaces, what it leaves alone, and what it says."""

import json
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from ol_core.environment import RAW_NAMESPACE
from ol_core.failures import PermanentFailure, UpstreamMissing
from ol_core.tables import RawTableIOManager, TablePolicy, files, reading, schemas, staging
from ol_core.tables.catalogs import open_catalog
from pyiceberg.catalog.rest.response import TokenResponse
from pyiceberg.exceptions import OAuthError

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

    commit = tables.replace_partitions("t", SCHEMA, ["a"], iter([rows("a")]))

    assert held(tables) == [("b", 3)]
    assert commit.partition_versions == {"a": "empty"}


def test_no_partition_means_no_commit(tables: RawTableIOManager) -> None:
    before = tables.replace_partitions("t", SCHEMA, ["a"], iter([rows("a", 1)]))

    after = tables.replace_partitions("t", SCHEMA, [], iter([]))

    assert after.snapshot_id == before.snapshot_id


def test_batches_may_mix_partitions_and_come_in_any_order(tables: RawTableIOManager) -> None:
    mixed = pa.concat_tables([rows("a", 1), rows("b", 2), rows("a", 3)])

    commit = tables.replace_partitions("t", SCHEMA, ["a", "b"], iter([mixed, rows("b", 4), rows("a", 5)]))

    assert held(tables) == [("a", 1), ("a", 3), ("a", 5), ("b", 2), ("b", 4)]
    assert commit.partition_rows == {"a": 3, "b": 2}


@pytest.mark.parametrize(("gathered", "files"), [(staging._GATHERED_BYTES, 1), (0, 50)])
def test_interleaved_partitions_keep_their_order_in_few_files(
    monkeypatch: pytest.MonkeyPatch, gathered: int, files: int
) -> None:
    monkeypatch.setattr(staging, "_GATHERED_BYTES", gathered)
    stage = staging.Stage(schemas.declared_columns("t", SCHEMA), "course_id", ("a", "b", "c"))
    mixed = [pa.concat_tables([rows("b", n), rows("a", n, n + 100), rows("b", n + 100)]) for n in range(50)]

    with staging.staged("t", stage, mixed):
        kept = {one: [n for batch in stage.batches(one) for n in batch["n"].to_pylist()] for one in stage.partitions}

    in_order = [n for number in range(50) for n in (number, number + 100)]
    assert kept == {"a": in_order, "b": in_order, "c": []}
    assert len(stage._files["a"]) == len(stage._files["b"]) == files
    assert dict(stage.rows) == {"a": 100, "b": 100}


def test_partitions_of_any_name_are_kept_apart(tables: RawTableIOManager) -> None:
    names = ["course-v1:MITx+6.00.1x+2T2026", "course-v1:MITx+6.00.1x+2T2027", "a/b?c#d%2Fe", "ü ñ\t=&", "x" * 900, "*"]
    tables.replace_partitions("t", SCHEMA, names, [rows(name, n) for n, name in enumerate(names)])

    tables.replace_partitions("t", SCHEMA, names[::2], [rows(name, 9) for name in names[::2]])

    assert held(tables) == sorted((name, 9 if n % 2 == 0 else n) for n, name in enumerate(names))


def test_hundreds_of_partitions_are_one_commit(tables: RawTableIOManager) -> None:
    names = [f"course-{number}" for number in range(600)]
    content = pa.table({"course_id": names, "n": range(600)}, schema=SCHEMA)
    tables.replace_partitions("t", SCHEMA, names, [content])

    commit = tables.replace_partitions("t", SCHEMA, names, [content.set_column(1, SCHEMA.field("n"), content["n"])])
    fewer = tables.replace_partitions("t", SCHEMA, names, [content.slice(300)])

    assert commit.unchanged
    assert (fewer.changed_partitions, fewer.total_rows) == (300, 300)


def test_rows_of_another_partition_are_refused(tables: RawTableIOManager) -> None:
    with pytest.raises(PermanentFailure, match=r"rows of 'z' are not of the partitions that are replaced \(a, b\)"):
        tables.replace_partitions("t", SCHEMA, ["a", "b"], iter([rows("a", 1), rows("z", 1)]))

    assert tables.snapshots() == {}


def test_a_null_where_the_declaration_asks_for_a_value_is_refused(tables: RawTableIOManager) -> None:
    loose = pa.schema([("course_id", pa.string()), ("n", pa.int64())])

    with pytest.raises(PermanentFailure, match="course_id is declared as required, but rows hold null there"):
        tables.replace_partitions("t", SCHEMA, ["a"], [pa.Table.from_pylist([{"n": 1}], schema=loose)])


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


def test_versions_follow_the_content_of_each_partition(tables: RawTableIOManager) -> None:
    first = tables.replace_partitions("t", SCHEMA, ["a", "b"], [rows("a", 1), rows("b", 2)])
    some = tables.replace_partitions("t", SCHEMA, ["a", "b"], [rows("a", 1), rows("b", 3)])
    again = tables.replace_partitions("t", SCHEMA, ["b", "a"], [rows("b", 3), rows("a", 1)])

    assert some.partition_versions["a"] == first.partition_versions["a"]
    assert some.partition_versions["b"] != first.partition_versions["b"]
    assert again.partition_versions == some.partition_versions
    assert again.data_version == some.data_version != first.data_version
    assert tables.snapshots() == {"t": some.version}


@pytest.mark.parametrize("column", [None, "course_id"])
def test_large_content_is_compared_stream_by_stream(
    tables: RawTableIOManager, monkeypatch: pytest.MonkeyPatch, column: str | None
) -> None:
    monkeypatch.setattr(reading, "ARROW_BYTES_SORTED", -1)
    monkeypatch.setattr(files, "ARROW_BYTES_A_ROW_GROUP", 4_000)
    monkeypatch.setattr(files, "ARROW_BYTES_A_FILE", 20_000)

    def write(*numbers: int) -> bool:
        parts = [rows("a", *numbers[start : start + 100]) for start in range(0, len(numbers), 100)]
        if column is None:
            batches = (batch for part in parts for batch in part.to_batches())
            return tables.replace("t", pa.RecordBatchReader.from_batches(SCHEMA, batches)).unchanged
        return tables.replace_partitions("t", SCHEMA, ["a"], parts).unchanged

    numbers = list(range(5_000))
    assert not write(*numbers)
    assert write(*numbers)
    assert not write(*numbers[:-1], 9)
    assert not write(*numbers[1:], numbers[0])
    assert [n for _, n in held(tables)] == numbers


@pytest.mark.parametrize("sorted_up_to", [-1, 16 << 20], ids=["streamed", "sorted"])
def test_no_number_is_the_same_no_number_wherever_it_stands(
    tables: RawTableIOManager, monkeypatch: pytest.MonkeyPatch, sorted_up_to: int
) -> None:
    monkeypatch.setattr(reading, "ARROW_BYTES_SORTED", sorted_up_to)
    nan = float("nan")
    ids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16, None], pa.binary(16)))
    points = pa.StructArray.from_arrays([pa.array([nan, 1.0], pa.float32()), ids], names=["x", "id"])
    content = pa.table(
        {
            "point": points,
            "points": pa.ListArray.from_arrays([0, 2, 2], points),
            "by_name": pa.array([[("a", [nan, 1.0])], None], pa.map_(pa.string(), pa.list_(pa.float64()))),
        }
    )
    tables.replace("t", content)

    assert tables.replace("t", content).unchanged
    assert not tables.replace("t", content.slice(1)).unchanged


def test_a_table_may_exist_before_its_first_row(tables: RawTableIOManager) -> None:
    tables.ensure("t", SCHEMA)

    assert tables.snapshots() == {"t": ""}
    assert tables.read("t").num_rows == 0


def test_a_missing_table_names_the_asset_that_makes_it(tables: RawTableIOManager) -> None:
    tables.ensure("t", SCHEMA)

    with pytest.raises(UpstreamMissing, match=f"materialize {RAW_NAMESPACE}/other first"):
        tables.read("other")


def test_a_table_is_partitioned_by_the_column_that_is_declared(tables: RawTableIOManager) -> None:
    schema = pa.schema([("day", pa.string()), ("n", pa.int64())])
    content = pa.table({"day": ["2026-01-01", "2026-01-02"], "n": [1, 2]}, schema=schema)
    tables.replace_partitions("t", schema, ["2026-01-01", "2026-01-02"], [content], column="day")
    tables.replace_partitions("t", schema, ["2026-01-02"], [], column="day")

    assert tables.read("t").to_pylist() == [{"day": "2026-01-01", "n": 1}]
    with pytest.raises(PermanentFailure, match="t is partitioned by day but declared with nothing"):
        tables.replace("t", content)
    with pytest.raises(PermanentFailure, match="the partition column n must be declared as string; it is long"):
        tables.replace_partitions("t", schema, ["1"], [content], column="n")


def test_what_is_not_declared_writable_refuses_every_writer(tables: RawTableIOManager) -> None:
    tables.replace_partitions("t", SCHEMA, ["a"], [rows("a", 1)])
    read_only = RawTableIOManager(kind="sql", uri=tables.uri, warehouse=tables.warehouse, writable=False)

    for write in (
        lambda: read_only.ensure("t", SCHEMA),
        lambda: read_only.replace("t", rows("a", 2)),
        lambda: read_only.replace_partitions("t", SCHEMA, ["a"], [rows("a", 2)]),
        lambda: read_only.replace_partitions("t", SCHEMA, [], []),
        lambda: next(read_only.keep_up()),
    ):
        with pytest.raises(PermanentFailure, match=r"does not declare the catalog .* writable; refused .* \[tables\]"):
            write()
    assert held(read_only) == [("a", 1)]


def test_reading_where_writing_is_not_allowed_makes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "tables"
    read_only = RawTableIOManager(kind="sql", uri=f"sqlite:///{root}/catalog.db", warehouse=str(root), writable=False)

    assert read_only.snapshots() == {}
    with pytest.raises(UpstreamMissing, match=f"there is no table t in sqlite:///{root}/catalog.db"):
        read_only.read("t")
    assert not root.exists()


def test_a_policy_stands_in_the_table_and_cannot_endanger_a_write(tables: RawTableIOManager) -> None:
    policy = TablePolicy(snapshots_kept=9, snapshot_age_hours=1, compact_above_files=7, orphan_age_hours=48)
    tables.replace_partitions("t", SCHEMA, ["a"], [rows("a", 1)], policy=policy)

    with tables._catalog("t") as catalog:
        stored = catalog.load_table((RAW_NAMESPACE, "t"))
    assert TablePolicy.of(stored.properties) == policy
    assert stored.properties["history.expire.min-snapshots-to-keep"] == "9"
    assert TablePolicy.of({"history.expire.max-snapshot-age-ms": "5400000"}).snapshot_age_hours == 2
    with pytest.raises(ValueError, match="orphan_age_hours is 1; state 24 or more"):
        TablePolicy(orphan_age_hours=1)


def test_a_file_that_is_too_young_or_unknown_is_no_orphan(tables: RawTableIOManager) -> None:
    tables.replace_partitions("t", SCHEMA, ["a"], [rows("a", 1)])
    folder = Path(tables.warehouse, RAW_NAMESPACE, "t", "data")
    half, note = folder / "half.parquet", folder / "note.txt"
    half.write_bytes(b"half")
    note.write_text("kept by a person")

    (young,) = tables.keep_up()
    (old,) = tables.keep_up(now=lambda: datetime.now(UTC) + timedelta(days=4))

    assert (young.removed, young.error) == (0, "")
    assert (old.removed, old.removed_bytes, old.error) == (1, 4, "")
    assert note.exists()
    assert not half.exists()
    assert held(tables) == [("a", 1)]


def test_a_list_of_files_that_lacks_one_is_not_trusted(tables: RawTableIOManager) -> None:
    tables.replace_partitions("t", SCHEMA, ["a"], [rows("a", 1)])
    tables.replace_partitions("t2", SCHEMA, ["a"], [rows("a", 1)])
    folder = Path(tables.warehouse, RAW_NAMESPACE, "t", "data")
    (lost,) = folder.rglob("*.parquet")
    orphan = folder / "orphan.parquet"
    orphan.write_bytes(b"half")
    lost.rename(folder.parent.parent / "elsewhere.parquet")

    failed, other = tables.keep_up(now=lambda: datetime.now(UTC) + timedelta(days=4))

    assert failed.error.startswith("PermanentFailure")
    assert lost.name in failed.error
    assert other.error == ""
    assert orphan.exists()


@pytest.mark.parametrize("status", [200, 401])
def test_what_a_catalog_answers_to_a_login_is_not_told(tmp_path: Path, status: int) -> None:
    canary = "canary-4711"

    def answer() -> None:
        if status == HTTPStatus.OK:
            TokenResponse.model_validate_json(json.dumps({"access_token": canary}))
        raise OAuthError(f"invalid_client: {canary}")

    stated = {"type": "sql", "uri": f"sqlite:///{tmp_path}/catalog.db"}
    with pytest.raises(PermanentFailure, match="t in the sql catalog") as failure, open_catalog(stated, "t"):
        answer()
    assert canary not in "".join(traceback.format_exception(failure.value))


def test_a_table_that_was_renamed_keeps_its_files_beside_a_new_one_of_its_name(tables: RawTableIOManager) -> None:
    tables.replace_partitions("t", SCHEMA, ["a"], [rows("a", 1)])
    with tables._catalog("t") as catalog:
        catalog.rename_table((RAW_NAMESPACE, "t"), (RAW_NAMESPACE, "t_2025"))
    tables.replace_partitions("t", SCHEMA, ["a"], [rows("a", 2)])
    new, old = tables.keep_up(now=lambda: datetime.now(UTC) + timedelta(days=4))

    assert "files of the table t_2025 are in" in new.error
    assert "files of the table t are in" in old.error
    assert [tables.read(name)["n"].to_pylist() for name in ("t_2025", "t")] == [[1], [2]]

    with tables._catalog("t") as catalog:
        catalog.drop_table((RAW_NAMESPACE, "t_2025"))
    (alone,) = tables.keep_up(now=lambda: datetime.now(UTC) + timedelta(days=4))
    assert alone.removed
    assert tables.read("t")["n"].to_pylist() == [2]


def test_a_context_made_by_hand_is_enough(tables: RawTableIOManager) -> None:
    context = dg.build_output_context(asset_key=dg.AssetKey("t"))
    tables.handle_output(context, pa.table({"n": [1, 2]}))

    assert tables.read("t")["n"].to_pylist() == [1, 2]
