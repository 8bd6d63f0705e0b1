"""Since when killed runs have been after the versions that a run is after."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from ol_core.orchestration.desired_state import Step, wanted_since

STEP = Step("export", dg.AssetKey("exports"), "export_all")
FAILURE = dg.DagsterRunStatus.FAILURE


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as one:
        yield one


class Runs:
    """Adds runs of one job, the newest last."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance, self.count = instance, 0

    def add(self, settled: str = "", /, **wanted: str) -> dg.DagsterRun:
        self.count += 1
        run_id = f"00000000-0000-4000-8000-{self.count:012}"
        tags = {"ol/settled": settled} if settled else {}
        config = STEP.run_request(wanted).run_config if wanted else {}
        run = dg.DagsterRun(job_name="export", run_id=run_id, run_config=config, status=FAILURE, tags=tags)
        return self.instance.add_run(run)

    def created(self, run: dg.DagsterRun) -> float:
        (record,) = self.instance.get_run_records(dg.RunsFilter(run_ids=[run.run_id]))
        return record.create_timestamp.timestamp()


@pytest.fixture
def runs(instance: dg.DagsterInstance) -> Runs:
    return Runs(instance)


def test_it_is_when_the_first_of_the_killed_runs_in_a_row_was_created(runs: Runs) -> None:
    runs.add("killed", a="1")
    runs.add("told", a="1")
    first = runs.add("killed", a="1", b="1")
    runs.add("killed", a="1")
    now = runs.add(a="1", b="1")
    assert wanted_since(runs.instance, now, {"a": "1", "b": "1"}) == {"a": runs.created(first)}


def test_a_version_that_moved_in_between_has_no_such_time(runs: Runs) -> None:
    runs.add("killed", a="1", b="1", c="1")
    now = runs.add(a="2", b="1", c="1")
    assert set(wanted_since(runs.instance, now, {"a": "2", "b": "2", "c": "1"})) == {"c"}


def test_a_run_that_told_what_became_of_all_leaves_nothing(runs: Runs) -> None:
    runs.add("told", a="1")
    assert wanted_since(runs.instance, runs.add(a="1"), {"a": "1"}) == {}


def test_a_run_that_nobody_requested_is_after_whatever_is_there(runs: Runs) -> None:
    runs.add("killed", a="1")
    assert wanted_since(runs.instance, runs.add(), {"a": "1"}) == {}
