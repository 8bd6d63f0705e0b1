"""What `ol_core.dagster_storage` uses of Dagster, held to what it must do; a release that changes it fails here."""

import ast
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import ol_core
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from ol_core.dagster_storage import (
    DATA_VERSION_TAG,
    count_endings,
    is_backfilling,
    keep_connections,
    latest_check,
    latest_data_versions,
    latest_event_ids,
    newest_tag_id,
    sample_event_ids,
    tag_run,
)
from sqlalchemy import event

KEY, OTHER = dg.AssetKey(["a", "exports"]), dg.AssetKey(["a", "other"])
PATTERN = "-[0-9]+[tp][0-9]{10}$"


@pytest.fixture(params=["in a folder", "in memory"])
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    if request.param == "in memory":
        with dg.DagsterInstance.ephemeral() as made:
            yield made
    else:
        with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
            yield made


def observe(instance: dg.DagsterInstance, partition: str | None, version: str, key: dg.AssetKey = KEY) -> None:
    tags = {DATA_VERSION_TAG: version}
    instance.report_runless_asset_event(dg.AssetObservation(key, partition=partition, tags=tags))


@contextmanager
def statements() -> Iterator[list[str]]:
    from sqlalchemy import Engine

    seen: list[str] = []

    def keep(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", keep)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", keep)


def test_the_newest_data_version_of_each_partition(instance: dg.DagsterInstance) -> None:
    observe(instance, "one", "1")
    observe(instance, "one", "2")
    observe(instance, "two", "3")
    observe(instance, "two", "4", key=OTHER)
    made = dg.AssetMaterialization(KEY, partition="one", tags={DATA_VERSION_TAG: "m"})
    instance.report_runless_asset_event(made)

    assert latest_data_versions(instance, KEY, "observation") == {"one": "2", "two": "3"}
    assert latest_data_versions(instance, KEY, "materialization") == {"one": "m"}
    assert latest_data_versions(instance, KEY, "observation", ["two", "three"]) == {"two": "3"}
    assert latest_data_versions(instance, KEY, "observation", []) == {}


def test_all_partitions_are_asked_for_by_one_query_whatever_their_number(instance: dg.DagsterInstance) -> None:
    asked = []
    for number in (1, 20):
        for partition in range(number):
            observe(instance, str(partition), "1")
        with statements() as seen:
            latest_data_versions(instance, KEY, "observation")
        asked.append(len(seen))
    assert asked[0] == asked[1]


def test_ids_lead_to_the_newest_events(instance: dg.DagsterInstance) -> None:
    observe(instance, "one", "1")
    observe(instance, "one", "2")
    ids = latest_event_ids(instance, KEY, "observation", ["one"])
    page = dg.AssetRecordsFilter(asset_key=KEY, storage_ids=list(ids.values()))
    (record,) = instance.fetch_observations(page, limit=10).records
    assert record.asset_observation is not None
    assert record.asset_observation.tags[DATA_VERSION_TAG] == "2"


def test_the_newest_evaluation_of_a_check_with_its_metadata(instance: dg.DagsterInstance) -> None:
    assert latest_check(instance, KEY, "inventory") is None
    for passed in (True, False):
        metadata = {"gone": dg.MetadataValue.json(["a", "b"])}
        evaluation = dg.AssetCheckEvaluation(asset_key=KEY, check_name="inventory", passed=passed, metadata=metadata)
        instance.report_runless_asset_event(evaluation)
    found = latest_check(instance, KEY, "inventory")
    assert found is not None
    assert (found.passed, found.metadata["gone"].value) == (False, ["a", "b"])
    assert latest_check(instance, KEY, "another") is None


@pytest.mark.parametrize("status", list(BulkActionStatus))
def test_only_an_unfinished_backfill_counts(instance: dg.DagsterInstance, status: BulkActionStatus) -> None:
    backfill = PartitionBackfill(
        backfill_id="b",
        status=status,
        from_failure=False,
        tags={},
        backfill_timestamp=0.0,
        asset_selection=[KEY],
        partition_names=["one"],
    )
    assert not is_backfilling(instance)
    instance.add_backfill(backfill)
    unfinished = {BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING}
    assert is_backfilling(instance) is (status in unfinished)


def test_endings_are_counted_by_window(instance: dg.DagsterInstance) -> None:
    for at, ending in [(1_000_000_000, "t"), (1_000_000_299, "t"), (1_000_000_300, "t"), (1_000_000_301, "p")]:
        observe(instance, "one", f"v-1{ending}{at}")
    observe(instance, "one", "v-0s1000000302")
    observe(instance, "one", "v-1t1000000302x")
    observe(instance, None, "v-1t1000000302")
    observe(instance, "one", "v-1t1000000302", key=OTHER)
    window = 1_000_000_000 // 300

    counts, newest = count_endings(instance, [KEY], PATTERN, after_id=0, since=1_000_000_000, window_seconds=300)

    assert newest == newest_tag_id(instance)
    assert {(one.ending, one.window - window, one.count) for one in counts} == {("t", 0, 1), ("t", 1, 3), ("p", 1, 1)}
    (first,) = [one for one in counts if one.count == 3]
    assert (first.first_at, first.last_at) == (1_000_000_299, 1_000_000_302)
    assert count_endings(instance, [KEY], PATTERN, after_id=newest, since=0, window_seconds=300) == ([], newest)
    late, _ = count_endings(instance, [KEY], PATTERN, after_id=0, since=1_000_000_301, window_seconds=300)
    assert sum(one.count for one in late) == 2


def test_a_sample_of_what_was_counted(instance: dg.DagsterInstance) -> None:
    for number in range(9):
        observe(instance, str(number), f"v-1t{1_000_000_000 + number}")
        observe(instance, str(number), f"v-1p{1_000_000_000 + number}")
    counts, _ = count_endings(instance, [KEY], PATTERN, after_id=0, since=0, window_seconds=10**6)
    (counted,) = [one for one in counts if one.ending == "t"]
    ids = sample_event_ids(instance, counted, PATTERN, window_seconds=10**6, limit=3)
    some = dg.AssetRecordsFilter(asset_key=KEY, storage_ids=ids)
    records = instance.fetch_observations(some, limit=10).records
    found = [record.asset_observation.tags[DATA_VERSION_TAG] for record in records if record.asset_observation]
    assert found == ["v-1t1000000008", "v-1t1000000007", "v-1t1000000006"]


def test_what_was_before_is_not_looked_at(instance: dg.DagsterInstance) -> None:
    observe(instance, "one", "v-1t1000000000")
    with statements() as seen:
        count_endings(instance, [KEY], PATTERN, after_id=7, since=0, window_seconds=300)
    counting = next(statement for statement in seen if "GROUP BY" in statement)
    with sqlite3.connect(":memory:") as plain:
        plain.create_function("regexp", 2, lambda *_: True)
        plain.execute(
            "create table asset_event_tags (id integer primary key, event_id, asset_key, key, value, event_timestamp)"
        )
        plain.execute("create index i on asset_event_tags (asset_key, key, value)")
        (plan,) = [row[3] for row in plain.execute(f"explain query plan {counting}", [1] * counting.count("?"))][:1]
    assert "USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)" in plan


def test_tags_are_added_to_a_run(instance: dg.DagsterInstance) -> None:
    run = instance.add_run(dg.DagsterRun(job_name="job", tags={"kept": "1"}))
    tag_run(instance, run.run_id, {"added": "2"})
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    assert {"kept": "1", "added": "2"}.items() <= found.tags.items()


def test_connections_are_kept_where_the_storage_has_any(instance: dg.DagsterInstance) -> None:
    keep_connections(instance)
    observe(instance, "a", "1")

    assert latest_data_versions(instance, KEY, "observation") == {"a": "1"}


def test_nothing_else_imports_what_dagster_does_not_promise() -> None:
    sources = {path for path in Path(ol_core.__file__).parent.rglob("*.py") if path.name != "dagster_storage.py"}
    private = [
        (path.name, node.module)
        for path in sources
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and "dagster" in (node.module or "") and "._" in f"{node.module}"
    ]
    assert private == []


def test_no_partitions_are_none_of_them(instance: dg.DagsterInstance) -> None:
    observe(instance, "a", "1")
    with statements() as asked:
        assert latest_data_versions(instance, KEY, "observation", []) == {}
        assert latest_event_ids(instance, KEY, "observation", []) == {}
    assert asked == []
