"""Everything that can happen, in any order: once the world is quiet, every partition is as it should be."""

import os
from collections import Counter
from contextlib import ExitStack
from typing import get_args

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from ol_core.orchestration.desired_state import MAX_ATTEMPTS, attempts_reset
from ol_devkit.simulator import acts, generic, memory, partitions_of, staged
from ol_devkit.simulator.simulation import Act, DaemonDeath
from ol_devkit.simulator.world import Fault, Listing, Refusal

EXAMPLES = int(os.environ.get("OL_SIMULATED_EXAMPLES", "8"))
TICK_SECONDS = 300.0
"""A sweep an hour is one in twelve ticks, and the longest pause between attempts two."""

QUIET_TICKS = 80
VERSIONS = partitions_of(6)
some_partition = st.sampled_from(list(VERSIONS))


class Interleavings(RuleBasedStateMachine):
    """A source, its daemon and its workers, to whom anything may happen."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        staging = staged(lambda world, _: generic(world), VERSIONS, is_seeded=False, open_storage=memory)
        self.simulation = self.stack.enter_context(staging)
        self.simulation.tick_seconds = TICK_SECONDS
        self.newest = 1
        self.published = {(partition, "1") for partition in VERSIONS}
        self.forgiven: Counter[str] = Counter()
        self.deaths = 0

    def do(self, act: Act) -> None:
        act(self.simulation)

    @rule(ticks=st.integers(1, 14))
    def time_passes(self, ticks: int) -> None:
        self.simulation.run(ticks)

    @rule(partitions=st.sets(some_partition, min_size=1))
    def publish(self, partitions: set[str]) -> None:
        self.newest += 1
        self.published |= {(partition, str(self.newest)) for partition in partitions}
        self.do(acts.publish(dict.fromkeys(sorted(partitions), str(self.newest))))

    @rule(partition=some_partition, ticks=st.integers(1, 3))
    def publish_while_it_is_exported(self, partition: str, ticks: int) -> None:
        self.newest += 1
        self.published.add((partition, str(self.newest)))
        self.do(acts.slow(export_seconds=3 * TICK_SECONDS))
        number = self.simulation.number + ticks
        self.simulation.script = {number: acts.publish({partition: str(self.newest)})}
        self.simulation.run(ticks)

    @rule(partition=some_partition)
    def unpublish(self, partition: str) -> None:
        self.do(acts.unpublish([partition]))

    @rule(partition=some_partition, fault=st.sampled_from(get_args(Fault)))
    def fail(self, partition: str, fault: Fault) -> None:
        self.do(acts.fail([partition], fault))

    @rule(partition=some_partition)
    def heal(self, partition: str) -> None:
        self.do(acts.heal([partition]))

    @rule(refusal=st.sampled_from([None, *get_args(Refusal)]))
    def refuse(self, refusal: Refusal | None) -> None:
        self.do(acts.refuse(refusal, retry_after_seconds=120))

    @rule(listing=st.sampled_from(get_args(Listing)))
    def list_as(self, listing: Listing) -> None:
        self.do(acts.list_as(listing))

    @rule(call_seconds=st.sampled_from([0.0, 1.0, 9.0, 31.0]), export_seconds=st.sampled_from([1.0, 400.0, 5000.0]))
    def slow(self, call_seconds: float, export_seconds: float) -> None:
        self.do(acts.slow(call_seconds=call_seconds, export_seconds=export_seconds))

    @rule(calls=st.integers(0, 12))
    def kill_run(self, calls: int) -> None:
        self.deaths += 1
        self.do(acts.kill_run(after_calls=calls))

    @rule(death=st.sampled_from(get_args(DaemonDeath)))
    def kill_daemon(self, death: DaemonDeath) -> None:
        self.deaths += 1
        self.do(acts.kill_daemon(death))

    @rule(ticks=st.integers(1, 6))
    def skip(self, ticks: int) -> None:
        self.do(acts.skip(ticks))

    @precondition(lambda self: self.simulation.subject.given_up(self.simulation.storage.instance))
    @rule()
    def forgive(self) -> None:
        instance, subject = self.simulation.storage.instance, self.simulation.subject
        for partition in subject.given_up(instance):
            self.forgiven[partition] += 1
            instance.report_runless_asset_event(attempts_reset(subject.asset_key, partition))

    @invariant()
    def attempts_are_bounded(self) -> None:
        for (partition, version), attempts in self.simulation.world.attempts.items():
            assert attempts <= MAX_ATTEMPTS * (1 + self.forgiven[partition]), (partition, version)

    @invariant()
    def runs_are_bounded(self) -> None:
        tries = MAX_ATTEMPTS * (len(self.published) + self.forgiven.total())
        assert len(self.simulation.figures.runs) <= tries + self.deaths

    @invariant()
    def one_run_at_a_time(self) -> None:
        assert all(tick.slots <= 1 for tick in self.simulation.figures.ticks)

    @invariant()
    def what_is_held_was_published(self) -> None:
        held = self.simulation.subject.held(self.simulation.storage.instance)
        assert set(held.items()) <= self.published

    def teardown(self) -> None:
        with self.stack:
            world = self.simulation.world
            world.refusal, world.listing, world.kill_after = None, "whole", None
            world.call_seconds, world.export_seconds = 0.0, 1.0
            self.simulation.dies, self.simulation.skipped = None, 0
            self.simulation.run(QUIET_TICKS)
            assert self.simulation.behind() == {}
            self.attempts_are_bounded()
            self.runs_are_bounded()
            runs = len(self.simulation.figures.runs)
            self.simulation.run(24)
            assert len(self.simulation.figures.runs) == runs  # what is quiet stays quiet


Interleavings.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestInterleavings = Interleavings.TestCase
