"""A tick of a sensor that sweeps a source: what exists, what moved, what is requested, and how much was reached."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Protocol

import dagster as dg

from ol_core.failures import TransientFailure
from ol_core.orchestration.desired_state import AttemptPolicy, Decision, Outcome, Step, decide, outcomes
from ol_core.orchestration.discovery import Discovery, Known
from ol_core.orchestration.inventory import news
from ol_core.orchestration.retirement import Retirement, ShrinkGuard, retire
from ol_core.orchestration.sweep import Sweep, SweepCursor, SweepResult, tick_budget_seconds

COVERAGE_CHECK = "sweep_coverage"
"""Name of the asset check that says how much of the source was read in the last rotation."""

TICK_SECONDS = 60
"""Between ticks. A tick in which nothing is due costs a few queries; the source is asked once a rotation."""

_STUCK_AFTER = 4
_LONGEST_WAIT_SECONDS = 3600.0
"""A source that asks to be left alone for longer is asked again after that all the same."""

_Change = dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest


class SweepSource(Protocol):
    """A source that is swept."""

    def discover(self, budget_seconds: float) -> Discovery:
        """Ask what exists; `Unknown` where it cannot be read to its end in this time."""

    def sweep(self, keys: Sequence[str], budget_seconds: float) -> Sweep:
        """Return how to ask for versions of some of these keys, within this time."""


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """What a sweep serves.

    Attributes:
        step: The job that brings what moved.
        partitions: Partitions of its asset; what is discovered is added.
        rotation_seconds: Shortest time from the start of one complete rotation to the next.
        policy: Attempts, backoff and the size of a batch, which is also the most that waits in the cursor.
        listing: The job that writes the list of what exists; None where there is none.
        guard: How much of the source may be gone at once for its partitions to be retired.
    """

    step: Step
    partitions: dg.DynamicPartitionsDefinition
    rotation_seconds: float
    policy: AttemptPolicy = field(default_factory=AttemptPolicy)
    listing: Step | None = None
    guard: ShrinkGuard = field(default_factory=ShrinkGuard)


def sweep_tick(
    context: dg.SensorEvaluationContext, plan: SweepPlan, source: SweepSource, *, budget_seconds: float | None = None
) -> dg.SensorResult:
    """Go on with the sweep, and request what moved. Nothing that was found is lost between ticks.

    Args:
        context: Of the sensor.
        plan: What the sweep serves.
        source: The source; asked only where a rotation is due or goes on.
        budget_seconds: Time from the entry of this function to the last answer; by default what a tick may take.

    Raises:
        OlError: nothing at all can be read. Dagster keeps the cursor as it was, so nothing is skipped; a rotation that
            nothing was read in begins with others in the next tick.
    """
    deadline = time.monotonic() + (budget_seconds or tick_budget_seconds())
    instance, step, cursor = context.instance, plan.step, SweepCursor.parse(context.cursor)
    waits = 0 < cursor.not_before - time.time() <= _LONGEST_WAIT_SECONDS
    cursor = cursor if waits else replace(cursor, not_before=0.0)
    cursor, keys, changes = _rotation(context, plan, source, cursor, deadline=deadline)
    known = outcomes(instance, step.asset_key)
    keys = {key for key in keys if not (key in known and known[key].retired)}
    pending = {key: version for key, version in cursor.pending.items() if key in keys}
    pending |= _forgiven(known, keys.difference(pending), plan.policy.batch_size - len(pending))
    if cursor.is_open and not waits:
        room = plan.policy.batch_size - len(pending)
        result = _swept(plan, source, cursor, keys, known=known, room=room, deadline=deadline)
        cursor, pending = result.cursor, _merged(pending, result)
        for key, error in list(result.failed.items())[:5]:
            context.log.warning("%s: its version is unknown: %s", key, error)
    decision = decide(instance, step, pending, plan.policy)
    waiting = {key: version for key, version in decision.waiting.items() if key in keys}
    listing = _listing(instance, plan, cursor)
    events, reported = _coverage(plan, cursor, len(keys), waits=waits)
    stock, kept = news(instance, step, keys, waiting, at_rest=decision.at_rest, reported=cursor.inventory)
    requests = [*listing.requests, *decision.requests]
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else f"{decision.reason}; {_progress(cursor, len(keys))}",
        cursor=str(replace(cursor, pending=waiting, reported=reported, inventory=kept)),
        dynamic_partitions_requests=changes,
        asset_events=[*events, *stock],
    )


def _rotation(
    context: dg.SensorEvaluationContext, plan: SweepPlan, source: SweepSource, cursor: SweepCursor, *, deadline: float
) -> tuple[SweepCursor, set[str], list[_Change]]:
    """Begin the next rotation where one is due; return the cursor, all partitions, and how those change.

    A list that does not fit into a tick is read on in the next ones, while the rotation goes on.
    """
    partitions = context.instance.get_dynamic_partitions(str(plan.partitions.name))
    now, keys = time.time(), set(partitions)
    patience = _STUCK_AFTER if cursor.is_open else 1  # in a rotation that does not end, others come first in the next
    is_due = not 0 <= now - cursor.started_at < plan.rotation_seconds * patience
    if cursor.not_before or not (is_due or cursor.reads_on):
        has_begun = cursor.after or not cursor.is_open
        return cursor if has_begun else replace(cursor, started_at=now), keys, []
    retirement = _discovered(context.instance, plan, source, partitions, deadline=deadline)
    found, removed = retirement.discovery, list(retirement.removed)
    cursor = cursor.next_rotation(now=now) if is_due else cursor
    if isinstance(found, Known):
        cursor, seen = replace(cursor, discovery="", reads_on=False, listing=found.version), found.keys
    else:
        context.log.warning("what the source has is unknown, so nothing is retired: %s", found.reason)
        cursor, seen = replace(cursor, discovery=found.reason, reads_on=found.goes_on), found.seen
    new = sorted(set(seen) - keys)
    changes: list[_Change] = [plan.partitions.build_add_request(new)] if new else []
    if removed:
        changes.append(plan.partitions.build_delete_request(removed))
    return cursor, keys.union(new).difference(removed), changes


def _discovered(
    instance: dg.DagsterInstance, plan: SweepPlan, source: SweepSource, partitions: Sequence[str], *, deadline: float
) -> Retirement:
    found = source.discover((deadline - time.monotonic()) / 2)
    if isinstance(found, Known):
        return retire(
            instance,
            plan.step.asset_key,
            found,
            partitions,
            guard=plan.guard,
            budget_seconds=(deadline - time.monotonic()) / 2,
        )
    if not partitions and not found.seen:
        raise TransientFailure(f"what the source has is unknown, and nothing was ever seen of it: {found.reason}")
    return Retirement(found)


def _swept(  # noqa: PLR0913 - the plan, the source, and the bounds
    plan: SweepPlan,
    source: SweepSource,
    cursor: SweepCursor,
    keys: AbstractSet[str],
    *,
    known: Mapping[str, Outcome],
    room: int,
    deadline: float,
) -> SweepResult:
    """Go on with the rotation; where the source asks to be left alone beyond the next tick, note until when."""
    try:
        result = source.sweep(sorted(keys), deadline - time.monotonic()).run(
            keys,
            cursor,
            is_settled=lambda key, version: not plan.policy.may_try(known.get(key), version),
            room=room,
        )
    except TransientFailure as error:  # a tick that raises could not note it, and the next one would ask at once
        if (error.retry_after_seconds or 0.0) <= TICK_SECONDS:
            raise
        result = SweepResult({}, [], {}, keys, cursor, error.retry_after_seconds or 0.0)
    if result.retry_after_seconds <= TICK_SECONDS:
        return result
    until = time.time() + min(result.retry_after_seconds, _LONGEST_WAIT_SECONDS)
    return replace(result, cursor=replace(result.cursor, not_before=until))


def _forgiven(known: Mapping[str, Outcome], keys: AbstractSet[str], room: int) -> dict[str, str]:
    """Return what somebody wants tried again, as much as there is room for; it does not wait for its next reading."""
    forgiven = (key for key in sorted(keys) if key in known and known[key].ending == "r")
    return {key: known[key].version for key in islice(forgiven, max(0, room))}


def _merged(pending: Mapping[str, str], result: SweepResult) -> dict[str, str]:
    """Return what is to be requested: what moved, and what was found before and still stands."""
    settled = set(result.unchanged)
    return {**{key: version for key, version in pending.items() if key not in settled}, **result.changed}


def _listing(instance: dg.DagsterInstance, plan: SweepPlan, cursor: SweepCursor) -> Decision:
    if plan.listing is None or not cursor.listing:
        return Decision()
    return decide(instance, plan.listing, {"": cursor.listing}, plan.policy)


def _coverage(
    plan: SweepPlan, cursor: SweepCursor, existing: int, *, waits: bool
) -> tuple[list[dg.AssetCheckEvaluation], str]:
    """Return the evaluation of a rotation that is complete, or that waits, where it differs from the one before."""
    if ((cursor.is_open or cursor.reads_on) and not waits) or not cursor.rotation:
        return [], cursor.reported
    passed = not cursor.failed and not cursor.discovery and not waits
    named = sorted(cursor.sample) if len(cursor.sample) == cursor.failed else []  # else it is another sample each time
    state = json.dumps([passed, cursor.failed, named, cursor.discovery, *(["waits"] if waits else [])])
    reported = hashlib.sha256(state.encode()).hexdigest()[:16]
    if reported == cursor.reported:
        return [], reported
    metadata: Mapping[str, dg.MetadataValue] = {
        "read": dg.MetadataValue.int(cursor.read),
        "failed": dg.MetadataValue.int(cursor.failed),
        "partitions": dg.MetadataValue.int(existing),
        "sample": dg.MetadataValue.json(dict(cursor.sample)),
        **({"discovery": dg.MetadataValue.text(cursor.discovery)} if cursor.discovery else {}),
    }
    evaluation = dg.AssetCheckEvaluation(
        asset_key=plan.step.asset_key,
        check_name=COVERAGE_CHECK,
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=_progress(cursor, existing),
        metadata=metadata,
    )
    return [evaluation], reported


def _progress(cursor: SweepCursor, existing: int) -> str:
    state = "goes on" if cursor.is_open else "is complete"
    counts = f"{cursor.read} of {existing} read, {cursor.failed} failed"
    until = datetime.fromtimestamp(cursor.not_before, UTC) if cursor.not_before else None
    wait = f"the source asked to be left alone until {until:%Y-%m-%d %H:%M:%S} UTC" if until else ""
    return "; ".join(filter(None, (f"rotation {cursor.rotation} {state}: {counts}", wait, cursor.discovery)))
