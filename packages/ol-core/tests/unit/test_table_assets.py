"""Assets of raw tables, as Dagster runs them: what is written, the version that each event has, what people see."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from ol_core.environment import RAW_NAMESPACE
from ol_core.failures import PermanentFailure
from ol_core.orchestration.desired_state import DATA_VERSION_TAG
from ol_core.tables import RawTableIOManager, TablePolicy, maintenance_asset
from pyarrow.dataset import dataset

KEY = dg.AssetKey([RAW_NAMESPACE, "raw__campus__rows"])
SCHEMA = pa.schema(
    [
        pa.field("course_id", pa.string(), nullable=False, metadata={"doc": "The course."}),
        pa.field("n", pa.int64(), metadata={"doc": "A number."}),
    ]
)
COURSES = dg.StaticPartitionsDefinition(["a", "b", "c"])
CONTENT = {"a": [1, 2], "b": [3], "c": [4]}


@pytest.fixture
def content() -> dict[str, list[int]]:
    return dict(CONTENT)


@pytest.fixture
def tables(tmp_path: Path) -> RawTableIOManager:
    root = tmp_path / "tables"
    return RawTableIOManager(kind="sql", uri=f"sqlite:///{root}/catalog.db", warehouse=str(root), writable=True)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def stream(content: dict[str, list[int]], courses: Sequence[str]) -> pa.RecordBatchReader:
    """Record batches, one at a time, with the declared schema."""
    rows = ([{"course_id": course, "n": n} for n in content[course]] for course in courses)
    return pa.RecordBatchReader.from_batches(SCHEMA, (pa.RecordBatch.from_pylist(some, schema=SCHEMA) for some in rows))


def whole(content: dict[str, list[int]]) -> dg.AssetsDefinition:
    @dg.asset(key=KEY, io_manager_key="raw_table_io_manager")
    def rows() -> pa.RecordBatchReader:
        return stream(content, list(content))

    return rows


def by_course(content: dict[str, list[int]]) -> dg.AssetsDefinition:
    @dg.asset(
        key=KEY,
        partitions_def=COURSES,
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key="raw_table_io_manager",
    )
    def rows(context: dg.AssetExecutionContext) -> pa.RecordBatchReader:
        return stream(content, context.partition_keys)

    return rows


def run(
    asset: dg.AssetsDefinition, tables: RawTableIOManager, instance: dg.DagsterInstance, courses: str = ""
) -> dict[str | None, dg.AssetMaterialization]:
    """Materialize an asset for courses such as `a` or `a..c`; return the event of each partition."""
    first, _, last = courses.partition("..")
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last} if last else {}
    done = dg.materialize(
        [asset],
        instance=instance,
        resources={"raw_table_io_manager": tables},
        partition_key=first if first and not last else None,
        tags=tags,
    )
    return {event.partition: event for event in done.asset_materializations_for_node(asset.node_def.name)}


def version(event: dg.AssetMaterialization) -> str:
    return (event.tags or {})[DATA_VERSION_TAG]


def test_an_identical_rerun_has_the_same_data_version_and_says_unchanged(
    tables: RawTableIOManager, instance: dg.DagsterInstance, content: dict[str, list[int]]
) -> None:
    (first,) = run(whole(content), tables, instance).values()
    (again,) = run(whole(content), tables, instance).values()
    content["b"] = [9]
    (changed,) = run(whole(content), tables, instance).values()

    assert version(first) == version(again)
    assert version(changed) != version(first)
    assert [event.metadata["unchanged"].value for event in (first, again, changed)] == [False, True, False]
    assert again.metadata["snapshot_id"] == first.metadata["snapshot_id"]
    assert again.metadata["rows_written"].value == 0


def test_people_see_rows_bytes_snapshot_and_described_columns(
    tables: RawTableIOManager, instance: dg.DagsterInstance, content: dict[str, list[int]]
) -> None:
    (event,) = run(whole(content), tables, instance).values()

    columns = event.metadata["dagster/column_schema"].value
    assert isinstance(columns, dg.TableSchema)
    assert [(one.name, one.type, one.description) for one in columns.columns] == [
        ("course_id", "string", "The course."),
        ("n", "long", "A number."),
    ]
    assert event.metadata["dagster/row_count"].value == 4
    assert event.metadata["rows_written"].value == 4
    assert event.metadata["dagster/table_name"].value == f"{RAW_NAMESPACE}.raw__campus__rows"
    files = list(Path(tables.warehouse).rglob("data/**/*.parquet"))
    assert event.metadata["size_bytes"].value == sum(file.stat().st_size for file in files)
    with tables._catalog("") as catalog:
        snapshot = catalog.load_table(tuple(KEY.path)).current_snapshot()
    assert snapshot is not None
    assert event.metadata["snapshot_id"].value == str(snapshot.snapshot_id)


def test_a_run_replaces_its_partition_and_leaves_the_versions_of_the_others(
    tables: RawTableIOManager, instance: dg.DagsterInstance, content: dict[str, list[int]]
) -> None:
    asset = by_course(content)
    first = run(asset, tables, instance, "a..c")
    content.update(a=[7], b=[8])
    changed = run(asset, tables, instance, "a")
    same = run(asset, tables, instance, "c")

    assert sorted((row["course_id"], row["n"]) for row in tables.read(KEY.path[-1]).to_pylist()) == [
        ("a", 7),
        ("b", 3),
        ("c", 4),
    ]
    assert {name: event.metadata["dagster/partition_row_count"].value for name, event in first.items()} == {
        "a": 2,
        "b": 1,
        "c": 1,
    }
    assert version(changed["a"]) != version(first["a"])
    assert version(same["c"]) == version(first["c"])
    assert (changed["a"].metadata["unchanged"].value, same["c"].metadata["unchanged"].value) == (False, True)


def test_a_run_of_many_partitions_is_one_commit_and_unchanged_the_second_time(
    tables: RawTableIOManager, instance: dg.DagsterInstance, content: dict[str, list[int]]
) -> None:
    asset = by_course(content)
    first = run(asset, tables, instance, "a..c")
    again = run(asset, tables, instance, "a..c")
    content["b"] = []
    emptied = run(asset, tables, instance, "a..c")

    assert {version(event) for event in first.values()} == {version(event) for event in again.values()}
    assert all(event.metadata["unchanged"].value for event in again.values())
    assert emptied["b"].metadata["dagster/partition_row_count"].value == 0
    assert len({event.metadata["snapshot_id"].value for event in emptied.values()}) == 1
    assert tables.read(KEY.path[-1], ["a", "b"]).num_rows == 2


def test_what_follows_is_requested_by_a_change_and_not_by_an_identical_rerun(
    tables: RawTableIOManager, instance: dg.DagsterInstance, content: dict[str, list[int]]
) -> None:
    rows = whole(content)
    condition = dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed())

    @dg.asset(deps=[KEY], automation_condition=condition)
    def model() -> None: ...

    definitions = dg.Definitions(assets=[rows, model], resources={"raw_table_io_manager": tables})

    requested, cursor = [], None
    for changed in (None, None, "a"):
        if changed:
            content[changed] = [99]
        run(rows, tables, instance)
        ticked = dg.evaluate_automation_conditions(definitions, instance, cursor=cursor)
        cursor = ticked.cursor
        requested.append(ticked.total_requested)

    assert requested == [0, 0, 1]


def test_an_asset_that_states_its_own_version_keeps_it(
    tables: RawTableIOManager, instance: dg.DagsterInstance, content: dict[str, list[int]]
) -> None:
    @dg.asset(key=KEY, io_manager_key="raw_table_io_manager")
    def rows() -> dg.MaterializeResult[Any]:
        return dg.MaterializeResult(value=stream(content, ["a"]), data_version=dg.DataVersion("of the source"))

    (event,) = run(rows, tables, instance).values()

    assert version(event) == "of the source"
    assert event.metadata["dagster/row_count"].value == 2


def test_an_asset_may_write_by_itself_and_hand_the_version_on(
    tables: RawTableIOManager, instance: dg.DagsterInstance, content: dict[str, list[int]]
) -> None:
    @dg.asset(key=KEY)
    def rows(raw_table_io_manager: dg.ResourceParam[RawTableIOManager]) -> dg.MaterializeResult[None]:
        batches = stream(content, ["a", "b"])
        commit = raw_table_io_manager.replace_partitions(KEY.path[-1], SCHEMA, ["a", "b"], batches)
        return dg.MaterializeResult(metadata=commit.metadata, data_version=commit.data_version)

    (first,) = run(rows, tables, instance).values()
    (again,) = run(rows, tables, instance).values()

    assert version(first) == version(again)
    assert again.metadata["unchanged"].value is True


def test_policy_and_partition_column_are_declared_beside_the_asset(
    tables: RawTableIOManager, instance: dg.DagsterInstance
) -> None:
    policy = TablePolicy(snapshots_kept=2, compact_above_files=9)
    schema = pa.schema([("day", pa.string()), ("n", pa.int64())])

    @dg.asset(
        key=KEY,
        partitions_def=dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-03"),
        io_manager_key="raw_table_io_manager",
        metadata={"partition_expr": dg.MetadataValue.text("day"), **policy.properties},
    )
    def events(context: dg.AssetExecutionContext) -> pa.Table:
        return pa.table({"day": [context.partition_key], "n": [1]}, schema=schema)

    run(events, tables, instance, "2026-01-01")
    run(events, tables, instance, "2026-01-02")

    with tables._catalog("") as catalog:
        assert TablePolicy.of(catalog.load_table(tuple(KEY.path)).properties) == policy
    assert tables.read(KEY.path[-1], ["2026-01-02"]).to_pylist() == [{"day": "2026-01-02", "n": 1}]


def test_an_input_is_what_its_partition_maps_to(
    tables: RawTableIOManager, instance: dg.DagsterInstance, content: dict[str, list[int]]
) -> None:
    seen: list[list[int]] = []

    @dg.asset(partitions_def=COURSES, ins={"rows": dg.AssetIn(KEY, input_manager_key="raw_table_io_manager")})
    def course(rows: pa.Table) -> None:
        seen.append(rows["n"].to_pylist())

    resources = {"raw_table_io_manager": tables}
    run(by_course(content), tables, instance, "a..c")
    external = dg.AssetSpec(KEY, partitions_def=COURSES)
    dg.materialize([course, external], instance=instance, resources=resources, partition_key="b")

    assert seen == [[3]]


@pytest.mark.parametrize("handed_over", [[{"n": 1}], dataset(pa.table({"n": [1]}))], ids=["list", "dataset"])
def test_what_is_no_rows_is_refused_by_name(
    tables: RawTableIOManager, instance: dg.DagsterInstance, handed_over: object
) -> None:
    @dg.asset(key=KEY, io_manager_key="raw_table_io_manager")
    def rows() -> object:
        return handed_over

    kind = type(handed_over).__name__
    with pytest.raises(PermanentFailure, match=f"raw__campus__rows: the asset returned a {kind}; return a pyarrow Tab"):
        run(rows, tables, instance)


@pytest.mark.parametrize(
    ("declared", "why"),
    [
        ({"ol.orphan-age-hours": "3 days"}, "ol.orphan-age-hours is '3 days'; state a whole number, in the metadata"),
        ({"ol.orphan-age-hours": "3"}, "orphan_age_hours is 3; state 24 or more, since"),
        ({"partition_expr": {"day": "day"}}, r"partition_expr is {'day': 'day'}; state the name of one column"),
    ],
    ids=["no number", "too short", "two columns"],
)
def test_a_declaration_that_no_table_can_follow_is_refused_by_name(
    tables: RawTableIOManager, instance: dg.DagsterInstance, declared: dict[str, object], why: str
) -> None:
    @dg.asset(key=KEY, io_manager_key="raw_table_io_manager", metadata=declared)
    def rows() -> pa.Table:
        return pa.table({"n": [1]})

    with pytest.raises(PermanentFailure, match=f"raw__campus__rows: {why}"):
        run(rows, tables, instance)
    assert tables.snapshots() == {}


def upkeep() -> dg.AssetsDefinition:
    return maintenance_asset(dg.AssetKey("upkeep"), group="upkeep", owners=["team:data"], pool="upkeep")


def maintained(tables: RawTableIOManager, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    return dg.materialize([upkeep()], instance=instance, resources={"raw_table_io_manager": tables})


def test_maintenance_shows_what_became_of_each_table(
    tables: RawTableIOManager, instance: dg.DagsterInstance, content: dict[str, list[int]]
) -> None:
    run(whole(content), tables, instance)
    tables.ensure("empty", SCHEMA)

    done = maintained(tables, instance)

    (event,) = done.asset_materializations_for_node("upkeep")
    shown = event.metadata["tables"].value
    assert "| table | compacted | expired | removed | removed MiB | snapshots | files | remark |" in str(shown)
    assert "| raw__campus__rows | 0 | 0 | 0 | 0.0 | 1 | 1 |  |" in str(shown)
    assert "| empty | 0 | 0 | 0 | 0.0 | 0 | 0 |  |" in str(shown)
    assert (event.metadata["tables_maintained"].value, event.metadata["tables_failed"].value) == (2, 0)
    assert [check.passed for check in done.get_asset_check_evaluations()] == [True]


def test_a_table_without_a_policy_is_left_alone_and_shown_so(
    tables: RawTableIOManager, instance: dg.DagsterInstance, content: dict[str, list[int]]
) -> None:
    run(whole(content), tables, instance)
    with tables._catalog("foreign") as catalog:  # as another engine would
        foreign = catalog.create_table((RAW_NAMESPACE, "foreign"), pa.schema([("n", pa.int64())]))
        for number in range(8):
            foreign.append(pa.table({"n": [number]}))
    files = sorted(Path(tables.warehouse, RAW_NAMESPACE, "foreign").rglob("*"))

    (left, kept) = tables.keep_up(now=lambda: datetime.now(UTC) + timedelta(days=30))
    (event,) = maintained(tables, instance).asset_materializations_for_node("upkeep")

    assert (left.table, left.left_alone, left.error, kept.left_alone) == ("foreign", True, "", False)
    assert sorted(Path(tables.warehouse, RAW_NAMESPACE, "foreign").rglob("*")) == files
    assert "| foreign |  |  |  |  |  |  | left alone: it declares no policy |" in str(event.metadata["tables"].value)
    assert (event.metadata["tables_maintained"].value, event.metadata["tables_left_alone"].value) == (1, 1)


def test_a_table_that_fails_costs_the_others_nothing_and_fails_the_check(
    tables: RawTableIOManager, instance: dg.DagsterInstance, content: dict[str, list[int]]
) -> None:
    run(whole(content), tables, instance)
    tables.replace("broken", pa.table({"n": [1]}))
    for manifest in (Path(tables.warehouse) / RAW_NAMESPACE / "broken" / "metadata").glob("*.avro"):
        manifest.unlink()

    done = maintained(tables, instance)

    (check,) = done.get_asset_check_evaluations()
    (event,) = done.asset_materializations_for_node("upkeep")
    assert not check.passed
    assert "broken" in str(check.metadata["failed"].value)
    assert "raw__campus__rows" not in str(check.metadata["failed"].value)
    assert (event.metadata["tables_maintained"].value, event.metadata["tables_failed"].value) == (1, 1)


def test_maintenance_fails_where_every_table_does(tables: RawTableIOManager, instance: dg.DagsterInstance) -> None:
    tables.replace("broken", pa.table({"n": [1]}))
    for manifest in (Path(tables.warehouse) / RAW_NAMESPACE / "broken" / "metadata").glob("*.avro"):
        manifest.unlink()

    with pytest.raises(dg.Failure, match="the maintenance of all 1 raw tables failed; the first: "):
        maintained(tables, instance)


def test_maintenance_refuses_a_catalog_that_is_not_writable(
    tables: RawTableIOManager, instance: dg.DagsterInstance
) -> None:
    tables.replace("one", pa.table({"n": [1]}))
    read_only = RawTableIOManager(kind="sql", uri=tables.uri, warehouse=tables.warehouse, writable=False)

    with pytest.raises(PermanentFailure, match="refused to write the maintenance of raw tables"):
        maintained(read_only, instance)
