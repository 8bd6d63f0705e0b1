"""What an op that works through many partitions records."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TypeVar

import dagster as dg

from ol_core.dagster_storage import keep_connections
from ol_core.failures import OlError, PermanentFailure, TransientFailure
from ol_core.orchestration.desired_state.outcomes import failed_attempt, outcomes, succeeded
from ol_core.orchestration.desired_state.requests import ENDED_TAG, STARTED_TAG, asked

T = TypeVar("T")

Recorded = dg.AssetMaterialization | dg.AssetObservation

_LISTED = 50
_NAMED = 5

OUTAGE_AFTER = 20
"""So many transient failures without a single success mean that the source is down: the run stops asking it."""


def recorded(
    asset_key: dg.AssetKey,
    wanted: Mapping[str, str],
    found: Iterable[tuple[str, T | OlError]],
    events: Callable[[str, T], Iterable[dg.AssetMaterialization]],
) -> Iterator[Recorded]:
    """Record what was done partition by partition; list what failed; then fail the run.

    A run that leaves partitions untold, other than in an outage, has not ended: `settle` judges it like a killed one.

    Args:
        asset_key: Asset under which outcomes stand.
        wanted: Version that each partition was tried for: the one that the source had, where it says so.
        found: What became of each partition of `wanted`, once, as it becomes known.
        events: Makes the materializations of a partition that succeeded.

    Raises:
        dagster.Failure: at least one partition failed or is without an outcome; all others are recorded. It lists
            what failed also where `found` ended with an error.
    """
    context = dg.AssetExecutionContext.get()  # an IO manager records for its asset, and has no context of the op
    keep_connections(context.instance)
    if not asked(context.run):
        yield dg.AssetObservation(
            asset_key, metadata={"wanted": dg.MetadataValue.json(dict(wanted))}, tags={STARTED_TAG: context.run.run_id}
        )
    failures: dict[str, OlError] = {}
    untold = set(wanted)
    outage = False
    try:
        for partition, outcome in _each_once(found, wanted):
            if isinstance(outcome, OlError):
                failures[partition] = outcome
                before = outcomes(context.instance, asset_key, [partition]).get(partition)
                yield failed_attempt(asset_key, partition, wanted[partition], outcome, before=before)
            else:
                yield from events(partition, outcome)
                yield succeeded(asset_key, partition, wanted[partition])
            untold.remove(partition)
            outage = OUTAGE_AFTER <= len(failures) == len(wanted) - len(untold) and _transient(failures)
            if outage:
                break
    except Exception as error:
        raise _failure(failures, untold, len(wanted), f"{type(error).__name__}: {error}\n") from error
    if failures or untold:
        if outage or not untold:
            yield dg.AssetObservation(asset_key, tags={ENDED_TAG: "outage" if untold else "told"})
        raise _failure(failures, untold, len(wanted))


def _each_once(
    found: Iterable[tuple[str, T | OlError]], wanted: Mapping[str, str]
) -> Iterator[tuple[str, T | OlError]]:
    told: set[str] = set()
    for partition, outcome in found:
        if partition in told or partition not in wanted:
            what = "it was told before" if partition in told else "the run does not want it"
            raise PermanentFailure(f"an outcome of {partition!r}: {what}; tell that of each wanted partition once")
        told.add(partition)
        yield partition, outcome


def _transient(failures: Mapping[str, OlError]) -> bool:
    return all(isinstance(error, TransientFailure) for error in failures.values())


def _failure(
    failures: Mapping[str, OlError], untold: Collection[str], asked: int, broken_off_by: str = ""
) -> dg.Failure:
    lines = [f"- {partition}: {type(error).__name__}: {error}" for partition, error in failures.items()]
    if len(lines) > _LISTED:
        lines = [*lines[:_LISTED], f"- and {len(lines) - _LISTED} more; each stands in its partition's events"]
    others = "the others are done"
    if untold:
        named = ", ".join(sorted(untold)[:_NAMED]) + (", ..." if len(untold) > _NAMED else "")
        others = f"{len(untold)} are without an outcome: {named}"
    return dg.Failure(
        description=f"{broken_off_by}{len(failures)} of {asked} partitions failed; {others}\n" + "\n".join(lines),
        metadata={"failed": dg.MetadataValue.md("\n".join(lines))},
        allow_retries=False,
    )
