"""What may be requested: partitions whose wanted version differs from the held one, with attempts left.

Attempts are never counted in memory. What a run recorded is in its outcomes; what a run that was killed left unsaid is
recorded for it by `settle`, from its own configuration. Runs count by what they make: those of the step's job, and
those that Dagster starts from an asset's page or for a backfill.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
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
    newest_outcomes,
    observations_since,
    outcomes,
    with_earlier,
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

RUNS_LOOKED_AT = 5
"""How many of a job's newest runs say whether they were killed, or found their source down, one after the other."""

_ASSET_JOB = "__ASSET_JOB"
_PARTITION_TAG = "dagster/partition"
_RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
_ENDED_BADLY = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_PAGE = 20
_SETTLED_AT_ONCE = 50
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
        """Whether a version is not held and has attempts left, now or after a pause; never of what is retired.

        Of a version that comes back, this follows from what was earlier, as far as the outcome knows it.
        """
        if outcome is None:
            return True
        if outcome.retired or outcome.ending == "r":
            return not outcome.retired
        last = outcome.of(version)
        return last is None or (last.ending == "t" and last.attempts < self.attempts)

    def due_at(self, outcome: Outcome | None, version: str) -> float:
        """Return when the next attempt at a version may start, in unix seconds; no sooner than its source asked for."""
        last = outcome.of(version) if outcome is not None and outcome.ending != "r" else None
        if last is None or not last.failed:
            return 0.0
        return last.at + max(self.backoff_seconds * 2.0 ** (last.attempts - 1), last.pause_seconds)


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


def known_outcomes(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, wanted: Mapping[str, str]
) -> dict[str, Outcome]:
    """Return outcomes by one query; by two more, what was earlier where the last attempt was at another version."""
    some = wanted if len(wanted) <= _FEW else None
    known = newest_outcomes(instance, asset_key, some) if wanted else {}
    moved = {one: known[one] for one, version in wanted.items() if one in known and known[one].version != version}
    return {**known, **with_earlier(instance, asset_key, moved)}


def behind(
    instance: dg.DagsterInstance,
    asset_key: dg.AssetKey,
    wanted: Mapping[str, str],
    policy: AttemptPolicy = AttemptPolicy(),
) -> dict[str, Outcome | None]:
    """Return what is not held at its wanted version and has attempts left, with its outcome so far."""
    known = known_outcomes(instance, asset_key, wanted)
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


def busy(instance: dg.DagsterInstance, step: Step) -> tuple[set[str], str]:
    """Return which partitions of a step unfinished runs hold, and the job of one that may hold any; "" without."""
    held: set[str] = set()
    for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)):
        if not _makes(run, step):
            continue
        some = _named(run)
        if run.job_name == step.job_name or not some:
            return held, run.job_name
        held |= some
    return held, ""


def _makes(run: dg.DagsterRun, step: Step) -> bool:
    if run.job_name == step.job_name:
        return True
    selected = run.asset_selection
    return run.job_name == _ASSET_JOB if selected is None else not selected.isdisjoint({step.asset_key, *step.assets})


def _named(run: dg.DagsterRun) -> set[str]:
    """Return the partitions that a run says it is for; none where only Dagster knows, which looks into its range."""
    first, last = (run.tags.get(tag) for tag in _RANGE_TAGS)
    named = {run.tags.get(_PARTITION_TAG), first if first == last else None, *asked(run)}
    return {one for one in named if one is not None}


def settle(instance: dg.DagsterInstance, step: Step, wanted: Mapping[str, str] = {}) -> dict[str, str]:
    """Record the attempts that killed runs could not; return what all runs that ended badly left undone.

    A run that recorded nothing is held against all its partitions. One that did is held against those that it was
    working on: the exports that it had submitted, or the first `at_once` in its order, where they have no outcome. A
    run that never started says nothing of its partitions: it stands with them, costs none an attempt, and the next
    comes later each time, like while a source is down. Each run is looked at once, the oldest first.

    Args:
        instance: Where runs and events are recorded.
        step: The step.
        wanted: Version that a partition should hold; counted for a run that a person started and nobody heard from.

    Returns:
        Partition and version: the one that was tried, else the one that was asked for.
    """
    left: dict[str, str] = {}
    for record in _unsettled(instance, step):
        run = record.dagster_run
        trace = _trace(instance, step.asset_key, run, since=record.create_timestamp.timestamp() - 1)
        started = record.start_time is not None or GIVEN_UP_TAG in run.tags
        if started and not trace.wanted:
            trace.wanted = {one: wanted[one] for one in _named(run) if one in wanted}
        if not trace.ended and GIVEN_UP_TAG not in run.tags:
            _blame(instance, step, record, trace, started=started)
        tag_run(instance, run.run_id, {_mark(run, step): trace.ended or ("killed" if started else "outage")})
        for partition, version in trace.wanted.items():
            outcome = trace.outcomes.get(partition)
            if outcome is None or not outcome.holds:
                left[partition] = outcome.version if outcome else version
    return left


def _unsettled(instance: dg.DagsterInstance, step: Step) -> list[dg.RunRecord]:
    """Return runs that ended badly and were not looked at: pages of the newest, until one has nothing new."""
    found: list[dg.RunRecord] = []
    for job_name in (step.job_name, _ASSET_JOB):
        ended_badly = dg.RunsFilter(job_name=job_name, statuses=_ENDED_BADLY)
        cursor: str | None = None
        while page := instance.get_run_records(ended_badly, limit=_PAGE, cursor=cursor):
            new = [one for one in page if _mark(one.dagster_run, step) not in one.dagster_run.tags]
            new = [one for one in new if _makes(one.dagster_run, step)]
            found += new
            if not new or len(page) < _PAGE:
                break
            cursor = page[-1].dagster_run.run_id
    return sorted(found, key=lambda one: one.create_timestamp)[:_SETTLED_AT_ONCE]


def _mark(run: dg.DagsterRun, step: Step) -> str:
    """Return the tag that says that a step looked at a run: a run of an asset's page may be of several."""
    return SETTLED_TAG if run.job_name == step.job_name else f"{SETTLED_TAG}.{step.job_name}"


def _blame(instance: dg.DagsterInstance, step: Step, record: dg.RunRecord, trace: "_Trace", *, started: bool) -> None:
    run, began = record.dagster_run, record.create_timestamp.timestamp()
    before_what = "it said what became of this" if started else "it started"
    for partition in _blamed(run.run_id, trace, step.at_once):
        before = outcomes(instance, step.asset_key, [partition]).get(partition)
        if before is not None and before.ending == "s" and before.at > began:
            continue  # another run has made it since
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
    for record in instance.get_run_records(dg.RunsFilter(job_name=run.job_name), limit=RUNS_LOOKED_AT):
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
