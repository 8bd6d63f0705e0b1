"""Outcomes and submissions as events, and what follows from them, without a run."""

import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import dagster as dg
import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st
from ol_core.failures import OlError, PermanentFailure, TransientFailure
from ol_core.orchestration.desired_state import (
    MAX_ATTEMPTS,
    AttemptPolicy,
    Outcome,
    Step,
    attempts_reset,
    changed,
    decide,
    failed_attempt,
    held_versions,
    outcomes,
    submitted,
    succeeded,
    unfinished_submissions,
)
from ol_core.orchestration.exports import ExportLimits, Submission

KEY = dg.AssetKey("exports")
JOB = "export"
AT_ONCE = AttemptPolicy(backoff_seconds=0)
STEP = Step(JOB, KEY, "export_all")


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


def decided(instance: dg.DagsterInstance, **wanted: str) -> Mapping[str, str]:
    return decide(instance, STEP, wanted, AT_ONCE).requested


def person_runs(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, **tags: str) -> dg.DagsterRun:
    """Return a run as Dagster starts it from the asset's page."""
    run = dg.DagsterRun(
        job_name="__ASSET_JOB",
        run_id=str(uuid4()),
        status=status,
        tags={f"dagster/{tag}": value for tag, value in tags.items()},
        asset_selection=frozenset([KEY]),
    )
    return instance.add_run(run)


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


def test_attempts_at_a_version_that_comes_back_add_up(instance: dg.DagsterInstance) -> None:
    materialize(instance, "a", "1")
    tried = {"2": 0, "3": 0}
    for flip in range(40):
        version = "23"[flip % 2]
        if decided(instance, a=version):
            tried[version] += 1
            fail(instance, "a", version, TransientFailure("throttled"))
    assert tried == {"2": MAX_ATTEMPTS, "3": MAX_ATTEMPTS}
    assert outcomes(instance, KEY)["a"].version == "3"  # what is wanted now, and has failed
    materialize(instance, "a", "4")
    assert decided(instance, a="2") == {"a": "2"}  # a success clears it


def test_what_is_held_stays_held_when_a_newer_version_failed_and_is_taken_back(instance: dg.DagsterInstance) -> None:
    materialize(instance, "a", "1")
    fail(instance, "a", "2", PermanentFailure("corrupt"))
    for _ in range(3):
        assert decided(instance, a="1") == {}
        assert held_versions(instance, KEY) == {"a": "1"}
    assert len(instance.fetch_observations(KEY, limit=100).records) == 3  # made, failed, came back
    assert decided(instance, a="2") == {}
    assert outcomes(instance, KEY)["a"].ending == "p"
    fail(instance, "a", "3", PermanentFailure("corrupt"))
    assert decided(instance, a="1") == {}
    before = outcomes(instance, KEY, ["a"])["a"]
    instance.report_runless_asset_event(attempts_reset(KEY, "a", "1", before=before))
    assert decided(instance, a="1") == {"a": "1"}


def test_an_attempt_is_not_repeated_before_its_source_allows(instance: dg.DagsterInstance) -> None:
    fail(instance, "a", "1", TransientFailure("throttled", retry_after_seconds=3600))
    fail(instance, "b", "1", TransientFailure("throttled", retry_after_seconds=1e9))
    for minutes, due in [(0, {}), (59, {}), (70, {"a": "1"}), (60 * 40, {"a": "1", "b": "1"})]:
        with time_machine.travel(datetime.now(UTC) + timedelta(minutes=minutes), tick=True):
            assert changed(instance, KEY, {"a": "1", "b": "1"}) == decided(instance, a="1", b="1") == due, minutes


def test_what_a_run_of_the_assets_page_makes_is_not_requested(instance: dg.DagsterInstance) -> None:
    run = person_runs(instance, dg.DagsterRunStatus.STARTED, partition="a")
    decision = decide(instance, STEP, {"a": "1", "b": "1"})
    assert (decision.requested, decision.waiting) == ({"b": "1"}, {"a": "1"})
    assert decided(instance, a="1") == {}
    instance.report_run_canceled(run)
    ends = {"asset_partition_range_start": "a", "asset_partition_range_end": "c"}
    person_runs(instance, dg.DagsterRunStatus.STARTING, **ends)
    assert decided(instance, x="1") == {}  # only Dagster knows what lies between
    other = Step("other", dg.AssetKey("other"), "make")
    assert decide(instance, other, {"a": "1"}).requested == {"a": "1"}


def test_killed_runs_of_the_assets_page_count_once(instance: dg.DagsterInstance) -> None:
    wanted = {f"p{number}": "1" for number in range(25)}
    for partition in wanted:
        run = person_runs(instance, dg.DagsterRunStatus.NOT_STARTED, partition=partition)
        started = dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, job_name=run.job_name)
        instance.report_dagster_event(started, run.run_id)
        instance.report_run_failed(run)
    for _ in range(2):
        decide(instance, STEP, wanted)
    assert {one: outcome.attempts for one, outcome in outcomes(instance, KEY).items()} == dict.fromkeys(wanted, 1)


def test_submissions_are_found_until_their_export_has_an_outcome(instance: dg.DagsterInstance) -> None:
    now = time.time()
    kept = [Submission(name, "1", f"task {name}", "", now) for name in "abc"]
    instance.report_runless_asset_event(submitted(KEY, kept, run_id="r1"))
    materialize(instance, "a", "1")
    killed = failed_attempt(KEY, "b", "1", TransientFailure("killed"), tags={"ol/run_id": "r1"})
    instance.report_runless_asset_event(killed)
    newer = Submission("c", "2", "task of a newer version", "", now)
    instance.report_runless_asset_event(submitted(KEY, [newer], run_id="r2"))
    found = unfinished_submissions(instance, KEY, ExportLimits(deadline_seconds=60))
    assert found == {one.remote_id: one for one in (kept[1], kept[2], newer)}


def test_an_export_that_was_given_up_at_its_deadline_is_unfinished_until_it_counts_as_dead(
    instance: dg.DagsterInstance,
) -> None:
    limits = ExportLimits(deadline_seconds=60)
    ages = {"early": 59 - 10, "late": 61, "dead": limits.dead_after_seconds + 1, "collected": 61}
    kept = {one: Submission(one, "1", f"task {one}", "", time.time() - age) for one, age in ages.items()}
    for submission in kept.values():
        with time_machine.travel(submission.submitted_at, tick=False):
            instance.report_runless_asset_event(submitted(KEY, [submission], run_id="r1"))
    for partition in kept:
        fail(instance, partition, "1", TransientFailure("lost, or still at work at its deadline"))
    materialize(instance, "collected", "1")
    instance.report_runless_asset_event(attempts_reset(KEY, "late"))
    assert list(unfinished_submissions(instance, KEY, limits)) == ["task late"]

    again = Submission("late", "1", "task again", "", time.time())
    instance.report_runless_asset_event(submitted(KEY, [again], run_id="r2"))
    materialize(instance, "late", "1")
    assert list(unfinished_submissions(instance, KEY, limits)) == ["task late"]


@given(
    st.builds(
        Outcome,
        version=st.text("abc.-_0", min_size=1, max_size=45),
        attempts=st.integers(0, 999),
        ending=st.sampled_from("shtpqmr"),
        at=st.integers(0, 10**11 - 1),
        retired=st.booleans(),
        pause=st.integers(0, 17),
    )
)
def test_an_outcome_survives_being_written(outcome: Outcome) -> None:
    assert Outcome.parse(outcome.data_version) == outcome
    assert re.fullmatch(r"[A-Za-z0-9_.-]{1,63}", outcome.data_version)
