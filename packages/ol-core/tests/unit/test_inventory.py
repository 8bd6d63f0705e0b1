"""The inventory through the ticks of a sensor that follows, on a real instance."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner, Result
from ol_core.dagster_storage import latest_check
from ol_core.failures import OlError, PermanentFailure, Quarantined, TransientFailure, UpstreamMissing
from ol_core.orchestration.commands import recover
from ol_core.orchestration.desired_state import AttemptPolicy, Step, failed_attempt, outcomes, succeeded
from ol_core.orchestration.follow_tick import Follower, FollowPlan, follow_tick
from ol_core.orchestration.inventory import INVENTORY_CHECK, take
from ol_core.orchestration.retirement import bury
from ol_core.orchestration.standing_checks import standing_checks

SWEPT, ROWS, BESIDE = dg.AssetKey("exports"), dg.AssetKey(["raw", "rows"]), dg.AssetKey(["raw", "beside"])
PARTITIONS = dg.DynamicPartitionsDefinition(name="courses")
COURSES = [f"c{number}" for number in range(6)]


class World:
    """A step that follows, with its sensor; it makes two assets. What runs would do is written by hand."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance, self.cursor = instance, ""
        self.wanted = dict.fromkeys(COURSES, "1")
        rows = Step("write", ROWS, "write_rows", makes=[BESIDE, ROWS])
        self.plan = FollowPlan(
            Step("export", SWEPT, "export_all"),
            PARTITIONS,
            [Follower(rows, lambda _instance: self.wanted)],
            AttemptPolicy(backoff_seconds=0),
        )
        instance.add_dynamic_partitions("courses", COURSES)

    def make(self, *partitions: str, version: str = "1") -> None:
        for partition in partitions:
            for key in (BESIDE, ROWS):
                self.instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition))
            self.instance.report_runless_asset_event(succeeded(ROWS, partition, version))

    def fail(self, partition: str, error: OlError) -> None:
        self.instance.report_runless_asset_event(failed_attempt(ROWS, partition, "1", error))

    def tick(self) -> dict[str, dg.AssetCheckEvaluation]:
        """Return what the tick evaluated, by asset."""
        result = follow_tick(dg.build_sensor_context(self.instance, cursor=self.cursor), self.plan)
        self.cursor = str(result.cursor)
        evaluations = [event for event in result.asset_events if isinstance(event, dg.AssetCheckEvaluation)]
        for evaluation in evaluations:
            self.instance.report_runless_asset_event(evaluation)
        return {one.asset_key.to_user_string(): one for one in evaluations}

    def requested(self) -> dict[str, str]:
        result = follow_tick(dg.build_sensor_context(self.instance, cursor=self.cursor), self.plan)
        (request,) = result.run_requests or []
        wanted: dict[str, str] = request.run_config["ops"]["write_rows"]["config"]["wanted"]
        return wanted


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    (tmp_path / "dagster.yaml").write_text("telemetry: { enabled: false }\n")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.get() as instance:
        yield World(instance)


def ol(*arguments: str) -> Result:
    return CliRunner().invoke(recover, arguments)


def counts(evaluation: dg.AssetCheckEvaluation) -> dict[str, object]:
    names = ("failed", "quarantined", "never_built", "stale", "partitions")
    return {name: evaluation.metadata[name].value for name in names}


def test_what_is_as_it_should_be_passes_and_is_said_once(world: World) -> None:
    world.make(*COURSES)
    said = world.tick()
    assert set(said) == {"raw/rows", "raw/beside"}
    assert all(evaluation.passed for evaluation in said.values())
    assert [world.tick() for _ in range(5)] == [{}] * 5


def test_each_state_is_counted_and_a_sample_says_why(world: World) -> None:
    world.make("c0", "c1")
    world.fail("c2", PermanentFailure("corrupt | twice"))
    world.fail("c3", Quarantined("cut short; the file is kept at q/c3"))
    world.fail("c4", UpstreamMissing("there is no archive"))
    world.wanted = {course: "1" for course in COURSES if course != "c5"}
    said = world.tick()
    rows = said["raw/rows"]
    assert not rows.passed
    assert counts(rows) == {"failed": 2, "quarantined": 1, "never_built": 1, "stale": 0, "partitions": 6}
    assert counts(said["raw/beside"]) == counts(rows)
    sample = str(rows.metadata["sample"].value)
    assert "| c2 | failed | 1 | PermanentFailure: corrupt \\| twice |" in sample
    assert "| c3 | quarantined | 1 | Quarantined: cut short" in sample
    assert "| c5 | never built | 0 |" in sample
    for name, evaluation in said.items():
        assert evaluation.metadata["recover"].value == f"ol recover {name} --failed --quarantined --never-built"


def test_what_is_about_to_be_made_is_no_news_and_what_stays_behind_is(world: World) -> None:
    world.make(*COURSES)
    world.tick()
    world.wanted = {**world.wanted, "c0": "2"}
    assert world.tick() == {}
    run = world.instance.add_run(dg.DagsterRun(job_name="write", status=dg.DagsterRunStatus.STARTED))
    assert world.tick() == {}
    world.fail("c1", PermanentFailure("corrupt"))
    assert counts(world.tick()["raw/rows"])["failed"] == 1
    world.instance.report_run_canceled(run)


def test_retired_partitions_are_not_counted(world: World) -> None:
    world.make(*COURSES[1:])
    world.fail("c0", PermanentFailure("corrupt"))
    assert not world.tick()["raw/rows"].passed
    bury(world.instance, SWEPT, ["c0"], "gone")
    assert counts(world.tick()["raw/rows"])["partitions"] == 5
    assert latest_check(world.instance, ROWS, INVENTORY_CHECK).passed  # type: ignore[union-attr]  # it was just written


def test_a_sample_is_bounded(world: World) -> None:
    many = [f"d{number:03}" for number in range(100)]
    world.instance.add_dynamic_partitions("courses", many)
    world.make(*COURSES)
    for partition in many:
        world.fail(partition, PermanentFailure("x" * 5000))
    rows = world.tick()["raw/rows"]
    assert counts(rows)["failed"] == 100
    sample = str(rows.metadata["sample"].value)
    assert sample.count("\n") == 21
    assert len(sample) < 20 * 400


def test_the_check_can_be_run_by_hand(world: World) -> None:
    world.make(*COURSES[1:])
    world.fail("c0", PermanentFailure("corrupt"))
    job = dg.define_asset_job("by_hand", selection=dg.AssetSelection.all_asset_checks())
    definitions = dg.Definitions(asset_checks=[standing_checks("checks", world.plan)], jobs=[job])
    result = definitions.resolve_job_def("by_hand").execute_in_process(instance=world.instance)
    found = {(one.asset_key.to_user_string(), one.check_name): one for one in result.get_asset_check_evaluations()}
    assert not found["raw/rows", INVENTORY_CHECK].passed
    assert found["exports", "sweep_coverage"].passed
    assert len(found) == 5


def test_recovering_resets_what_failed_and_the_next_tick_requests_it(world: World) -> None:
    world.make(*COURSES[3:])
    world.fail("c0", PermanentFailure("corrupt"))
    world.fail("c1", Quarantined("cut short"))
    world.fail("c2", TransientFailure("down"))
    world.tick()
    said = ol("raw/rows", "--failed")
    assert said.exit_code == 0, said.output
    assert "c0: failed, 1 failed attempts. PermanentFailure: corrupt" in said.output
    assert "2 of raw/rows are tried again" in said.output
    assert world.requested() == {"c0": "1", "c2": "1"}
    assert outcomes(world.instance, ROWS)["c1"].ending == "q"
    assert ol("raw/beside", "--quarantined").exit_code == 0
    assert set(world.requested()) == {"c0", "c1", "c2"}


def test_a_named_partition_is_recovered_and_a_rehearsal_changes_nothing(world: World) -> None:
    world.make(*COURSES[1:])
    world.fail("c0", PermanentFailure("corrupt"))
    rehearsed = json.loads(ol("raw/rows", "c0", "--dry-run", "--json").output)
    assert rehearsed == {
        "asset": "raw/rows",
        "dry_run": True,
        "partitions": [{"partition": "c0", "state": "failed", "attempts": 1, "reason": "PermanentFailure: corrupt"}],
    }
    assert outcomes(world.instance, ROWS)["c0"].failed
    assert ol("raw/rows", "c0", "c1").exit_code == 0
    assert set(world.requested()) == {"c0", "c1"}


def test_each_command_of_an_inventory_works_though_nothing_was_ever_tried(world: World) -> None:
    world.wanted = {}
    said = world.tick()
    assert not world.instance.has_asset_key(BESIDE)
    for evaluation in said.values():
        assert evaluation.passed
        command = shlex.split(str(evaluation.metadata["recover"].value))
        assert command == ["ol", "recover", evaluation.asset_key.to_user_string(), "--never-built"]
        assert ol(*command[2:], "--dry-run").output.count(": never built") == len(COURSES)
    assert ol("raw/beside", "c0").exit_code == 0
    assert outcomes(world.instance, ROWS)["c0"].ending == "r"
    world.wanted = {"c0": "1"}
    assert world.requested() == {"c0": "1"}


def test_what_is_stale_or_lacks_one_of_its_assets_is_recovered(world: World) -> None:
    world.make(*COURSES)
    world.instance.report_runless_asset_event(succeeded(ROWS, "new", "1"))
    (step,) = (follower.step for follower in world.plan.followers)
    for one in take(world.instance, step, {*COURSES, "new"}, {"c0": "2"}):
        assert one.command == f"ol recover {one.asset_key.to_user_string()} --never-built --stale"
        world.instance.report_runless_asset_event(one.evaluation())
    world.instance.add_dynamic_partitions("courses", ["new"])
    world.wanted = {**world.wanted, "c0": "2", "new": "1"}
    assert set(world.requested()) == {"c0"}
    assert "2 of raw/rows are tried again" in ol("raw/beside", "--never-built", "--stale").output
    assert world.requested() == {"c0": "2", "new": "1"}  # though its version is held
    world.make("new")
    world.make("c0", version="2")
    assert ol("raw/beside", "--never-built", "--stale").output.startswith("0 of raw/rows")


def test_what_somebody_reported_without_an_attempt_is_stale_and_recovered(world: World) -> None:
    for key in (BESIDE, ROWS):
        world.instance.report_runless_asset_event(dg.AssetMaterialization(key, partition="c0"))
    (step,) = (follower.step for follower in world.plan.followers)
    for one in take(world.instance, step, {"c0"}, {"c0": "2"}):
        assert one.command.endswith("--stale")
        world.instance.report_runless_asset_event(one.evaluation())
    assert "c0: stale" in ol("raw/rows", "--stale").output
    assert outcomes(world.instance, ROWS)["c0"].ending == "r"


def test_a_name_with_a_bar_stays_in_its_column(world: World) -> None:
    world.fail("a|b", PermanentFailure("cut"))
    (step,) = (follower.step for follower in world.plan.followers)
    for one in take(world.instance, step, {"a|b"}, {}):
        assert "| a\\|b | failed | 1 | PermanentFailure: cut |" in str(one.metadata["sample"].value)


@pytest.mark.parametrize("arguments", [["raw/rows"], ["raw/rows", "c0", "--failed"]])
def test_what_is_meant_has_to_be_said(arguments: list[str]) -> None:
    assert "name the partitions, or say which" in ol(*arguments).output


def test_wrong_names_are_answered_with_right_ones(world: World) -> None:
    world.make(*COURSES)
    world.tick()
    unknown = ol("raw/rowz", "--failed").exception
    assert isinstance(unknown, PermanentFailure)
    assert "raw/rows" in str(unknown)
    near = ol("raw/rows", "c77").exception
    assert isinstance(near, PermanentFailure)


def test_without_an_instance_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    missing = ol("raw/rows", "--failed").exception
    assert isinstance(missing, PermanentFailure)
    assert "DAGSTER_HOME is not set" in str(missing)
