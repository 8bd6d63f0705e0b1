"""What should be requested: partitions whose wanted version differs from the held one, with attempts left.

Nothing here remembers events. Held versions and failed attempts are read from what Dagster recorded, so a lost tick, a
restart or a run started by hand can neither lose an update nor repeat a run for ever.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TypeVar

import dagster as dg

from ol_core.failures import OlError

T = TypeVar("T")

DATA_VERSION_TAG = "dagster/data_version"
"""Dagster's own tag: version of what a materialization holds."""

WANTED_VERSION_TAG = "ol/wanted_version"
"""Version that a materialization, or a failed attempt, was made for."""

MAX_ATTEMPTS = 3
"""Attempts for one (partition, wanted version) where failures are transient; a permanent failure is not tried again."""

_PAGE = 1000
_VERSION = re.compile(r"[A-Za-z0-9_.-]{1,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = [status for status in dg.DagsterRunStatus if status.value not in ("SUCCESS", "FAILURE", "CANCELED")]


def as_version(text: str) -> str:
    """Return a version that Dagster takes as a tag's value: the text itself, or a digest of it."""
    if _VERSION.fullmatch(text):
        return text
    digest = text if _SHA256.fullmatch(text) else hashlib.sha256(text.encode()).hexdigest()
    return digest[:40]


def latest_by_partition(instance: dg.DagsterInstance, asset_key: dg.AssetKey) -> dict[str, dg.AssetMaterialization]:
    """Return the newest materialization of each partition; the key is "" for an asset without partitions."""
    latest: dict[str, dg.AssetMaterialization] = {}
    cursor: str | None = None
    while True:
        page = instance.fetch_materializations(asset_key, limit=_PAGE, cursor=cursor)
        for record in page.records:
            if record.asset_materialization is not None:
                latest.setdefault(record.partition_key or "", record.asset_materialization)
        if not page.has_more:
            return latest
        cursor = page.cursor


def held_versions(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, *, tag: str = WANTED_VERSION_TAG
) -> dict[str, str]:
    """Return the version that the newest materialization of each partition ("" without partitions) carries in `tag`."""
    latest = latest_by_partition(instance, asset_key)
    return {partition: event.tags[tag] for partition, event in latest.items() if event.tags and tag in event.tags}


def failed_attempt(asset_key: dg.AssetKey, partition: str, version: str, error: Exception) -> dg.AssetObservation:
    """Return the event that records a failed attempt at one partition's wanted version."""
    return dg.AssetObservation(
        asset_key=asset_key,
        partition=partition or None,
        description=f"{type(error).__name__}: {error}",
        metadata={"error_type": type(error).__name__, "error": str(error)},
        tags={WANTED_VERSION_TAG: version},
    )


def failed_attempts(instance: dg.DagsterInstance, asset_key: dg.AssetKey) -> dict[tuple[str, str], list[str]]:
    """Return, for each (partition, wanted version) with failed attempts, their errors as `Type: message`."""
    attempts: dict[tuple[str, str], list[str]] = {}
    cursor: str | None = None
    while True:
        page = instance.fetch_observations(asset_key, limit=_PAGE, cursor=cursor)
        for record in page.records:
            event = record.asset_observation
            if event is not None and WANTED_VERSION_TAG in event.tags:
                key = (record.partition_key or "", event.tags[WANTED_VERSION_TAG])
                attempts.setdefault(key, []).append(event.description or "")
        if not page.has_more:
            return attempts
        cursor = page.cursor


def changed(instance: dg.DagsterInstance, asset_key: dg.AssetKey, wanted: Mapping[str, str]) -> dict[str, str]:
    """Return the part of `wanted` to request: what is not held at that version and has attempts left."""
    held = held_versions(instance, asset_key)
    behind = {partition: version for partition, version in wanted.items() if held.get(partition) != version}
    if not behind:
        return {}
    attempts = failed_attempts(instance, asset_key)
    return {item[0]: item[1] for item in behind.items() if _may_try(attempts.get(item, []))}


def _may_try(errors: Sequence[str]) -> bool:
    kinds = Counter(error.split(":", 1)[0] for error in errors)
    return len(errors) < MAX_ATTEMPTS and kinds.total() == kinds["TransientFailure"]


def contiguous_ranges(partitions: Sequence[str], all_partitions: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (first, last) of each contiguous stretch of `partitions` in the order of `all_partitions`."""
    position = {partition: place for place, partition in enumerate(all_partitions)}
    places = sorted(position[partition] for partition in partitions)
    for _, stretch in groupby(enumerate(places), key=lambda pair: pair[1] - pair[0]):
        members = [place for _, place in stretch]
        yield all_partitions[members[0]], all_partitions[members[-1]]


def run_requests(
    instance: dg.DagsterInstance, job_name: str, wanted: Mapping[str, str], all_partitions: Sequence[str] = ("",)
) -> Iterator[dg.RunRequest]:
    """Yield a run for each contiguous stretch of the wanted partitions; none while a run of the job is unfinished.

    A run that dies without saying which partition was to blame counts against its whole stretch.
    """
    if not wanted or in_flight(instance, job_name):
        return
    order = [partition for partition in all_partitions if partition in wanted]
    for first, last in contiguous_ranges(order, all_partitions):
        stretch = order[order.index(first) : order.index(last) + 1]
        tags = {WANTED_VERSION_TAG: as_version(repr([(partition, wanted[partition]) for partition in stretch]))}
        failed = dg.RunsFilter(job_name=job_name, tags=tags, statuses=[dg.DagsterRunStatus.FAILURE])
        if instance.get_runs_count(failed) >= MAX_ATTEMPTS:
            continue
        if first:
            tags |= {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        yield dg.RunRequest(job_name=job_name, tags=tags)


def in_flight(instance: dg.DagsterInstance, job_name: str) -> bool:
    """Whether a run of the job is queued, starting or running."""
    return instance.get_runs_count(dg.RunsFilter(job_name=job_name, statuses=_UNFINISHED)) > 0


def recorded(
    asset_key: dg.AssetKey,
    wanted: Mapping[str, str],
    outcomes: Iterable[tuple[str, T | OlError]],
    events: Callable[[str, T], Iterable[dg.AssetMaterialization]],
) -> Iterator[dg.AssetMaterialization | dg.AssetObservation]:
    """Record what was done partition by partition; list what failed; then fail the run.

    Args:
        asset_key: Asset under which failed attempts stand.
        wanted: Version that each partition was tried for.
        outcomes: What became of each partition, as it becomes known.
        events: Makes the materializations of a partition that succeeded.

    Raises:
        dagster.Failure: at least one partition failed; all others are recorded.
    """
    failures: dict[str, OlError] = {}
    for partition, outcome in outcomes:
        if isinstance(outcome, OlError):
            failures[partition] = outcome
            yield failed_attempt(asset_key, partition, wanted.get(partition, ""), outcome)
        else:
            yield from events(partition, outcome)
    if failures:
        lines = [f"- {partition}: {type(error).__name__}: {error}" for partition, error in failures.items()]
        raise dg.Failure(
            description=f"{len(failures)} of {len(wanted)} partitions failed; the others are done\n" + "\n".join(lines),
            metadata={"failed": dg.MetadataValue.md("\n".join(lines))},
            allow_retries=False,
        )
