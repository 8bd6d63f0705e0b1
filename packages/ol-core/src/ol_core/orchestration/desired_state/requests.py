"""What should be requested: partitions whose wanted version differs from the held one, with attempts left.

One run takes all of them, up to a batch: which partitions, and the version wanted of each, stand in its configuration.
Attempts are never counted in memory. What a run recorded is in its outcomes; what a run that was killed left unsaid is
recorded for it by `settle`, from its own configuration.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from pydantic import Field

from ol_core.dagster_storage import DATA_VERSION_TAG, tag_run
from ol_core.environment import Environment
from ol_core.failures import TransientFailure
from ol_core.orchestration.desired_state.outcomes import (
    RUN_TAG,
    WANTED_VERSION_TAG,
    Outcome,
    failed_attempt,
    observations_since,
    outcomes,
)
from ol_core.orchestration.desired_state.submissions import submissions_of

SETTLED_TAG = "ol/settled"
"""On a run that ended badly, once what it left unsaid is recorded: `told`, `killed`, or `outage`."""

GIVEN_UP_TAG = "ol/given_up"
"""On a run that its user ended together with its process: nothing of it is a failed attempt."""

STARTED_TAG = "ol/started"
"""On an observation without partition: what a run that was started by hand works on, in its metadata."""

ENDED_TAG = "ol/ended"
"""On an observation without partition: a run recorded all that it tried before it failed; `told` or `outage`."""

UNFINISHED = [status for status in dg.DagsterRunStatus if status.value not in ("SUCCESS", "FAILURE", "CANCELED")]
"""Statuses of a run that is queued, starting, running or being canceled."""

MAX_ATTEMPTS = 3
"""Attempts for one (partition, wanted version) where failures are transient, unless configuration says otherwise."""

NO_RUN_RETRIES = {"dagster/max_retries": "0"}
"""Tags of a job whose retries belong to its sensor: Dagster's run retries would multiply them."""

_RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
_ENDED_BADLY = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_RUNS = 5
_FEW = 1000


@dataclass(frozen=True, slots=True)
class AttemptPolicy:
    """How often, how soon and how many at once.

    Attributes:
        attempts: Attempts for one (partition, wanted version) where failures are transient.
        backoff_seconds: Shortest time between the first failure and the second attempt; it doubles with each.
        batch_size: Most partitions of one run.
    """

    attempts: int = MAX_ATTEMPTS
    backoff_seconds: float = 300.0
    batch_size: int = 500

    @classmethod
    def of(cls, environment: Environment) -> "AttemptPolicy":
        """Return the environment's policy."""
        stated = environment.orchestration
        return cls(stated.attempts, stated.backoff_seconds, stated.batch_size)

    def may_try(self, outcome: Outcome | None, version: str) -> bool:
        """Whether a version is not held and has attempts left, now or after a pause; never of what is retired."""
        if outcome is not None and outcome.retired:
            return False
        if outcome is None or outcome.version != version or outcome.ending == "r":
            return True
        return outcome.ending == "t" and outcome.attempts < self.attempts

    def due_at(self, outcome: Outcome | None, version: str) -> float:
        """Return when the next attempt at a version may start, in unix seconds."""
        if outcome is None or outcome.version != version or not outcome.failed:
            return 0.0
        return outcome.at + self.backoff_seconds * 2.0 ** (outcome.attempts - 1)


class WantedVersions(dg.Config):
    """Configuration of an op that works through many partitions."""

    wanted: dict[str, str] = Field(
        default={}, description="Partitions to work on and the version wanted of each; empty: those of the run itself."
    )

    def partitions(self, context: dg.AssetExecutionContext) -> list[str]:
        """Return the partitions to work on, in the run's own order; see `in_order`."""
        return in_order(context.run.run_id, self.wanted or context.partition_keys)


def in_order(run_id: str, partitions: Mapping[str, str] | Sequence[str]) -> list[str]:
    """Return partitions in the order in which a run works through them: another one in each run.

    So a partition that kills its worker does not stand in front of the same others every time.
    """
    return sorted(partitions, key=lambda partition: hashlib.sha256(f"{run_id}/{partition}".encode()).digest())


def behind(
    instance: dg.DagsterInstance,
    asset_key: dg.AssetKey,
    wanted: Mapping[str, str],
    policy: AttemptPolicy = AttemptPolicy(),
) -> dict[str, Outcome | None]:
    """Return what is not held at its wanted version and has attempts left, with its outcome so far."""
    some = wanted if len(wanted) <= _FEW else None
    known = outcomes(instance, asset_key, some) if wanted else {}
    return {
        partition: known.get(partition)
        for partition, version in wanted.items()
        if policy.may_try(known.get(partition), version)
    }


def changed(
    instance: dg.DagsterInstance,
    asset_key: dg.AssetKey,
    wanted: Mapping[str, str],
    policy: AttemptPolicy = AttemptPolicy(),
) -> dict[str, str]:
    """Return the part of `wanted` to request now: not held, with attempts left, and not waiting after a failure."""
    now = time.time()
    candidates = behind(instance, asset_key, wanted, policy)
    return {
        partition: wanted[partition]
        for partition, outcome in candidates.items()
        if policy.due_at(outcome, wanted[partition]) <= now
    }


def in_flight(instance: dg.DagsterInstance, job_name: str) -> bool:
    """Whether a run of the job is queued, starting or running."""
    return bool(instance.get_run_records(dg.RunsFilter(job_name=job_name, statuses=UNFINISHED), limit=1))


@dataclass(frozen=True, slots=True)
class Step:
    """A job that brings an asset's partitions to their wanted versions.

    Attributes:
        job_name: The job.
        op_name: Its op that takes `WantedVersions`; "" where the asset has no partitions.
        asset_key: The asset under which attempts stand.
        at_once: How many partitions the op works on at the same time: so many may have killed a worker.
        makes: All partitioned assets that the job makes, where it makes more than `asset_key`.
    """

    job_name: str
    asset_key: dg.AssetKey
    op_name: str = ""
    at_once: int = 1
    makes: Sequence[dg.AssetKey] = ()

    @property
    def assets(self) -> Sequence[dg.AssetKey]:
        """All assets that the job makes."""
        return self.makes or (self.asset_key,)

    def run_request(self, wanted: Mapping[str, str]) -> dg.RunRequest:
        """Return the request of one run for all of `wanted`."""
        tags = dict(NO_RUN_RETRIES)
        if not self.op_name:
            return dg.RunRequest(job_name=self.job_name, tags={**tags, WANTED_VERSION_TAG: wanted[""]})
        config = {"ops": {self.op_name: {"config": {"wanted": dict(wanted)}}}}
        named = next(
            iter(wanted)
        )  # Dagster looks for a partition where upstream has some, and would plan all of a range
        tags |= dict.fromkeys(_RANGE_TAGS, named)
        return dg.RunRequest(job_name=self.job_name, run_config=config, tags=tags)


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows for one step.

    Attributes:
        requests: At most one run.
        requested: What the run is asked for.
        waiting: What is behind and has attempts left, but is not requested now.
        reason: Why nothing is requested, in words; empty where something is.
        at_rest: Whether no run of the step is unfinished or requested.
    """

    requests: Sequence[dg.RunRequest] = ()
    requested: Mapping[str, str] = field(default_factory=dict)
    waiting: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    at_rest: bool = True


def decide(
    instance: dg.DagsterInstance,
    step: Step,
    wanted: Mapping[str, str],
    policy: AttemptPolicy = AttemptPolicy(),
    *,
    live: AbstractSet[str] | None = None,
) -> Decision:
    """Decide what to request for a step. Nothing while one of its runs is unfinished, so a step takes one run slot.

    Args:
        instance: Where runs and events are recorded.
        step: The job and what it makes.
        wanted: Version that each partition should hold; {"": version} for an asset without partitions.
        policy: Attempts, backoff and the size of a batch.
        live: Partitions that may be requested: those of the definition that are not retired; None for all.
    """
    if in_flight(instance, step.job_name):
        return Decision(waiting=dict(wanted), reason=f"{step.job_name} is running", at_rest=False)
    asked_for = {**settle(instance, step), **wanted}
    may = {one: version for one, version in asked_for.items() if live is None or one in live}
    candidates = behind(instance, step.asset_key, may, policy)
    versions = {one: may[one] for one in candidates}
    if not candidates:
        return Decision(reason=f"{step.job_name}: nothing is behind")
    forgiven = {one for one, outcome in candidates.items() if outcome is not None and outcome.ending == "r"}
    now, resting_until = time.time(), _outage_until(instance, step.job_name, policy)
    if now < resting_until and not forgiven:
        resting = resting_until - now
        return Decision(
            waiting=versions, reason=f"{step.job_name} waits {resting:.0f} s: its source was down, or no run starts"
        )
    due = [
        one
        for one, outcome in candidates.items()
        if one in forgiven or max(resting_until, policy.due_at(outcome, versions[one])) <= now
    ]
    due.sort(key=lambda one: _attempts(candidates[one], versions[one]))  # first what never failed
    batch = {partition: versions[partition] for partition in due[: policy.batch_size]}
    waiting = {partition: version for partition, version in versions.items() if partition not in batch}
    if not batch:
        return Decision(waiting=waiting, reason=f"{step.job_name}: {len(waiting)} wait before they are tried again")
    return Decision(requests=[step.run_request(batch)], requested=batch, waiting=waiting, at_rest=False)


def _attempts(outcome: Outcome | None, version: str) -> int:
    return outcome.attempts if outcome is not None and outcome.version == version else 0


def _outage_until(instance: dg.DagsterInstance, job_name: str, policy: AttemptPolicy) -> float:
    """Return until when a job rests whose newest runs found their source down or never started; each doubles it."""
    ended, outages = 0.0, 0
    for record in instance.get_run_records(dg.RunsFilter(job_name=job_name), limit=_RUNS):
        if record.dagster_run.tags.get(SETTLED_TAG) != "outage":
            break
        ended, outages = max(ended, record.end_time or 0.0), outages + 1
    return ended + policy.backoff_seconds * 2.0 ** (outages - 1) if outages else 0.0


def settle(instance: dg.DagsterInstance, step: Step) -> dict[str, str]:
    """Record the attempts that killed runs could not; return what all runs that ended badly left undone.

    A run that recorded nothing is held against all its partitions. One that did is held against those that it was
    working on: the exports that it had submitted, or the first `at_once` in its order, where they have no outcome. A
    run that never started says nothing of its partitions: it stands with them, costs none an attempt, and the next
    comes later each time, like while a source is down. Each run is looked at once.

    Returns:
        Partition and version: the one that was tried, else the one that was asked for.
    """
    left: dict[str, str] = {}
    ended_badly = dg.RunsFilter(job_name=step.job_name, statuses=_ENDED_BADLY)
    for record in instance.get_run_records(ended_badly, limit=_RUNS):
        run = record.dagster_run
        if SETTLED_TAG in run.tags:
            continue
        trace = _trace(instance, step.asset_key, run, since=record.create_timestamp.timestamp() - 1)
        started = record.start_time is not None or GIVEN_UP_TAG in run.tags
        before_what = "it said what became of this" if started else "it started"
        if not trace.ended and GIVEN_UP_TAG not in run.tags:
            for partition in _blamed(run.run_id, trace, step.at_once):
                before = outcomes(instance, step.asset_key, [partition]).get(partition)
                event = failed_attempt(
                    step.asset_key,
                    partition,
                    trace.wanted[partition],
                    TransientFailure(f"run {run.run_id} became {run.status.value} before {before_what}"),
                    before=before,
                    was_tried=started,
                    tags={RUN_TAG: run.run_id},
                )
                instance.report_runless_asset_event(event)
        tag_run(instance, run.run_id, {SETTLED_TAG: trace.ended or ("killed" if started else "outage")})
        for partition, version in trace.wanted.items():
            outcome = trace.outcomes.get(partition)
            if outcome is None or outcome.ending != "s":
                left.setdefault(partition, outcome.version if outcome else version)
    return left


@dataclass(slots=True)
class _Trace:
    """What a run left behind."""

    wanted: Mapping[str, str]
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    submitted: set[str] = field(default_factory=set)
    ended: str = ""


def _trace(instance: dg.DagsterInstance, asset_key: dg.AssetKey, run: dg.DagsterRun, *, since: float) -> _Trace:
    trace = _Trace(asked(run))
    for record in observations_since(instance, asset_key, since):
        event = record.asset_observation
        if event is None or run.run_id not in (record.run_id, event.tags.get(RUN_TAG)):
            continue
        outcome = Outcome.parse(event.tags.get(DATA_VERSION_TAG, ""))
        if outcome is not None:
            trace.outcomes.setdefault(event.partition or "", outcome)
        elif STARTED_TAG in event.tags:
            trace.wanted = {str(key): str(value) for key, value in event.metadata["wanted"].value.items()}  # type: ignore[union-attr]  # JSON metadata of ours
        else:
            trace.submitted.update(one.partition for one in submissions_of(event))
            trace.ended = event.tags.get(ENDED_TAG, trace.ended)
    return trace


def asked(run: dg.DagsterRun) -> dict[str, str]:
    """Return the partitions and versions that a run was requested for; none where somebody started it by hand."""
    if WANTED_VERSION_TAG in run.tags:
        return {"": run.tags[WANTED_VERSION_TAG]}
    ops: dict[str, Any] = run.run_config.get("ops", {})  # type: ignore[assignment]  # JSON
    return next((dict(op["config"]["wanted"]) for op in ops.values() if op.get("config", {}).get("wanted")), {})


def wanted_since(instance: dg.DagsterInstance, run: dg.DagsterRun, wanted: Mapping[str, str]) -> dict[str, float]:
    """Return since when the killed runs right before this one have been after the same versions.

    A version that was wanted then and still is was there all the time: what they made of it without a word is of it.

    Args:
        instance: Where runs are recorded.
        run: The run that asks.
        wanted: Partitions, and the version that each has now.

    Returns:
        Unix seconds, of partitions that this run and a killed one were requested for at the version of now.
    """
    mine = asked(run)
    same = {partition for partition, version in wanted.items() if mine.get(partition) == version}
    since: dict[str, float] = {}
    for record in instance.get_run_records(dg.RunsFilter(job_name=run.job_name), limit=_RUNS):
        if record.dagster_run.run_id == run.run_id:
            continue
        if record.dagster_run.tags.get(SETTLED_TAG) != "killed":
            break
        before = asked(record.dagster_run)
        same = {partition for partition in same if before.get(partition) == wanted[partition]}
        since |= dict.fromkeys(same, record.create_timestamp.timestamp())
    return since


def _blamed(run_id: str, trace: _Trace, at_once: int) -> list[str]:
    unsaid = [partition for partition in in_order(run_id, trace.wanted) if partition not in trace.outcomes]
    if trace.submitted:
        return [partition for partition in unsaid if partition in trace.submitted]
    return unsaid[:at_once] if trace.outcomes else unsaid
