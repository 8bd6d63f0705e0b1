"""What an op that works through many partitions records."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

import dagster as dg

from ol_core.dagster_storage import keep_connections
from ol_core.failures import OlError, TransientFailure
from ol_core.orchestration.desired_state.outcomes import failed_attempt, outcomes, succeeded
from ol_core.orchestration.desired_state.requests import ENDED_TAG, STARTED_TAG, asked

T = TypeVar("T")

Recorded = dg.AssetMaterialization | dg.AssetObservation

_LISTED = 50

OUTAGE_AFTER = 20
"""So many transient failures without a single success mean that the source is down: the run stops asking it."""


def recorded(
    asset_key: dg.AssetKey,
    wanted: Mapping[str, str],
    found: Iterable[tuple[str, T | OlError]],
    events: Callable[[str, T], Iterable[dg.AssetMaterialization]],
) -> Iterator[Recorded]:
    """Record what was done partition by partition; list what failed; then fail the run.

    Args:
        asset_key: Asset under which outcomes stand.
        wanted: Version that each partition was tried for: the one that the source had, where it says so.
        found: What became of each partition, as it becomes known.
        events: Makes the materializations of a partition that succeeded.

    Raises:
        dagster.Failure: at least one partition failed; all others are recorded.
    """
    context = dg.AssetExecutionContext.get()  # an IO manager records for its asset, and has no context of the op
    keep_connections(context.instance)
    if not asked(context.run):
        yield dg.AssetObservation(
            asset_key, metadata={"wanted": dg.MetadataValue.json(dict(wanted))}, tags={STARTED_TAG: context.run.run_id}
        )
    failures: dict[str, OlError] = {}
    done = 0
    for partition, outcome in found:
        version = wanted.get(partition, "")
        if isinstance(outcome, OlError):
            failures[partition] = outcome
            before = outcomes(context.instance, asset_key, [partition]).get(partition)
            yield failed_attempt(asset_key, partition, version, outcome, before=before)
            if not done and len(failures) >= OUTAGE_AFTER and _transient(failures):
                break
        else:
            done += 1
            yield from events(partition, outcome)
            yield succeeded(asset_key, partition, version)
    if failures:
        outage = not done and len(failures) < len(wanted) and _transient(failures)
        yield dg.AssetObservation(asset_key, tags={ENDED_TAG: "outage" if outage else "told"})
        raise _failure(failures, done, len(wanted))


def _transient(failures: Mapping[str, OlError]) -> bool:
    return all(isinstance(error, TransientFailure) for error in failures.values())


def _failure(failures: Mapping[str, OlError], done: int, asked: int) -> dg.Failure:
    lines = [f"- {partition}: {type(error).__name__}: {error}" for partition, error in failures.items()]
    if len(lines) > _LISTED:
        lines = [*lines[:_LISTED], f"- and {len(lines) - _LISTED} more; each stands in its partition's events"]
    others = (
        "the others are done" if done + len(failures) == asked else f"{asked - done - len(failures)} were not tried"
    )
    return dg.Failure(
        description=f"{len(failures)} of {asked} partitions failed; {others}\n" + "\n".join(lines),
        metadata={"failed": dg.MetadataValue.md("\n".join(lines))},
        allow_retries=False,
    )
