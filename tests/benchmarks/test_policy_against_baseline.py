"""The same scenarios for the policy of `ol_core` and for the shape of policy that it replaces, side by side.

The baseline observes every version every hour in one sensor, call after call. An automation condition requests what
changed, latched until it is handled, and once more each time that a run fails. A run exports one partition and sleeps
until its export is ready.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from ol_core.dagster_storage import DATA_VERSION_TAG, latest_data_versions
from ol_core.failures import PermanentFailure, TransientFailure
from ol_devkit.simulator import SCENARIOS, ConditionTicker, Subject, Verdict, World, generic, play
from ol_devkit.simulator.subject import Event, sensors_of

N = int(os.environ.get("OL_BENCHMARK_PARTITIONS", "500"))
CHOSEN = set(filter(None, os.environ.get("OL_BENCHMARK_SCENARIOS", "").split(",")))
"""Names of the scenarios to play; all but the largest by default."""

AT_ONCE = 100
"""Exports that are wanted at once: the baseline spends a run on each."""

VERSION, EXPORT = dg.AssetKey(["baseline", "version"]), dg.AssetKey(["baseline", "export"])
JOB = "baseline_export"
PARTITIONS = dg.DynamicPartitionsDefinition(name="baseline_partitions")
POLL_SECONDS = 5.0

_is_new = (
    dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed())
    | dg.AutomationCondition.newly_missing()
    | dg.AutomationCondition.execution_failed().newly_true()
)
_is_handled = dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated()
CONDITION = _is_new.since(_is_handled) & ~dg.AutomationCondition.in_progress()


@dg.observable_source_asset(key=VERSION, partitions_def=PARTITIONS)
def version() -> dg.DataVersionsByPartition:
    raise NotImplementedError  # the sensor observes


def baseline(world: World, _folder: Path) -> Subject:
    definitions = dg.Definitions(
        assets=[version, export_of(world)],
        jobs=[dg.define_asset_job(JOB, selection=[EXPORT])],
        sensors=[observer_of(world)],
        executor=dg.in_process_executor,
    )
    return Subject(
        name="baseline",
        definitions=definitions,
        asset_key=EXPORT,
        job=JOB,
        partitions=str(PARTITIONS.name),
        tickers=[*sensors_of(definitions), ConditionTicker(definitions, {EXPORT: JOB})],
        wanted=lambda _partition, version: version,
        seeds=seeds,
        held=lambda instance: latest_data_versions(instance, EXPORT, "materialization"),
        given_up=lambda _instance: {},
    )


def observer_of(world: World) -> dg.SensorDefinition:
    @dg.sensor(name="baseline_observe", job_name=JOB, minimum_interval_seconds=3600)
    def observe(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        called(world, "list")
        listed = world.listed()
        known = set(context.instance.get_dynamic_partitions(str(PARTITIONS.name)))
        events = []
        for partition in listed:
            called(world, "versions")
            tags = {DATA_VERSION_TAG: str(world.version(partition))}
            events.append(dg.AssetObservation(VERSION, partition=partition, tags=tags))
        new = [partition for partition in listed if partition not in known]
        return dg.SensorResult(
            asset_events=events, dynamic_partitions_requests=[PARTITIONS.build_add_request(new)] if new else []
        )

    return observe


def export_of(world: World) -> dg.AssetsDefinition:
    @dg.asset(key=EXPORT, deps=[VERSION], partitions_def=PARTITIONS, automation_condition=CONDITION)
    def export(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        partition = context.partition_key
        called(world, "versions")
        told = str(world.version(partition))
        called(world, "submit")
        remote = world.begin(partition)
        while True:
            called(world, "look")
            state = world.state(remote)
            if state == "ready":
                break
            if state == "failed":
                raise PermanentFailure(f"{partition}: the export failed")
            world.clock.advance(POLL_SECONDS)
        called(world, "collect")
        if partition in world.faults:
            raise TransientFailure(f"{partition}: what was exported cannot be fetched")
        return dg.MaterializeResult(data_version=dg.DataVersion(told))

    return export


def called(world: World, kind: str) -> None:
    if refusal := world.call(kind):
        raise TransientFailure(f"the source is {refusal}")


def seeds(partition: str, version: str) -> Iterator[Event]:
    yield dg.AssetObservation(VERSION, partition=partition, tags={DATA_VERSION_TAG: version})
    yield dg.AssetMaterialization(EXPORT, partition=partition, tags={DATA_VERSION_TAG: version})


def row(verdict: Verdict) -> str:
    figures = verdict.figures
    held = sum(finding.holds for finding in verdict.findings)
    return (
        f"| {verdict.scenario} | {verdict.subject} | {held} of {len(verdict.findings)} | {figures['failed_ticks']} "
        f"| {figures['runs']:,} "
        f"| {sum(figures['calls'].values()):,} | {figures['events']:,} | {figures['tick_cpu_seconds_mean']:.3f} "
        f"| {figures['tick_cpu_seconds_max']:.2f} | {figures['run_cpu_seconds']:.1f} "
        f"| {figures['database_bytes'] / 1e6:.1f} |"
    )


@pytest.mark.benchmark
@pytest.mark.timeout(7200)
@pytest.mark.filterwarnings("ignore:Property .OpDefinition.version. is deprecated")  # Dagster asks for it itself
def test_the_same_world_for_both() -> None:
    sys.stdout.write(
        f"\n{N} partitions, {AT_ONCE} where exports are wanted at once\n"
        "| scenario | policy | bars held | failed ticks | runs | source calls | events | tick CPU s, mean | most "
        "| run CPU s | MB |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
    )
    ours, theirs = [], []
    for scenario in SCENARIOS:
        if scenario.name == "fifty-thousand" or (CHOSEN and scenario.name not in CHOSEN):
            continue
        partitions = AT_ONCE if scenario.name == "exports-at-once" else N
        ours.append(play(scenario, lambda world, _: generic(world), partitions=partitions))
        theirs.append(play(scenario, baseline, partitions=partitions))
        sys.stdout.write(f"{row(ours[-1])}\n{row(theirs[-1])}\n")
        for verdict in (ours[-1], theirs[-1]):
            for finding in verdict.findings:
                if not finding.holds:
                    sys.stdout.write(f"  {verdict.subject} misses: {finding.bar}: {finding.measured[:200]}\n")
        sys.stdout.flush()
    assert all(verdict.holds for verdict in ours)
    assert all(verdict.figures["calls"] for verdict in theirs)  # it was evaluated, and asked its source
    assert not all(verdict.holds for verdict in theirs)  # else the scenarios judge nothing
    for name in ("runs", "events", "run_cpu_seconds"):
        mine, other = (sum(one.figures[name] for one in verdicts) for verdicts in (ours, theirs))
        sys.stdout.write(f"{name}: {mine:,.1f} ours, {other:,.1f} the baseline's\n")
