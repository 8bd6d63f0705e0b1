"""Dagster's sensor loop in one process: tick what the installed locations define, run what they request.

The sensors, jobs, resources and the instance are the real ones; only the daemon's clock is missing. A location is
ticked once those that it reads from are quiet, so nothing is built from half of its inputs.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from typing import Any

import dagster as dg
from dagster._core.instance import InstanceRef  # `dagster` does not export it
from ol_core.dagster_storage import free_pool_slots, tag_run
from ol_core.orchestration.desired_state import GIVEN_UP_TAG, UNFINISHED

_MAX_ROUNDS = 50


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run that the loop executed.

    Attributes:
        location: Code location of the job.
        job: Name of the job.
        run_id: Id of the run on the instance.
        success: Whether it succeeded.
        seconds: Wall time.
        materialized: Number of materializations for each asset key (`/`-separated).
        error: What the run said when it failed; empty otherwise.
    """

    location: str
    job: str
    run_id: str
    success: bool
    seconds: float
    materialized: Mapping[str, int]
    error: str


@dataclass(frozen=True, slots=True)
class FailedTick:
    """A sensor that could not be evaluated: its source is down, or refuses."""

    location: str
    sensor: str
    error: str


def give_up_unfinished(instance: dg.DagsterInstance) -> int:
    """Cancel the runs that a process which was killed has left unfinished; they would block their jobs for ever.

    What they left undone is behind again, and none of it has used up an attempt.

    Returns:
        How many there were.
    """
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    for run in runs:
        tag_run(instance, run.run_id, {GIVEN_UP_TAG: "process gone"})
        instance.report_run_canceled(run, message="The process that executed this run is gone.")
    free_pool_slots(instance)
    return len(runs)


def run_until_quiet(
    instance: dg.DagsterInstance,
    locations: Mapping[str, dg.Definitions],
    on_start: Callable[[str, str], None],
) -> Iterator[FinishedRun | FailedTick]:
    """Tick every sensor and execute every run that one requests, until no sensor requests any.

    Args:
        instance: Where runs and events are recorded.
        locations: Loaded code locations by name.
        on_start: Called with (location, job) before each run.

    Yields:
        Each run as it ends, and each tick that failed.

    Raises:
        RuntimeError: the sensors still request runs after many rounds, so their policy does not converge.
    """
    for name in _upstream_first(locations):
        for _ in range(_MAX_ROUNDS):
            busy = False
            for outcome in _round(instance, name, locations[name], on_start):
                busy = busy or isinstance(outcome, FinishedRun)
                yield outcome
            if not busy:
                break
        else:
            raise RuntimeError(f"the sensors of {name} still request runs after {_MAX_ROUNDS} rounds")


def _upstream_first(locations: Mapping[str, dg.Definitions]) -> list[str]:
    graphs = {name: definitions.resolve_asset_graph() for name, definitions in locations.items()}
    makes = {key: name for name, graph in graphs.items() for key in graph.materializable_asset_keys}
    reads = {name: {makes[key] for key in graph.external_asset_keys if key in makes} for name, graph in graphs.items()}
    return list(TopologicalSorter(reads).static_order())


def _round(
    instance: dg.DagsterInstance, name: str, definitions: dg.Definitions, on_start: Callable[[str, str], None]
) -> Iterator[FinishedRun | FailedTick]:
    for sensor in definitions.sensors or []:
        try:
            tick = evaluate(instance, definitions, sensor)
        except Exception as error:  # noqa: BLE001 - a tick fails like in the daemon: it is reported, others go on
            yield FailedTick(name, sensor.name, tick_error(error))
            continue
        apply_changes(instance, tick)
        for request in tick.run_requests or []:
            on_start(name, str(request.job_name))
            yield _finished(instance, name, definitions, request)


def evaluate(
    instance: dg.DagsterInstance, definitions: dg.Definitions, sensor: dg.SensorDefinition, *, cursor: str | None = None
) -> dg.SensorResult:
    """Evaluate a tick of a sensor; each request that it gives back names its job, and none has a run already."""
    resources = definitions.resources or {}
    context = dg.build_sensor_context(
        instance=instance,
        instance_ref=_ref(instance),
        cursor=cursor,
        sensor_name=sensor.name,
        definitions=definitions,
        resources={key: resources[key] for key in sensor.required_resource_keys},
    )
    with context:
        tick = sensor.evaluate_tick(context)
    requests = [
        one if one.job_name else one.with_replaced_attrs(job_name=sensor.job_name)
        for one in _without_run(instance, sensor.name, tick.run_requests or [])
    ]
    return dg.SensorResult(
        run_requests=requests,
        cursor=tick.cursor,
        dynamic_partitions_requests=tick.dynamic_partitions_requests,
        asset_events=list(tick.asset_events or []),
    )


def _ref(instance: dg.DagsterInstance) -> InstanceRef:
    """Return what makes Dagster look up dynamic partitions in the instance, those that the tick adds included."""
    return instance.get_ref() if instance.is_persistent else _in_memory(instance.root_directory)


@cache
def _in_memory(folder: str) -> InstanceRef:
    return InstanceRef.from_dir(folder)  # nothing opens it: the context has the instance already


def _without_run(
    instance: dg.DagsterInstance, sensor: str, requests: Iterable[dg.RunRequest]
) -> Iterator[dg.RunRequest]:
    """Yield what the daemon starts: one run per sensor and run key, however often it is requested."""
    keys: set[str] = set()
    for request in requests:
        if not request.run_key:
            yield request
            continue
        tags = {"dagster/sensor_name": sensor, "dagster/run_key": request.run_key}
        if request.run_key not in keys and not instance.get_runs(dg.RunsFilter(tags=tags), limit=1):
            keys.add(request.run_key)
            yield request.with_replaced_attrs(tags={**request.tags, **tags})


def tick_error(error: Exception) -> str:
    """Return why a tick failed, as `Type: message`; Dagster may have wrapped what the sensor raised."""
    raised = (isinstance(error, dg.DagsterError) and error.__cause__) or error
    return f"{type(raised).__name__}: {raised}"


def apply_changes(instance: dg.DagsterInstance, tick: dg.SensorResult) -> None:
    """Do what a tick asked for beside its runs, as the daemon does before it starts them."""
    for change in tick.dynamic_partitions_requests or []:
        if isinstance(change, dg.DeleteDynamicPartitionsRequest):
            for partition in change.partition_keys:
                instance.delete_dynamic_partition(change.partitions_def_name, partition)
        else:
            instance.add_dynamic_partitions(change.partitions_def_name, list(change.partition_keys))
    for event in tick.asset_events or []:
        instance.report_runless_asset_event(event)


def execute(
    instance: dg.DagsterInstance, definitions: dg.Definitions, request: dg.RunRequest, *, run_id: str | None = None
) -> dg.ExecuteInProcessResult:
    """Execute a run in this process, without its console; a run that fails raises nothing."""
    return definitions.resolve_job_def(str(request.job_name)).execute_in_process(
        instance=instance,
        partition_key=request.partition_key,
        asset_selection=request.asset_selection,
        run_id=run_id,
        tags=dict(request.tags),
        run_config={**request.run_config, "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        raise_on_error=False,
    )


def _finished(
    instance: dg.DagsterInstance, location: str, definitions: dg.Definitions, request: dg.RunRequest
) -> FinishedRun:
    started = time.monotonic()
    result = execute(instance, definitions, request)
    materialized: dict[str, int] = {}
    for event in result.get_asset_materialization_events():
        key = event.asset_key.to_user_string() if event.asset_key else ""
        materialized[key] = materialized.get(key, 0) + 1
    errors = [failure_reason(event.step_failure_data) for event in result.all_events if event.is_step_failure]
    return FinishedRun(
        location=location,
        job=str(request.job_name),
        run_id=result.run_id,
        success=result.success,
        seconds=round(time.monotonic() - started, 2),
        materialized=materialized,
        error="\n".join(errors),
    )


def failure_reason(failure: Any) -> str:  # noqa: ANN401 - Dagster does not export the type of a step's failure
    """Return why a step failed, without its stack trace, which stands in Dagster's log."""
    if failure.user_failure_data and failure.user_failure_data.description:
        return str(failure.user_failure_data.description)
    error = failure.error and (failure.error.cause or failure.error)  # Dagster wraps what the asset raised
    return str(error.message).strip() if error else "the step failed"
