"""Ticks of a sensor that sweeps, a minute apart, on a real instance; the source does as it is told."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
import time_machine
from ol_core.failures import OlError, TransientFailure, UpstreamMissing
from ol_core.orchestration.desired_state import AttemptPolicy, Step
from ol_core.orchestration.discovery import Discovery, Known, Unknown
from ol_core.orchestration.sweep import Sweep
from ol_core.orchestration.sweep_tick import COVERAGE_CHECK, SweepPlan, sweep_tick

PARTITIONS = dg.DynamicPartitionsDefinition(name="courses")
COURSES = [f"c{number:03}" for number in range(200)]
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class World:
    """A source and its sensor; `fail_first` makes the first so many courses that are ever asked for fail for good."""

    instance: dg.DagsterInstance
    concurrency: int = 4
    call_seconds: float = 0.0
    fail_first: int = 0
    error: OlError = field(default_factory=lambda: TransientFailure("503"))
    refusal: OlError | None = None
    cursor: str | None = None
    minutes: int = 0
    calls: int = 0
    lists: int = 0
    list_ticks: int = 1
    now: float = 0.0
    asked: list[str] = field(default_factory=list)
    bad: set[str] = field(default_factory=set)

    def discover(self, budget_seconds: float) -> Discovery:
        del budget_seconds
        self.calls += 1
        self.lists += 1
        return Unknown("too long", COURSES[:150], goes_on=True) if self.lists < self.list_ticks else Known(COURSES)

    def sweep(self, keys: Sequence[str], budget_seconds: float) -> Sweep:
        del keys
        return Sweep(self._look, concurrency=self.concurrency, budget_seconds=budget_seconds, clock=lambda: self.now)

    def _look(self, batch: Sequence[str]) -> Mapping[str, str | OlError]:
        self.calls += 1
        self.now += self.call_seconds
        if self.refusal:
            raise self.refusal
        self.asked += batch
        if len(self.bad) < self.fail_first:
            self.bad.update(batch)
        return {key: self.error if key in self.bad else "1" for key in batch}

    def tick(self) -> dg.SensorResult:
        """A minute later."""
        self.minutes += 1
        plan = SweepPlan(Step("export", dg.AssetKey("exports"), "op"), PARTITIONS, 3600.0, AttemptPolicy())
        with time_machine.travel(START + timedelta(minutes=self.minutes), tick=True):
            result = sweep_tick(dg.build_sensor_context(self.instance, cursor=self.cursor), plan, self)
        self.cursor = result.cursor
        return result

    def failed_ticks(self, ticks: int) -> int:
        failed = 0
        for _ in range(ticks):
            try:
                self.tick()
            except OlError:
                failed += 1
        return failed


@pytest.fixture
def world() -> Iterator[World]:
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("courses", COURSES)
        yield World(instance)


def checks(result: dg.SensorResult) -> list[bool]:
    found = (event for event in result.asset_events if isinstance(event, dg.AssetCheckEvaluation))
    return [one.passed for one in found if one.check_name == COVERAGE_CHECK]


@pytest.mark.parametrize(("concurrency", "bad"), [(1, 5), (4, 8), (8, 12)])
def test_a_few_bad_courses_at_the_head_of_a_rotation_fail_no_tick(world: World, concurrency: int, bad: int) -> None:
    world.concurrency, world.fail_first = concurrency, bad
    assert world.failed_ticks(3) == 0
    assert set(world.asked) == set(COURSES)


@pytest.mark.parametrize("error", [TransientFailure("503"), UpstreamMissing("404")])
def test_bad_courses_that_take_a_whole_tick_do_not_stop_the_next_ones(world: World, error: OlError) -> None:
    world.concurrency, world.call_seconds, world.fail_first, world.error = 1, 9.0, 4, error
    assert world.failed_ticks(60) == (0 if isinstance(error, UpstreamMissing) else 1)
    assert set(world.asked) >= set(COURSES) - world.bad


def test_an_outage_fails_every_tick_and_is_swept_after_it(world: World) -> None:
    world.refusal = TransientFailure("down")
    assert world.failed_ticks(10) == 10
    assert world.calls <= 10 * 14
    world.refusal = None
    world.tick()
    assert set(world.asked) == set(COURSES)


def test_a_source_that_asks_to_be_left_alone_is_and_the_check_says_so_once(world: World) -> None:
    world.refusal = TransientFailure("throttled", retry_after_seconds=1800.0)
    assert "left alone until 2026-01-01 00:31" in str(world.tick().skip_reason)
    calls = world.calls
    results = [world.tick() for _ in range(29)]
    assert world.calls == calls
    assert "left alone until 2026-01-01 00:31" in str(results[-1].skip_reason)
    assert [one for result in results for one in checks(result)] == [False]
    world.refusal = None
    world.tick()
    assert checks(world.tick()) in ([True], [])
    assert set(world.asked) == set(COURSES)


def test_nobody_is_left_alone_for_longer_than_an_hour(world: World) -> None:
    world.refusal = TransientFailure("throttled", retry_after_seconds=1e6)
    world.tick()
    world.refusal = None
    for _ in range(61):
        world.tick()
    assert set(world.asked) == set(COURSES)


def test_a_wait_that_ends_before_the_next_tick_is_an_outage(world: World) -> None:
    world.refusal = TransientFailure("throttled", retry_after_seconds=30.0)
    assert world.failed_ticks(2) == 2


def test_a_list_that_does_not_fit_into_a_tick_is_read_on_and_then_reported_once(world: World) -> None:
    world.list_ticks = 3
    results = [world.tick() for _ in range(10)]
    assert world.lists == 3
    assert [one for result in results for one in checks(result)] == [True]
    assert len(world.asked) == len(COURSES)
