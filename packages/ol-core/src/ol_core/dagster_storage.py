"""The one place that calls what Dagster does not promise to keep: queries over partitions, checks, backfills, pools.

Dagster's public API reads events one page at a time, with all that is in them; over thousands of partitions that costs
seconds a tick. `tests/unit/test_dagster_storage.py` fails where a release changes what is used here.
"""

from collections.abc import Collection, Mapping
from typing import Literal

import dagster as dg
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES, BulkActionsFilter, BulkActionStatus

DATA_VERSION_TAG = "dagster/data_version"
"""Dagster's own tag, and the only one of an asset's events that its storage can look up partition by partition."""

EventKind = Literal["materialization", "observation"]

_EVENT_TYPES = {
    "materialization": dg.DagsterEventType.ASSET_MATERIALIZATION,
    "observation": dg.DagsterEventType.ASSET_OBSERVATION,
}


def latest_data_versions(
    instance: dg.DagsterInstance,
    asset_key: dg.AssetKey,
    kind: EventKind,
    partitions: Collection[str] | None = None,
) -> dict[str, str]:
    """Return the data version of each partition's newest event of a kind, by one query.

    Args:
        instance: Where events are recorded.
        asset_key: A partitioned asset.
        kind: Which events.
        partitions: Only these; None for all.

    Returns:
        Versions by partition; a partition whose newest event has no data version is left out.
    """
    latest = instance.event_log_storage.get_latest_tags_by_partition(
        asset_key, _EVENT_TYPES[kind], [DATA_VERSION_TAG], None if partitions is None else list(partitions)
    )
    return {partition: tags[DATA_VERSION_TAG] for partition, tags in latest.items() if DATA_VERSION_TAG in tags}


def latest_event_ids(
    instance: dg.DagsterInstance,
    asset_key: dg.AssetKey,
    kind: EventKind,
    partitions: Collection[str] | None = None,
) -> dict[str, int]:
    """Return the storage id of each partition's newest event of a kind, by one query."""
    return dict(
        instance.event_log_storage.get_latest_storage_id_by_partition(
            asset_key, _EVENT_TYPES[kind], None if partitions is None else set(partitions)
        )
    )


def latest_check(instance: dg.DagsterInstance, asset_key: dg.AssetKey, name: str) -> dg.AssetCheckEvaluation | None:
    """Return the newest evaluation of an asset's check, by one query."""
    record = instance.get_latest_asset_check_evaluation_record(dg.AssetCheckKey(asset_key, name))
    event = record.event.dagster_event if record and record.event else None
    evaluation = event.event_specific_data if event else None
    return evaluation if isinstance(evaluation, dg.AssetCheckEvaluation) else None


def is_backfilling(instance: dg.DagsterInstance) -> bool:
    """Whether a backfill is unfinished; it may hold partitions that no run says yet."""
    unfinished = [status for status in BulkActionStatus if status not in BULK_ACTION_TERMINAL_STATUSES]
    return bool(instance.get_backfills(filters=BulkActionsFilter(statuses=unfinished), limit=1))


def tag_run(instance: dg.DagsterInstance, run_id: str, tags: Mapping[str, str]) -> None:
    """Add tags to a run that exists."""
    instance.add_run_tags(run_id, dict(tags))


def pool_limits(instance: dg.DagsterInstance) -> dict[str, int]:
    """Return the limits of pools that somebody set; those that Dagster filled in by default are left out."""
    return {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits() if not pool.from_default}


def set_pool_limit(instance: dg.DagsterInstance, pool: str, limit: int) -> None:
    """Set how many ops of a pool may run at once."""
    instance.event_log_storage.set_concurrency_slots(pool, limit)


def free_pool_slots(instance: dg.DagsterInstance) -> None:
    """Give back what runs hold in pools, where none of them is alive: who was killed could not."""
    for run_id in instance.event_log_storage.get_concurrency_run_ids():
        instance.event_log_storage.free_concurrency_slots_for_run(run_id)
