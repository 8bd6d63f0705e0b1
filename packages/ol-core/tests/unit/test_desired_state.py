from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from ol_core.desired_state import (
    MAX_ATTEMPTS,
    AttemptPolicy,
    changed,
    contiguous_ranges,
    failed_attempt,
    outcomes,
    recorded,
    run_requests,
    succeeded,
)
from ol_core.failures import OlError, PermanentFailure, TransientFailure

KEY = dg.AssetKey("exports")
JOB = "export"
AT_ONCE = AttemptPolicy(backoff_seconds=0)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path)) as made:
        yield made


def materialize(instance: dg.DagsterInstance, partition: str, version: str) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(KEY, partition=partition))
    instance.report_runless_asset_event(succeeded(KEY, partition, version))


def fail(instance: dg.DagsterInstance, partition: str, version: str, error: OlError) -> None:
    before = outcomes(instance, KEY, [partition]).get(partition)
    instance.report_runless_asset_event(failed_attempt(KEY, partition, version, error, before=before))


def test_what_was_never_held_or_moved_is_requested(instance: dg.DagsterInstance) -> None:
    materialize(instance, "same", "1")
    materialize(instance, "moved", "1")

    assert changed(instance, KEY, {"same": "1", "moved": "2", "new": "1"}) == {"moved": "2", "new": "1"}


def test_only_the_newest_materialization_counts(instance: dg.DagsterInstance) -> None:
    materialize(instance, "a", "1")
    materialize(instance, "a", "2")

    assert changed(instance, KEY, {"a": "1"}) == {"a": "1"}


def test_a_permanent_failure_is_not_tried_again_until_the_version_moves(instance: dg.DagsterInstance) -> None:
    fail(instance, "a", "1", PermanentFailure("corrupt"))

    assert changed(instance, KEY, {"a": "1"}) == {}
    assert changed(instance, KEY, {"a": "2"}) == {"a": "2"}


def test_transient_failures_are_tried_again_within_a_budget(instance: dg.DagsterInstance) -> None:
    for attempt in range(1, MAX_ATTEMPTS + 1):
        fail(instance, "a", "1", TransientFailure("throttled"))
        assert bool(changed(instance, KEY, {"a": "1"}, AT_ONCE)) is (attempt < MAX_ATTEMPTS)


@pytest.mark.parametrize(
    ("partitions", "ranges"),
    [
        ([], []),
        (["a"], [("a", "a")]),
        (["c", "a", "b"], [("a", "c")]),
        (["a", "b", "d"], [("a", "b"), ("d", "d")]),
    ],
)
def test_a_run_takes_a_contiguous_stretch(partitions: list[str], ranges: list[tuple[str, str]]) -> None:
    assert list(contiguous_ranges(partitions, ["a", "b", "c", "d"])) == ranges


def test_nothing_is_requested_while_a_run_of_the_job_is_unfinished(instance: dg.DagsterInstance) -> None:
    assert len(list(run_requests(instance, JOB, {"a": "1"}, ["a"]))) == 1

    instance.add_run(dg.DagsterRun(job_name=JOB, run_id="00000000-0000-4000-8000-000000000001", status=_STARTED))

    assert list(run_requests(instance, JOB, {"a": "1"}, ["a"])) == []


_STARTED = dg.DagsterRunStatus.STARTED


def test_a_bad_partition_fails_the_run_and_costs_the_others_nothing(instance: dg.DagsterInstance) -> None:
    partitions = dg.StaticPartitionsDefinition(["a", "bad", "c"])

    @dg.asset(key=KEY, partitions_def=partitions, output_required=False, backfill_policy=dg.BackfillPolicy.single_run())
    def exports(context: dg.AssetExecutionContext) -> Iterator[dg.AssetMaterialization | dg.AssetObservation]:
        outcomes: list[tuple[str, str | OlError]] = [
            (partition, PermanentFailure("cut short") if partition == "bad" else partition)
            for partition in context.partition_keys
        ]
        wanted = dict.fromkeys(context.partition_keys, "1")
        yield from recorded(
            KEY,
            wanted,
            outcomes,
            lambda partition, _: [dg.AssetMaterialization(KEY, partition=partition)],
        )

    tags = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "c"}
    result = dg.materialize([exports], instance=instance, tags=tags, raise_on_error=False)

    assert not result.success
    assert instance.get_materialized_partitions(KEY) == {"a", "c"}
    assert changed(instance, KEY, {"a": "1", "bad": "1", "c": "1"}) == {}
    (failure,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert failure.user_failure_data is not None
    assert "1 of 3 partitions failed" in str(failure.user_failure_data.description)
    assert "- bad: PermanentFailure: cut short" in str(failure.user_failure_data.description)
