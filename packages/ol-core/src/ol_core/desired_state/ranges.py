"""Runs over contiguous ranges of partitions, for jobs whose op does not take `WantedVersions` yet."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import dagster as dg

from ol_core.desired_state.outcomes import WANTED_VERSION_TAG, as_version
from ol_core.desired_state.requests import MAX_ATTEMPTS, in_flight


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
