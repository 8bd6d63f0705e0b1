"""Submissions of exports, kept as events, so that whoever runs next goes on with the same remote exports."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import dagster as dg

from ol_core.dagster_storage import DATA_VERSION_TAG
from ol_core.orchestration.desired_state.outcomes import (
    CAME_BACK_TAG,
    RETIRED_TAG,
    RUN_TAG,
    Outcome,
    observations_since,
)
from ol_core.orchestration.exports import Submission

SUBMITTED_TAG = "ol/submitted"
"""On an observation without partition: how many exports were submitted together."""


def submitted(asset_key: dg.AssetKey, submissions: Sequence[Submission], *, run_id: str) -> dg.AssetObservation:
    """Return the one event that keeps a batch of submissions; report it before anything is waited for."""
    return dg.AssetObservation(
        asset_key,
        description=f"{len(submissions)} exports submitted or taken up",
        metadata={"submissions": dg.MetadataValue.json([asdict(one) for one in submissions])},
        tags={SUBMITTED_TAG: str(len(submissions)), RUN_TAG: run_id},
    )


def submissions_of(event: dg.AssetObservation) -> list[Submission]:
    """Return the submissions that an event keeps; none where it keeps something else."""
    if SUBMITTED_TAG not in event.tags:
        return []
    stated: Any = event.metadata["submissions"].value
    return [Submission(**one) for one in stated]


def unfinished_submissions(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, partitions: Collection[str], *, max_age_seconds: float
) -> Mapping[str, Submission]:
    """Return the newest submission of each partition that has no outcome yet.

    Args:
        instance: Where events are recorded.
        asset_key: The asset.
        partitions: Only these.
        max_age_seconds: Older submissions are not looked for; the deadline of an export.
    """
    ended: set[str] = set()
    found: dict[str, Submission] = {}
    for record in observations_since(instance, asset_key, time.time() - max_age_seconds):
        event = record.asset_observation
        if event is None:
            continue
        for submission in submissions_of(event):
            if submission.partition in partitions and submission.partition not in ended:
                found.setdefault(submission.partition, submission)
        told_for_others = event.tags.keys() & {RUN_TAG, RETIRED_TAG, CAME_BACK_TAG}  # ended no export
        if event.partition and not told_for_others and Outcome.parse(event.tags.get(DATA_VERSION_TAG, "")):
            ended.add(event.partition)
    return found
