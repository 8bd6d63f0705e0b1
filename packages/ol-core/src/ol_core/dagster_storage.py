"""Where production imports `dagster._core`, and nowhere else: queries over partitions, checks, backfills, pools.

Dagster's public API reads events one page at a time, with all that is in them; over thousands of partitions that costs
seconds per tick. `tests/unit/test_dagster_storage.py` fails where a release changes what is used here.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakSet

import dagster as dg

DATA_VERSION_TAG = "dagster/data_version"
"""Dagster's own tag, and the only one of an asset's events that its storage can look up partition by partition."""

EventKind = Literal["materialization", "observation"]

_STATEMENT_TIMEOUT_MS = 600_000
_CONNECTION_SECONDS = 1800
_KEEPING: WeakSet[dg.DagsterInstance] = WeakSet()

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
    if partitions is not None and not partitions:  # to Dagster, no partitions are all
        return {}
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
    if partitions is not None and not partitions:
        return {}
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
    from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES, BulkActionsFilter, BulkActionStatus

    unfinished = [status for status in BulkActionStatus if status not in BULK_ACTION_TERMINAL_STATUSES]
    return bool(instance.get_backfills(filters=BulkActionsFilter(statuses=unfinished), limit=1))


@dataclass(frozen=True, slots=True)
class EndingCount:
    """How often the attempts at an asset's partitions ended in one way within a window.

    Attributes:
        asset_key: The asset, as the storage spells it.
        ending: Letter of the ending.
        window: Number of the window since 1970.
        count: How often.
        first_at: The first time, in unix seconds.
        last_at: The last time.
        first_id: Place of the first in the storage; see `count_endings`.
    """

    asset_key: str
    ending: str
    window: int
    count: int
    first_at: int
    last_at: int
    first_id: int


def count_endings(  # noqa: PLR0913 - the bounds of the query
    instance: dg.DagsterInstance,
    asset_keys: Collection[dg.AssetKey],
    pattern: str,
    *,
    after_id: int,
    since: float,
    window_seconds: int,
) -> tuple[list[EndingCount], int]:
    """Count data versions that end in a letter and a time, window by window, by one query.

    Args:
        instance: Where events are recorded.
        asset_keys: Assets of the events.
        pattern: Regular expression of the data versions; each ends in a letter and ten digits of unix seconds.
        after_id: Place in the storage; what stands before it is not looked at.
        since: Unix seconds; what was before is not counted.
        window_seconds: Length of a window.

    Returns:
        The counts, and the place of the newest row of all.
    """
    import sqlalchemy as sa
    from dagster._core.storage.event_log.schema import AssetEventTagsTable

    row = AssetEventTagsTable.c
    at = sa.cast(sa.func.substr(row.value, sa.func.length(row.value) - 9), sa.BigInteger)
    ending, window = sa.func.substr(row.value, sa.func.length(row.value) - 10, 1), at // window_seconds
    newest = newest_tag_id(instance)
    counts = (
        sa.select(row.asset_key, ending, window, sa.func.count(), sa.func.min(at), sa.func.max(at), sa.func.min(row.id))
        .where(
            row.id > after_id,
            row.id <= newest,
            row.key == DATA_VERSION_TAG,
            row.value.regexp_match(pattern),
            at >= int(since),
        )
        # through a function, so that the range of ids is what is searched, and not all that the assets ever had
        .where(sa.func.coalesce(row.asset_key, "").in_([key.to_string() for key in asset_keys]))
        .group_by(row.asset_key, ending, window)
    )
    with instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]  # every storage of SQL has it
        rows = connection.execute(counts).fetchall()
    return [EndingCount(*map(_plain, one)) for one in rows], newest


def newest_tag_id(instance: dg.DagsterInstance) -> int:
    """Return the place of the newest tag in the storage; 0 where there is none."""
    import sqlalchemy as sa
    from dagster._core.storage.event_log.schema import AssetEventTagsTable

    with instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]  # as above
        return int(connection.execute(sa.select(sa.func.max(AssetEventTagsTable.c.id))).scalar() or 0)


def sample_event_ids(
    instance: dg.DagsterInstance, counted: EndingCount, pattern: str, *, window_seconds: int, limit: int
) -> list[int]:
    """Return the storage ids of the newest events that a count counted."""
    import sqlalchemy as sa
    from dagster._core.storage.event_log.schema import AssetEventTagsTable

    row = AssetEventTagsTable.c
    at = sa.cast(sa.func.substr(row.value, sa.func.length(row.value) - 9), sa.BigInteger)
    newest = (
        sa.select(row.event_id)
        .where(row.id >= counted.first_id, row.key == DATA_VERSION_TAG, row.value.regexp_match(pattern))
        .where(sa.func.coalesce(row.asset_key, "") == counted.asset_key, at // window_seconds == counted.window)
        .where(sa.func.substr(row.value, sa.func.length(row.value) - 10, 1) == counted.ending)
        .order_by(row.id.desc())
        .limit(limit)
    )
    with instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]  # every storage of SQL has it
        return [int(one[0]) for one in connection.execute(newest).fetchall()]


def _plain(value: Any) -> Any:  # noqa: ANN401 - a column's value
    return value if isinstance(value, str) else int(value)


def tag_run(instance: dg.DagsterInstance, run_id: str, tags: Mapping[str, str]) -> None:
    """Add tags to a run that exists."""
    instance.add_run_tags(run_id, dict(tags))


def keep_connections(instance: dg.DagsterInstance) -> None:
    """Let this process keep its connections to Dagster's PostgreSQL, as the web server does.

    By default each query opens one, and to log in costs more than to record an event. On SQLite nothing changes, nor
    the second time.
    """
    if instance in _KEEPING:
        return
    _KEEPING.add(instance)
    instance.optimize_for_webserver(_STATEMENT_TIMEOUT_MS, _CONNECTION_SECONDS, max_overflow=20)


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
