"""Outcomes and submissions as events, and what follows from them, without a run."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ol_core.failures import OlError, PermanentFailure, TransientFailure
from ol_core.orchestration.desired_state import (
    MAX_ATTEMPTS,
    AttemptPolicy,
    Outcome,
    changed,
    failed_attempt,
    outcomes,
    submitted,
    succeeded,
    unfinished_submissions,
)
from ol_core.orchestration.exports import Submission

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


def test_submissions_are_found_until_their_export_has_an_outcome(instance: dg.DagsterInstance) -> None:
    now = time.time()
    kept = [Submission(name, "1", f"task {name}", "", now) for name in "abc"]
    instance.report_runless_asset_event(submitted(KEY, kept, run_id="r1"))
    materialize(instance, "a", "1")
    killed = failed_attempt(KEY, "b", "1", TransientFailure("killed"), tags={"ol/run_id": "r1"})
    instance.report_runless_asset_event(killed)
    newer = Submission("c", "2", "task of a newer version", "", now)
    instance.report_runless_asset_event(submitted(KEY, [newer], run_id="r2"))
    found = unfinished_submissions(instance, KEY, ["a", "b", "c", "d"], max_age_seconds=60)
    assert found == {"b": kept[1], "c": newer}


@given(
    st.builds(
        Outcome,
        version=st.text("abc.-_0", min_size=1, max_size=45),
        attempts=st.integers(0, 999),
        ending=st.sampled_from("stpqmr"),
        at=st.integers(0, 10**11 - 1),
        retired=st.booleans(),
    )
)
def test_an_outcome_survives_being_written(outcome: Outcome) -> None:
    assert Outcome.parse(outcome.data_version) == outcome
    assert re.fullmatch(r"[A-Za-z0-9_.-]{1,63}", outcome.data_version)
