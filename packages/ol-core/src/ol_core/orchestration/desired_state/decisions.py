"""What is requested now: one run a step, up to a batch of what is behind, unless something stands in the way."""

import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import islice

import dagster as dg

from ol_core.orchestration.desired_state.outcomes import Outcome, came_back
from ol_core.orchestration.desired_state.requests import (
    RUNS_LOOKED_AT,
    SETTLED_TAG,
    AttemptPolicy,
    Step,
    busy,
    known_outcomes,
    settle,
)

_POLICY = AttemptPolicy()


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
    policy: AttemptPolicy = _POLICY,
    *,
    live: AbstractSet[str] | None = None,
) -> Decision:
    """Decide what to request for a step. Nothing while one of its runs is unfinished, so a step takes one run slot.

    What another unfinished run makes, of an asset's page or a backfill, waits for its end. A version of before that is
    wanted again, and is held or has no attempt left, is recorded as what counts.

    Args:
        instance: Where runs and events are recorded.
        step: The job and what it makes.
        wanted: Version that each partition should hold; {"": version} for an asset without partitions.
        policy: Attempts, backoff and the size of a batch.
        live: Partitions that may be requested: those of the definition that are not retired; None for all.
    """
    held, holder = busy(instance, step)
    if holder:
        return Decision(waiting=dict(wanted), reason=f"{holder} is running", at_rest=False)
    asked_for = {**settle(instance, step, wanted), **wanted}
    may = {one: version for one, version in asked_for.items() if live is None or one in live}
    known = known_outcomes(instance, step.asset_key, may)
    candidates = {one: known.get(one) for one, version in may.items() if policy.may_try(known.get(one), version)}
    settled = {one: known[one] for one in known if one in wanted and one not in candidates}
    _say_what_came_back(instance, step.asset_key, settled, wanted, at_most=policy.batch_size)
    versions = {one: may[one] for one in candidates}
    if not candidates:
        return Decision(reason=f"{step.job_name}: nothing is behind", at_rest=not held)
    candidates = {one: outcome for one, outcome in candidates.items() if one not in held}
    if not candidates:
        reason = f"{step.job_name}: other runs make the {len(versions)} that are behind"
        return Decision(waiting=versions, reason=reason, at_rest=False)
    forgiven = {one for one, outcome in candidates.items() if outcome is not None and outcome.ending == "r"}
    now, resting_until = time.time(), _outage_until(instance, step.job_name, policy)
    if now < resting_until and not forgiven:
        resting = resting_until - now
        reason = f"{step.job_name} waits {resting:.0f} s: its source was down, or no run starts"
        return Decision(waiting=versions, reason=reason, at_rest=not held)
    due = [
        one
        for one, outcome in candidates.items()
        if one in forgiven or max(resting_until, policy.due_at(outcome, versions[one])) <= now
    ]
    due.sort(key=lambda one: _attempts(candidates[one], versions[one]))  # first what never failed
    batch = {partition: versions[partition] for partition in due[: policy.batch_size]}
    waiting = {partition: version for partition, version in versions.items() if partition not in batch}
    if not batch:
        reason = f"{step.job_name}: {len(waiting)} wait before they are tried again"
        return Decision(waiting=waiting, reason=reason, at_rest=not held)
    return Decision(requests=[step.run_request(batch)], requested=batch, waiting=waiting, at_rest=False)


def _say_what_came_back(
    instance: dg.DagsterInstance,
    asset_key: dg.AssetKey,
    settled: Mapping[str, Outcome],
    wanted: Mapping[str, str],
    *,
    at_most: int,
) -> None:
    moved = {one: outcome for one, outcome in settled.items() if not outcome.retired and outcome.version != wanted[one]}
    for partition, outcome in islice(moved.items(), at_most):
        back = outcome.back_to(wanted[partition])
        if back is not None:
            instance.report_runless_asset_event(came_back(asset_key, partition, back))


def _attempts(outcome: Outcome | None, version: str) -> int:
    last = outcome.of(version) if outcome is not None else None
    return last.attempts if last is not None else 0


def _outage_until(instance: dg.DagsterInstance, job_name: str, policy: AttemptPolicy) -> float:
    """Return until when a job rests whose newest runs found their source down or never started; each doubles it."""
    ended, outages = 0.0, 0
    for record in instance.get_run_records(dg.RunsFilter(job_name=job_name), limit=RUNS_LOOKED_AT):
        if record.dagster_run.tags.get(SETTLED_TAG) != "outage":
            break
        ended, outages = max(ended, record.end_time or 0.0), outages + 1
    return ended + policy.backoff_seconds * 2.0 ** (outages - 1) if outages else 0.0
