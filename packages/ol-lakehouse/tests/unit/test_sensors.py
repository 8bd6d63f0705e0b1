"""When a build is requested: once for the same snapshots, and where it fails a bounded number of times."""

import time
from collections.abc import Iterator, Mapping
from datetime import datetime

import dagster as dg
import pytest
import time_machine
from ol_core.orchestration.desired_state import WANTED_VERSION_TAG, AttemptPolicy, attempts_reset
from ol_lakehouse.sensors import BUILDS, build_sensor

MANIFEST = {"sources": {"source.one": {"name": "raw__one"}}, "nodes": {}}
POLICY = AttemptPolicy(attempts=3, backoff_seconds=100)


class Tables:
    """Raw tables by name, and the snapshot of each."""

    def __init__(self, **snapshots: int) -> None:
        self.held = snapshots

    def snapshots(self) -> Mapping[str, int]:
        return self.held


@dg.op
def build() -> None: ...


@dg.job
def building() -> None:
    build()


SENSOR = build_sensor("building", MANIFEST, seconds=60, policy=POLICY)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def tick(instance: dg.DagsterInstance, tables: Tables) -> dg.RunRequest | str:
    context = dg.build_sensor_context(instance=instance, resources={"raw_table_io_manager": tables})
    found = SENSOR(context)
    assert isinstance(found, dg.RunRequest | dg.SkipReason)
    return found if isinstance(found, dg.RunRequest) else str(found.skip_message)


def requested(instance: dg.DagsterInstance, tables: Tables) -> dg.DagsterRun:
    request = tick(instance, tables)
    assert isinstance(request, dg.RunRequest), request
    return instance.create_run_for_job(building, tags=dict(request.tags))


def test_nothing_is_built_from_tables_that_are_not_there(instance: dg.DagsterInstance) -> None:
    assert tick(instance, Tables()) == "1 raw tables are not there yet, such as raw__one"


def test_the_same_snapshots_are_built_once(instance: dg.DagsterInstance) -> None:
    request = tick(instance, Tables(raw__one=1))
    assert isinstance(request, dg.RunRequest)
    assert building.execute_in_process(instance=instance, tags=dict(request.tags)).success

    assert tick(instance, Tables(raw__one=1)) == "the models are built from the current snapshots"
    assert isinstance(tick(instance, Tables(raw__one=2)), dg.RunRequest)


def test_a_build_under_way_is_waited_for(instance: dg.DagsterInstance) -> None:
    requested(instance, Tables(raw__one=1))

    assert tick(instance, Tables(raw__one=2)) == "a build is under way"


def test_a_failed_build_is_tried_again_after_pauses_that_double_and_then_no_more(instance: dg.DagsterInstance) -> None:
    with time_machine.travel(datetime.fromisoformat("2026-09-01T00:00:00+00:00"), tick=False) as clock:
        started = time.time()
        attempts = []
        for _ in range(60):
            request = tick(instance, Tables(raw__one=1))
            if isinstance(request, dg.RunRequest):
                run = instance.create_run_for_job(building, tags=dict(request.tags))
                instance.report_run_failed(run)
                attempts.append(time.time() - started)
            clock.shift(10)

        assert attempts == [0, 100, 300]
        assert "3 builds of these snapshots failed; repair the models" in str(tick(instance, Tables(raw__one=1)))
        assert isinstance(tick(instance, Tables(raw__one=2)), dg.RunRequest)


def test_what_a_person_canceled_is_no_failed_attempt(instance: dg.DagsterInstance) -> None:
    run = requested(instance, Tables(raw__one=1))
    instance.report_run_canceled(run)

    again = tick(instance, Tables(raw__one=1))
    assert isinstance(again, dg.RunRequest)
    assert again.tags[WANTED_VERSION_TAG] == run.tags[WANTED_VERSION_TAG]


def test_builds_that_a_person_forgives_are_tried_again(instance: dg.DagsterInstance) -> None:
    with time_machine.travel(datetime.fromisoformat("2026-09-01T00:00:00+00:00"), tick=False) as clock:
        for _ in range(POLICY.attempts):
            instance.report_run_failed(requested(instance, Tables(raw__one=1)))
            clock.shift(1000)
        assert "ol recover lakehouse/dbt_build --failed" in str(tick(instance, Tables(raw__one=1)))

        instance.report_runless_asset_event(attempts_reset(BUILDS.asset_key, ""))

        assert isinstance(tick(instance, Tables(raw__one=1)), dg.RunRequest)
