import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from ol_core.orchestration.desired_state import DATA_VERSION_TAG, held_versions, latest_by_partition
from ol_core.orchestration.retirement import bury
from ol_devkit.simulator import Simulation, Subject, World, bars, generic, memory, partitions_of, staged
from ol_devkit.simulator.acts import fail, kill_daemon, kill_run, publish, refuse, remember_live, skip, slow, together
from ol_devkit.simulator.clock import FakeClock
from ol_devkit.simulator.generic import KEY
from ol_devkit.simulator.stage import OpenStorage
from ol_devkit.simulator.storage import sqlite

VERSIONS = partitions_of(12)
FIRST, SECOND, *_ = VERSIONS
STARTED, FAILURE, SUCCESS = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS


def simulated(
    open_storage: OpenStorage = memory, versions: Mapping[str, str] = VERSIONS, *, is_seeded: bool = True
) -> Iterator[Simulation]:
    with staged(
        lambda world, _: generic(world), versions, is_seeded=is_seeded, open_storage=open_storage
    ) as simulation:
        yield simulation


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    yield from simulated()


def statuses(simulation: Simulation) -> list[dg.DagsterRunStatus]:
    return [run.status for run in reversed(simulation.storage.instance.get_runs())]


def test_time_stands_still_until_it_is_told_to_move() -> None:
    with FakeClock() as clock:
        before = time.time()
        clock.advance(90)
        assert (time.time() - before, clock()) == (90, 90)
        assert time.perf_counter() != time.perf_counter()  # what is measured is real


@pytest.mark.parametrize("open_storage", [sqlite, memory])
def test_seeded_partitions_are_what_dagster_itself_would_have_written(open_storage: OpenStorage) -> None:
    odd = {'quote"d': "1", "käse": "1", **VERSIONS}
    for simulation in simulated(open_storage, odd):
        instance, key = simulation.storage.instance, simulation.subject.asset_key
        assert set(instance.get_dynamic_partitions(simulation.subject.partitions)) == set(odd)
        assert held_versions(instance, key) == odd
        assert instance.get_materialized_partitions(key) == set(odd)
        assert {name: event.partition for name, event in latest_by_partition(instance, key).items()} == {
            name: name for name in odd
        }
        assert simulation.watch.asset_events == 0
        instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=FIRST))
        assert simulation.watch.asset_events == 1


@pytest.mark.parametrize("open_storage", [sqlite, memory])
@pytest.mark.parametrize(
    "seeded", [lambda _, version: version, lambda name, version: f"{len(name)}.{version}"], ids=["copied", "written"]
)
def test_seeded_versions_may_be_any_text_and_follow_from_the_partition(
    open_storage: OpenStorage, seeded: Callable[[str, str], str]
) -> None:
    def seeds(name: str, version: str) -> Iterator[dg.AssetMaterialization]:
        yield dg.AssetMaterialization(KEY, partition=name, tags={DATA_VERSION_TAG: seeded(name, version)})

    def make(world: World, _folder: Path) -> Subject:
        return replace(generic(world), seeds=seeds, wanted=lambda _, version: version)

    versions = {"a": "2026-01-01T00:00:00+00:00", "käse": 'quote"d', **VERSIONS}
    with staged(make, versions, open_storage=open_storage) as simulation:
        made = latest_by_partition(simulation.storage.instance, KEY)
        held = held_versions(simulation.storage.instance, KEY, tag=DATA_VERSION_TAG)
    assert held == {name: seeded(name, version) for name, version in versions.items()}
    assert held == {name: (event.tags or {})[DATA_VERSION_TAG] for name, event in made.items()}


def test_a_worker_that_is_killed_says_nothing_any_more(simulation: Simulation) -> None:
    simulation.script = {2: together(publish({FIRST: "2", SECOND: "2"}), kill_run(after_calls=3))}
    simulation.run(62)
    assert statuses(simulation) == [STARTED]
    assert [run.ended for run in simulation.figures.runs] == ["killed"]
    simulation.run(10)
    assert statuses(simulation) == [FAILURE, SUCCESS]
    assert simulation.world.attempts == {(FIRST, "2"): 1, (SECOND, "2"): 1}
    assert simulation.behind() == {}


def test_the_daemon_ticks_while_a_run_goes_on(simulation: Simulation) -> None:
    simulation.script = {1: together(publish({FIRST: "2"}), slow(export_seconds=300)), 4: publish({FIRST: "3"})}
    simulation.run(6)
    (run,) = simulation.figures.runs
    assert run.lasted_seconds > 300
    assert [tick.number for tick in simulation.figures.ticks] == list(range(1, 7))
    assert simulation.behind() == {FIRST: "3"}
    simulation.run(60)
    assert simulation.behind() == {}


def test_what_a_dead_daemon_did_not_apply_is_requested_again(simulation: Simulation) -> None:
    simulation.script = {1: together(publish({FIRST: "2"}), kill_daemon("result lost"))}
    figures = simulation.run(2)
    assert [tick.error for tick in figures.ticks] == ["the daemon died", ""]
    assert [tick.requested for tick in figures.ticks] == [(), ((simulation.subject.job, FIRST),)]
    assert simulation.world.calls["list"] == 2


def test_a_cursor_that_was_not_saved_costs_a_sweep_and_no_run(simulation: Simulation) -> None:
    simulation.script = {1: together(publish({FIRST: "2"}), kill_daemon("cursor lost"))}
    figures = simulation.run(3)
    assert (len(figures.runs), simulation.world.calls["list"]) == (1, 2)
    assert simulation.behind() == {}


def test_a_tick_that_the_daemon_does_not_wait_for_is_lost(simulation: Simulation) -> None:
    simulation.world.call_seconds = 61
    (tick,) = simulation.run(1).ticks
    assert tick.error == "no answer within 60 s"
    assert tick.cursor_bytes == 0


def test_ticks_that_are_left_out_are_not_evaluated(simulation: Simulation) -> None:
    simulation.script = {3: skip(2)}
    assert [tick.number for tick in simulation.run(6).ticks] == [1, 2, 5, 6]


def test_a_source_that_is_down_or_throttles_fails_the_tick(simulation: Simulation) -> None:
    simulation.script = {1: refuse("down"), 2: refuse("throttled", retry_after_seconds=30), 3: refuse(None)}
    assert [tick.error.rpartition("Failure: ")[2] for tick in simulation.run(3).ticks] == [
        "the source is down",
        "the source throttles",
        "",
    ]


def test_what_never_succeeds_is_given_up_and_is_not_behind(simulation: Simulation) -> None:
    simulation.script = {1: together(publish({FIRST: "2", SECOND: "2"}), fail([FIRST], "permanent"))}
    simulation.run(2)
    assert simulation.subject.given_up(simulation.storage.instance) == {FIRST: "2"}
    assert simulation.behind() == {}
    simulation.world.versions |= {FIRST: "3", SECOND: "3"}
    assert simulation.behind() == {FIRST: "3", SECOND: "3"}


def test_what_is_retired_for_a_while_is_seen_although_it_is_back_at_the_end(simulation: Simulation) -> None:
    def bury_two(simulation: Simulation) -> None:
        bury(simulation.storage.instance, simulation.subject.asset_key, [FIRST, SECOND], "not listed")

    simulation.script = {2: bury_two, 3: together(remember_live("before"), remember_live("after"))}
    simulation.run(61)  # a sweep, which takes them back
    names = list(VERSIONS)
    assert len(simulation.storage.instance.get_dynamic_partitions(simulation.subject.partitions)) == len(names)
    judged = [*bars.discovery(simulation, names), *bars.shrunk(simulation, names)]
    missed = {one.bar: one.measured for one in judged if one.bar.startswith("nothing is retired") and not one.holds}
    assert missed == {
        "nothing is retired, not even for a while": "2",
        "nothing is retired without an acknowledgement": "2 are missing, 0 too many",
    }


def test_figures_add_up() -> None:
    for simulation in simulated(sqlite, is_seeded=False):
        figures = simulation.run(3).as_json()
        assert (figures["runs"], figures["partitions_requested"]) == (1, 12)
        assert figures["events_by_type"]["ASSET_MATERIALIZATION"] == 12
        instance = simulation.storage.instance
        logs = [instance.all_logs(run_id) for run_id in (instance.get_runs()[0].run_id, "")]  # the last: of no run
        assert figures["events"] == sum(len(log) for log in logs)
        assert figures["database_bytes"] > 0
        assert figures["peak_memory_bytes"] > 1 << 20
        assert figures["queries"] > 0


def test_what_is_made_for_a_simulation_is_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for simulation in simulated(sqlite):
        simulation.run(1)
        assert list(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []
