"""Partitions that their source no longer has: a tombstone first, and the key goes once nobody holds it.

Retiring deletes nothing that was made. Files, rows in the raw tables and events stay, since what a course once taught
outlives the course; the list that the source gave (`raw__..__courses`, `..__course_runs`) says what exists today. A
tombstone is an observation of the partition that carries its last outcome on. So a partition that comes back resumes
where it left off: what it holds is held, and failed attempts still count.

A discovery that has far less than is known is not believed until a person says that it is true; see `ShrinkGuard`.
"""

import getpass
import hashlib
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import dagster as dg

from ol_core.dagster_storage import is_backfilling, latest_check
from ol_core.environment import Environment
from ol_core.failures import PermanentFailure
from ol_core.orchestration.desired_state import (
    RETIRED_TAG,
    UNFINISHED,
    Outcome,
    asked,
    failure_reasons,
    outcome_event,
    outcomes,
)
from ol_core.orchestration.discovery import Discovery, Known, Unknown

RETIREMENT_CHECK = "partition_retirement"
"""Name of the asset check that fails while an implausible shrink of the source awaits acknowledgement."""

_PARTITION_TAGS = (
    "dagster/partition",
    "dagster/asset_partition_range_start",
    "dagster/asset_partition_range_end",
)
_NAMED = 20


@dataclass(frozen=True, slots=True)
class ShrinkGuard:
    """How much may be gone in one discovery for it to be believed.

    Attributes:
        share: Largest share of the partitions.
        at_least: So many may be gone though they are a larger share, up to half of the partitions: of two, one. That
            nothing at all is left, be it of one, is never believed without a person.
    """

    share: float = 0.2
    at_least: int = 3

    @classmethod
    def of(cls, environment: Environment) -> "ShrinkGuard":
        """Return the environment's guard."""
        stated = environment.orchestration
        return cls(stated.retire_share, stated.retire_at_least)

    def believes(self, *, gone: int, known: int) -> bool:
        """Whether so many of the known partitions may be gone."""
        return gone < known and gone <= max(self.share * known, min(self.at_least, known / 2))


@dataclass(frozen=True, slots=True)
class Retirement:
    """What follows from a discovery for the partitions that there are.

    Attributes:
        discovery: What was found; `Unknown` where it is not believed.
        removed: Partitions to remove: they were retired before, and nobody holds them.
    """

    discovery: Discovery
    removed: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Shrink:
    """A discovery that was not believed, and waits for a person.

    Attributes:
        asset_key: The asset under which the partitions stand.
        gone: Partitions that the source no longer has.
        known: How many there were.
    """

    asset_key: dg.AssetKey
    gone: Sequence[str] = field(repr=False)
    known: int

    @property
    def shrink_id(self) -> str:
        """Short id that follows from what is gone."""
        return hashlib.sha256("\n".join(sorted(self.gone)).encode()).hexdigest()[:12]

    @property
    def reason(self) -> str:
        """What happened, and what to do, in words."""
        name = self.asset_key.to_user_string()
        return (
            f"{len(self.gone)} of {self.known} partitions of {name} disappeared at once; nothing was retired. "
            f"If that is right, retire them: ol retire acknowledge {name} {self.shrink_id}"
        )


def retire(  # noqa: PLR0913 - what is known, what is found, and the bounds
    instance: dg.DagsterInstance,
    asset_key: dg.AssetKey,
    found: Known,
    partitions: Sequence[str],
    *,
    guard: ShrinkGuard,
    budget_seconds: float,
) -> Retirement:
    """Retire what the source no longer has, take back what it has again, and say what may be removed.

    Args:
        instance: Where events and runs are recorded.
        asset_key: The asset under which the partitions' outcomes stand.
        found: What exists.
        partitions: What is known, in Dagster's order.
        guard: How much may be gone.
        budget_seconds: Time for writing events; what is left over follows from the next discovery.
    """
    deadline = time.monotonic() + budget_seconds
    exists = set(found.keys)
    retired = {partition for partition, outcome in outcomes(instance, asset_key).items() if outcome.retired}
    live = [partition for partition in partitions if partition not in retired]
    gone = sorted(partition for partition in live if partition not in exists)
    if gone and not guard.believes(gone=len(gone), known=len(live)):
        shrink = Shrink(asset_key, gone, len(live))
        standing = _standing(instance, asset_key)
        if standing is None or standing.shrink_id != shrink.shrink_id:
            instance.report_runless_asset_event(_refused(shrink))
        return Retirement(Unknown(shrink.reason, found.keys))
    if _standing(instance, asset_key) is not None:
        reason = f"plausible again: {len(gone)} of {len(live)} partitions are missing"
        instance.report_runless_asset_event(_evaluation(asset_key, reason))
    bury(instance, asset_key, gone, "the source no longer has it", deadline=deadline)
    _take_back(instance, asset_key, sorted(retired & exists), deadline=deadline)
    candidates = {partition for partition in partitions if partition in retired and partition not in exists}
    return Retirement(found, sorted(candidates - _held(instance, candidates, partitions)))


def bury(
    instance: dg.DagsterInstance,
    asset_key: dg.AssetKey,
    partitions: Sequence[str],
    why: str,
    *,
    deadline: float = float("inf"),
) -> int:
    """Write the tombstones of partitions, until a deadline of the monotonic clock; return how many."""
    before = outcomes(instance, asset_key, partitions) if partitions else {}
    reasons = failure_reasons(instance, asset_key, [one for one in partitions if one in before])
    for number, partition in enumerate(partitions):
        if time.monotonic() > deadline:
            return number
        last = before.get(partition) or Outcome("", 0, "r", int(time.time()))
        instance.report_runless_asset_event(
            outcome_event(
                asset_key,
                partition,
                replace(last, retired=True),
                description=f"retired: {why}; files, rows and events stay",
                metadata={"failed_before": reasons[partition]} if partition in reasons else {},
                tags={RETIRED_TAG: "retired"},
            )
        )
    return len(partitions)


def _take_back(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, partitions: Sequence[str], *, deadline: float
) -> None:
    before = outcomes(instance, asset_key, partitions) if partitions else {}
    reasons = failure_reasons(instance, asset_key, partitions) if partitions else {}
    for partition in partitions:
        if time.monotonic() > deadline:
            return
        instance.report_runless_asset_event(
            outcome_event(
                asset_key,
                partition,
                replace(before[partition], retired=False),
                description=reasons.get(partition) or "back: the source has it again",
                tags={RETIRED_TAG: "back"},
            )
        )


def live_partitions(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, partitions: dg.DynamicPartitionsDefinition
) -> set[str]:
    """Return the partitions that are not retired, by two queries.

    Args:
        instance: Where events are recorded.
        asset_key: The asset that is swept.
        partitions: Its partitions.
    """
    known = outcomes(instance, asset_key)
    every = instance.get_dynamic_partitions(str(partitions.name))
    return {partition for partition in every if not (partition in known and known[partition].retired)}


def _held(instance: dg.DagsterInstance, candidates: Collection[str], partitions: Sequence[str]) -> set[str]:
    """Return which candidates an unfinished run holds: any run, of any job; an unfinished backfill holds them all."""
    if not candidates:
        return set()
    if is_backfilling(instance):
        return set(candidates)
    held: set[str] = set()
    place = {partition: number for number, partition in enumerate(partitions)}
    for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)):
        partition, first, last = (run.tags.get(tag, "") for tag in _PARTITION_TAGS)
        held.update([partition, *asked(run)])
        if first in place and last in place:
            held.update(partitions[place[first] : place[last] + 1])
    return held & set(candidates)


def standing_shrinks(instance: dg.DagsterInstance, asset_keys: Iterable[dg.AssetKey]) -> list[Shrink]:
    """Return the shrinks that nobody believes, of these assets."""
    found = (_standing(instance, asset_key) for asset_key in asset_keys)
    return [shrink for shrink in found if shrink is not None]


def acknowledge(instance: dg.DagsterInstance, asset_key: dg.AssetKey, shrink_id: str) -> Shrink:
    """Retire what a shrink names, and nothing else, since a person says that it is gone.

    Raises:
        PermanentFailure: it does not stand, or no longer: the source was read again and has something else.
    """
    shrink = _standing(instance, asset_key)
    name = asset_key.to_user_string()
    if shrink is None or shrink.shrink_id != shrink_id:
        valid = f"the one that does is {shrink.shrink_id}" if shrink else "none does; see `ol retire show`"
        raise PermanentFailure(f"no shrink {shrink_id} of {name} awaits acknowledgement; {valid}")
    who = getpass.getuser()
    bury(instance, asset_key, shrink.gone, f"the source no longer has it, as {who} acknowledged")
    reason = f"{len(shrink.gone)} of {shrink.known} partitions retired, as {who} acknowledged"
    instance.report_runless_asset_event(_evaluation(asset_key, reason))
    return shrink


def _standing(instance: dg.DagsterInstance, asset_key: dg.AssetKey) -> Shrink | None:
    latest = latest_check(instance, asset_key, RETIREMENT_CHECK)
    if latest is None or latest.passed:
        return None
    gone, known = latest.metadata["gone"].value, latest.metadata["known"].value
    return Shrink(asset_key, [str(one) for one in gone], int(known))  # type: ignore[union-attr, arg-type]  # metadata of ours


def _refused(shrink: Shrink) -> dg.AssetCheckEvaluation:
    metadata: dict[str, dg.MetadataValue] = {
        "gone": dg.MetadataValue.json(list(shrink.gone)),
        "known": dg.MetadataValue.int(shrink.known),
        "sample": dg.MetadataValue.md("\n".join(f"- {partition}" for partition in shrink.gone[:_NAMED])),
    }
    return _evaluation(shrink.asset_key, shrink.reason, passed=False, metadata=metadata)


def _evaluation(
    asset_key: dg.AssetKey,
    reason: str,
    *,
    passed: bool = True,
    metadata: Mapping[str, dg.MetadataValue] | None = None,
) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=asset_key,
        check_name=RETIREMENT_CHECK,
        passed=passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=reason,
        metadata=metadata or {},
    )
