"""Retirement through the ticks of a sensor, on a real instance; the source does as it is told."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import time_machine
from ol_core.dagster_storage import latest_check
from ol_core.failures import OlError, PermanentFailure
from ol_core.orchestration.desired_state import (
    AttemptPolicy,
    Recorded,
    Step,
    WantedVersions,
    decide,
    failed_attempt,
    failure_reasons,
    held_versions,
    outcomes,
    recorded,
    succeeded,
)
from ol_core.orchestration.discovery import Discovery, Known, Unknown
from ol_core.orchestration.retirement import (
    RETIREMENT_CHECK,
    ShrinkGuard,
    acknowledge,
    live_partitions,
    standing_shrinks,
)
from ol_core.orchestration.sweep import Sweep
from ol_core.orchestration.sweep_tick import COVERAGE_CHECK, SweepPlan, sweep_tick

KEY = dg.AssetKey("exports")
PARTITIONS = dg.DynamicPartitionsDefinition(name="courses")
STEP = Step("export", KEY, "export_all")


@dataclass
class World:
    """A source, its sensor, and the job that the sensor requests; every tick comes an hour after the last."""

    instance: dg.DagsterInstance
    exists: list[str] = field(default_factory=list)
    unreadable: bool = False
    errors: dict[str, OlError] = field(default_factory=dict)
    guard: ShrinkGuard = field(default_factory=lambda: ShrinkGuard(share=0.2, at_least=1))
    cursor: str | None = None
    hours: int = 0
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        @dg.multi_asset(name="export_all", specs=[dg.AssetSpec(KEY, partitions_def=PARTITIONS, skippable=True)])
        def export_all(config: WantedVersions) -> Iterator[Recorded]:
            yield from recorded(
                KEY,
                config.wanted,
                [(one, self.errors.get(one, one)) for one in config.wanted],
                lambda partition, _: [dg.AssetMaterialization(KEY, partition=partition)],
            )

        self.job = dg.Definitions(
            assets=[export_all], jobs=[dg.define_asset_job("export", selection=[KEY])], executor=dg.in_process_executor
        ).resolve_job_def("export")

    def discover(self, budget_seconds: float) -> Discovery:
        del budget_seconds
        return Unknown("the list is unreadable", self.exists) if self.unreadable else Known(list(self.exists))

    def sweep(self, keys: Sequence[str], budget_seconds: float) -> Sweep:
        del keys
        return Sweep(self._look, batch_size=100, budget_seconds=budget_seconds)

    def _look(self, batch: Sequence[str]) -> Mapping[str, str | OlError]:
        self.asked += batch
        return {key: "1" if key in self.exists else PermanentFailure("no such course") for key in batch}

    def tick(self) -> dg.SensorResult:
        """An hour later."""
        self.hours += 1
        plan = SweepPlan(STEP, PARTITIONS, rotation_seconds=3600, policy=AttemptPolicy(), guard=self.guard)
        with time_machine.travel(datetime.now(UTC) + timedelta(hours=self.hours), tick=True):
            result = sweep_tick(dg.build_sensor_context(self.instance, cursor=self.cursor), plan, self)
            self.cursor = result.cursor
            for change in result.dynamic_partitions_requests or []:
                if isinstance(change, dg.AddDynamicPartitionsRequest):
                    self.instance.add_dynamic_partitions("courses", list(change.partition_keys))
                else:
                    for partition in change.partition_keys:
                        self.instance.delete_dynamic_partition("courses", partition)
            for event in result.asset_events:
                self.instance.report_runless_asset_event(event)
            for request in result.run_requests or []:
                self.job.execute_in_process(
                    instance=self.instance,
                    run_config=request.run_config,
                    tags=dict(request.tags),
                    raise_on_error=False,
                )
        return result

    @property
    def partitions(self) -> set[str]:
        return set(self.instance.get_dynamic_partitions("courses"))

    @property
    def live(self) -> set[str]:
        return live_partitions(self.instance, KEY, PARTITIONS)

    def events(self) -> int:
        observed = self.instance.fetch_observations(KEY, limit=10_000).records
        made = self.instance.fetch_materializations(KEY, limit=10_000).records
        return len(observed) + len(made)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path)) as instance:
        made = World(instance, [f"c{number}" for number in range(10)])
        made.tick()
        assert held_versions(instance, KEY) == dict.fromkeys(made.exists, "1")
        yield made


def started_run(world: World, tags: Mapping[str, str] = {}, wanted: Collection[str] = ()) -> dg.DagsterRun:
    ops = {"ops": {"any": {"config": {"wanted": dict.fromkeys(wanted, "1")}}}} if wanted else {}
    return world.instance.add_run(
        dg.DagsterRun(job_name="a job of somebody else", tags=tags, run_config=ops, status=dg.DagsterRunStatus.STARTED)
    )


def test_what_is_gone_gets_a_tombstone_and_is_removed_by_a_later_discovery(world: World) -> None:
    world.exists.remove("c3")
    world.asked.clear()
    world.tick()
    assert world.partitions - world.live == {"c3"}
    assert "c3" not in world.asked
    (tombstone, *_) = world.instance.fetch_observations(
        dg.AssetRecordsFilter(asset_key=KEY, asset_partitions=["c3"]), limit=1
    ).records
    assert tombstone.asset_observation is not None
    assert tombstone.asset_observation.description == (
        "retired: the source no longer has it; files, rows and events stay"
    )
    world.tick()
    assert world.partitions == world.live == set(world.exists)
    assert world.instance.get_materialized_partitions(KEY) >= {"c3"}


def test_nothing_is_written_where_nothing_is_gone_and_where_all_is_retired_already(world: World) -> None:
    world.exists.remove("c3")
    world.tick()
    world.tick()
    before = world.events()
    for _ in range(5):
        result = world.tick()
        assert not result.run_requests
        assert not result.dynamic_partitions_requests
    assert world.events() == before


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        ({"dagster/partition": "c3"}, []),
        ({"dagster/asset_partition_range_start": "c1", "dagster/asset_partition_range_end": "c5"}, []),
        ({"dagster/asset_partition_range_start": "c1", "dagster/asset_partition_range_end": "c1"}, ["c1", "c3"]),
    ],
)
def test_a_partition_is_not_removed_while_an_unfinished_run_holds_it(
    world: World, tags: dict[str, str], wanted: list[str]
) -> None:
    run = started_run(world, tags, wanted)
    world.exists.remove("c3")
    for _ in range(3):
        world.tick()
    assert "c3" in world.partitions - world.live
    world.instance.report_run_canceled(run)
    world.tick()
    assert "c3" not in world.partitions


def test_a_run_that_does_not_hold_it_keeps_nothing(world: World) -> None:
    started_run(world, {"dagster/partition": "c4"}, ["c5"])
    world.exists.remove("c3")
    world.tick()
    world.tick()
    assert "c3" not in world.partitions


def test_a_run_that_ends_after_the_tombstone_does_not_bring_it_back_for_good(world: World) -> None:
    world.exists.remove("c3")
    world.tick()
    world.instance.report_runless_asset_event(succeeded(KEY, "c3", "2"))
    for _ in range(3):
        world.tick()
    assert "c3" not in world.partitions
    assert outcomes(world.instance, KEY)["c3"].retired


def test_an_attempt_that_fails_after_the_tombstone_leaves_it_standing(world: World) -> None:
    world.exists.remove("c3")
    world.tick()
    before = outcomes(world.instance, KEY)["c3"]
    failed = failed_attempt(KEY, "c3", "2", PermanentFailure("gone"), before=before)
    world.instance.report_runless_asset_event(failed)
    assert outcomes(world.instance, KEY)["c3"].retired
    world.tick()
    assert "c3" not in world.partitions


@pytest.mark.parametrize("ticks_away", [1, 4])
def test_what_comes_back_is_live_and_is_not_made_again_at_the_same_version(world: World, ticks_away: int) -> None:
    world.exists.remove("c3")
    for _ in range(ticks_away):
        world.tick()
    world.exists.append("c3")
    runs = world.instance.get_runs_count()
    for _ in range(3):
        world.tick()
    assert world.live == world.partitions == set(world.exists)
    assert held_versions(world.instance, KEY)["c3"] == "1"
    assert world.instance.get_runs_count() == runs


def test_a_new_partition_that_was_never_made_comes_back_and_is_made(world: World) -> None:
    world.errors = {"late": PermanentFailure("corrupt")}
    world.instance.add_dynamic_partitions("courses", ["late"])
    world.tick()
    world.tick()
    assert "late" not in world.partitions
    world.errors = {}
    world.exists.append("late")
    world.tick()
    world.tick()
    assert held_versions(world.instance, KEY)["late"] == "1"


def test_coming_and_going_gives_no_further_attempts(world: World) -> None:
    world.errors = {"bad": PermanentFailure("corrupt")}
    for _ in range(4):
        world.exists.append("bad")
        world.tick()
        world.tick()
        world.exists.remove("bad")
        world.tick()
        world.tick()
    assert outcomes(world.instance, KEY)["bad"].attempts == 1
    failed = world.instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
    assert failed == 1
    world.exists.append("bad")
    world.tick()
    assert failure_reasons(world.instance, KEY, ["bad"]) == {"bad": "PermanentFailure: corrupt"}


def test_what_is_unknown_retires_nothing(world: World) -> None:
    before = world.events()
    world.exists, world.unreadable = [], True
    with pytest.raises(OlError, match="can be read"):
        world.tick()
    assert world.live == {f"c{number}" for number in range(10)}
    assert world.events() == before


@pytest.mark.parametrize("gone", [3, 6, 10])
def test_a_shrink_beyond_the_guard_is_not_believed_and_everything_says_so(world: World, gone: int) -> None:
    everything, world.exists = list(world.exists), world.exists[gone:]
    if not world.exists:
        world.exists, world._look = [], lambda batch: dict.fromkeys(batch, "1")  # type: ignore[method-assign]
    before = world.events()
    results = [world.tick() for _ in range(3)]
    assert world.partitions == world.live == set(everything)
    assert world.events() == before
    assert f"{gone} of 10 partitions of exports disappeared at once" in str(results[-1].skip_reason)
    said = [event for result in results for event in result.asset_events if isinstance(event, dg.AssetCheckEvaluation)]
    assert sum(event.check_name == COVERAGE_CHECK for event in said) == 1
    check = latest_check(world.instance, KEY, COVERAGE_CHECK)
    assert check is not None
    assert not check.passed
    assert "ol retire acknowledge exports" in str(check.metadata["discovery"].value)
    (shrink,) = standing_shrinks(world.instance, [KEY])
    assert sorted(shrink.gone) == sorted(set(everything) - set(world.exists))


def test_a_shrink_within_the_guard_is_believed(world: World) -> None:
    del world.exists[:2]
    world.tick()
    assert len(world.live) == 8
    assert standing_shrinks(world.instance, [KEY]) == []


def test_a_few_may_be_gone_from_a_small_source() -> None:
    guard = ShrinkGuard()
    believed = {
        known: sum(guard.believes(gone=gone, known=known) for gone in range(1, known + 1)) for known in range(21)
    }
    assert believed == {0: 0, 1: 0, 2: 1, 3: 1, 4: 2, 5: 2, **dict.fromkeys(range(6, 20), 3), 20: 4}
    assert not guard.believes(gone=11, known=50)
    assert guard.believes(gone=1000, known=5000)
    assert not guard.believes(gone=1001, known=5000)


def test_an_acknowledged_shrink_is_retired_and_the_check_passes(world: World) -> None:
    world.exists = world.exists[6:]
    world.tick()
    (shrink,) = standing_shrinks(world.instance, [KEY])
    acknowledge(world.instance, KEY, shrink.shrink_id)
    check = latest_check(world.instance, KEY, RETIREMENT_CHECK)
    assert check is not None
    assert check.passed
    world.tick()
    assert world.partitions == world.live == set(world.exists)
    coverage = latest_check(world.instance, KEY, COVERAGE_CHECK)
    assert coverage is not None
    assert coverage.passed


def test_an_acknowledgement_serves_one_shrink_only(world: World) -> None:
    everything = list(world.exists)
    world.exists = everything[6:]
    world.tick()
    (first,) = standing_shrinks(world.instance, [KEY])
    world.exists = everything[:4]
    world.tick()
    with pytest.raises(PermanentFailure, match="the one that does is"):
        acknowledge(world.instance, KEY, first.shrink_id)
    world.exists = everything
    world.tick()
    with pytest.raises(PermanentFailure, match="none does"):
        acknowledge(world.instance, KEY, first.shrink_id)
    world.exists = everything[6:]
    world.tick()
    (again,) = standing_shrinks(world.instance, [KEY])
    acknowledge(world.instance, KEY, again.shrink_id)
    world.exists = everything
    world.tick()
    world.exists = everything[6:]
    world.tick()
    assert len(world.live) == 10
    assert standing_shrinks(world.instance, [KEY]) == [again]


def test_what_follows_of_a_retired_partition_is_not_requested(world: World) -> None:
    follow = Step("follow", dg.AssetKey("rows"), "write_rows")
    world.exists.remove("c3")
    world.tick()
    wanted = dict.fromkeys(["c3", "c4"], "1")
    assert decide(world.instance, follow, wanted, live=world.live).requested == {"c4": "1"}


def test_a_tombstone_survives_a_restart_and_a_lost_cursor(world: World) -> None:
    world.exists.remove("c3")
    world.tick()
    world.cursor = None
    before = world.events()
    world.tick()
    assert "c3" not in world.partitions
    assert world.events() == before


def test_failed_attempts_of_a_retired_partition_are_not_tried(world: World) -> None:
    world.instance.report_runless_asset_event(failed_attempt(KEY, "c3", "2", PermanentFailure("x")))
    world.exists.remove("c3")
    world.tick()
    assert decide(world.instance, STEP, {"c3": "9"}).requests == ()


def test_the_tick_says_how_many_there_are_without_the_retired(world: World) -> None:
    world.exists.remove("c3")
    result = world.tick()
    assert "9 of 9 read" in str(result.skip_reason)
