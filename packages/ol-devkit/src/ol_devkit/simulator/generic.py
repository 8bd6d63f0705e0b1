"""One partitioned asset on the policy of `ol_core`, whose source is the world itself: no protocol, no archives."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import dagster as dg
from ol_core.failures import OlError, TransientFailure, UpstreamMissing
from ol_core.orchestration.desired_state import (
    AttemptPolicy,
    Recorded,
    Step,
    WantedVersions,
    as_version,
    exported,
    succeeded,
)
from ol_core.orchestration.discovery import Discovery, Known, Unknown
from ol_core.orchestration.exports import Accepted, Clock, ExportLimits, Look, Submission, export_all
from ol_core.orchestration.sweep import Sweep
from ol_core.orchestration.sweep_tick import TICK_SECONDS, SweepPlan, sweep_tick

from ol_devkit.simulator.subject import Event, Subject, given_up_by_outcome, held_by_outcome, sensors_of
from ol_devkit.simulator.world import World

KEY = dg.AssetKey(["simulated", "exports"])
JOB = "simulated_exports"
PARTITIONS = dg.DynamicPartitionsDefinition(name="simulated_partitions")
ROTATION_SECONDS = 3600.0

_OP = "export_partitions"
_POLICY = AttemptPolicy()
_LIMITS = ExportLimits()


@dataclass(frozen=True, slots=True)
class WorldSource:
    """A world as a source of `ol_core.orchestration.sweep_tick`: one call per batch."""

    world: World
    batch_size: int
    concurrency: int

    def discover(self, budget_seconds: float) -> Discovery:
        """Return what the world lists."""
        del budget_seconds
        if refused := _refused(self.world, "list"):
            return Unknown(str(refused))
        keys = self.world.listed()
        return Unknown("the list broke off", keys) if self.world.listing == "unreadable" else Known(keys)

    def sweep(self, keys: Sequence[str], budget_seconds: float) -> Sweep:
        """Ask for versions."""
        del keys
        return Sweep(
            self._versions,
            batch_size=self.batch_size,
            concurrency=self.concurrency,
            budget_seconds=budget_seconds,
            clock=self.world.clock,
        )

    def _versions(self, partitions: Sequence[str]) -> Mapping[str, str | OlError]:
        return _versions(self.world, partitions)


@dataclass(frozen=True, slots=True)
class WorldExports:
    """A world as a source of `ol_core.orchestration.exports`."""

    world: World

    def submit(self, partitions: Sequence[str]) -> Mapping[str, Accepted | OlError]:
        """Begin exports, all by one call."""
        if refused := _refused(self.world, "submit"):
            raise refused
        return {
            one: Accepted(self.world.begin(one)) if one in self.world.versions else _missing(one) for one in partitions
        }

    def look(self, submission: Submission) -> Look:
        """Look at an export."""
        if refused := _refused(self.world, "look"):
            raise refused
        return Look(self.world.state(submission.remote_id), "what the script says")

    def collect(self, submission: Submission) -> str:
        """Fetch what was exported."""
        if refused := _refused(self.world, "collect"):
            raise refused
        if self.world.faults.get(submission.partition) == "transient":
            raise TransientFailure(f"{submission.partition}: what was exported cannot be fetched")
        return submission.partition


def generic(
    world: World,
    *,
    policy: AttemptPolicy = _POLICY,
    limits: ExportLimits = _LIMITS,
    batch_size: int = 1,
    concurrency: int = 8,
) -> Subject:
    """Build the subject: a sweep of the world and a job that exports from it.

    Args:
        world: The source.
        policy: Attempts, backoff and the size of a run.
        limits: Exports in flight, and how long each may take.
        batch_size: Partitions whose versions the source tells by one call.
        concurrency: Calls of a sweep at a time.
    """
    step = Step(JOB, KEY, _OP, at_once=limits.in_flight)
    plan = SweepPlan(step, PARTITIONS, ROTATION_SECONDS, policy)
    definitions = dg.Definitions(
        assets=[_exports(world, policy, limits)],
        jobs=[dg.define_asset_job(JOB, selection=[KEY])],
        sensors=[_sweep(plan, WorldSource(world, batch_size, concurrency))],
        executor=dg.in_process_executor,
    )
    return Subject(
        name="generic",
        definitions=definitions,
        asset_key=KEY,
        job=JOB,
        partitions=str(PARTITIONS.name),
        tickers=sensors_of(definitions),
        wanted=lambda _partition, version: as_version(version),
        seeds=_seeds,
        held=held_by_outcome(KEY),
        given_up=given_up_by_outcome(KEY, policy),
    )


def _sweep(plan: SweepPlan, source: WorldSource) -> dg.SensorDefinition:
    @dg.sensor(name="simulated_sweep", job_name=JOB, minimum_interval_seconds=TICK_SECONDS)
    def sweep_world(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        return sweep_tick(context, plan, source)

    return sweep_world


def _exports(world: World, policy: AttemptPolicy, limits: ExportLimits) -> dg.AssetsDefinition:
    clock = Clock(world.clock.advance, world.clock)

    @dg.multi_asset(name=_OP, specs=[dg.AssetSpec(KEY, partitions_def=PARTITIONS, skippable=True)])
    def exports(context: dg.AssetExecutionContext, config: WantedVersions) -> Iterator[Recorded]:
        partitions = config.partitions(context)
        try:
            versions = _versions(world, partitions)
        except OlError as error:
            versions = dict.fromkeys(partitions, error)
        yield from exported(
            KEY,
            config,
            versions,
            export=partial(export_all, WorldExports(world), clock=clock),
            store=lambda _partition, stored: stored,
            events=lambda partition, _: [dg.AssetMaterialization(KEY, partition=partition)],
            policy=policy,
            limits=limits,
        )

    return exports


def _seeds(partition: str, version: str) -> Iterator[Event]:
    yield dg.AssetMaterialization(KEY, partition=partition)
    yield succeeded(KEY, partition, version)


def _versions(world: World, partitions: Sequence[str]) -> Mapping[str, str | OlError]:
    if refused := _refused(world, "versions"):
        raise refused
    found = {one: world.version(one) for one in partitions}
    return {one: as_version(version) if version else _missing(one) for one, version in found.items()}


def _missing(partition: str) -> UpstreamMissing:
    return UpstreamMissing(f"{partition}: the source has no such partition")


def _refused(world: World, call: str) -> TransientFailure | None:
    match world.call(call):
        case "down":
            return TransientFailure("the source is down")
        case "throttled":
            return TransientFailure("the source throttles", retry_after_seconds=world.retry_after_seconds)
        case None:
            return None
