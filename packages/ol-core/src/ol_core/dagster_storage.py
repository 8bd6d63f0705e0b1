"""The one place that calls what Dagster does not promise to keep: two queries over all partitions, and tags on a run.

Dagster's public API reads events one page at a time, with all that is in them; over thousands of partitions that costs
seconds a tick. `tests/unit/test_dagster_storage.py` fails where a release changes what is used here.
"""

from collections.abc import Collection, Mapping
from typing import Literal

import dagster as dg

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


def tag_run(instance: dg.DagsterInstance, run_id: str, tags: Mapping[str, str]) -> None:
    """Add tags to a run that exists."""
    instance.add_run_tags(run_id, dict(tags))
