"""Submissions of exports, kept as events, so that whoever runs next goes on with the same remote exports."""

import math
import time
from collections.abc import Mapping, Sequence
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
from ol_core.orchestration.exports import ExportLimits, Submission

SUBMITTED_TAG = "ol/submitted"
"""On an observation without partition: how many exports were submitted together."""

_TRUNCATED_SECONDS = 1.0
"""Outcomes have whole seconds."""


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
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, limits: ExportLimits
) -> Mapping[str, Submission]:
    """Return the submissions whose end nobody saw, by remote id, until they count as dead.

    An outcome ends the submission right before it, but for the one failure that only ends the wait: the transient one
    at the submission's deadline.
    """
    told_at: dict[str, float] = {}  # by partition, since when an outcome stands of what was submitted before
    found: dict[str, Submission] = {}
    for record in observations_since(instance, asset_key, time.time() - limits.dead_after_seconds):
        event = record.asset_observation
        if event is None:
            continue
        for submission in submissions_of(event):
            ended_at = told_at.pop(submission.partition, math.inf)
            if ended_at + _TRUNCATED_SECONDS >= submission.submitted_at + limits.deadline_seconds:
                found[submission.remote_id] = submission
        outcome = Outcome.parse(event.tags.get(DATA_VERSION_TAG, ""))
        told_for_others = event.tags.keys() & {RUN_TAG, RETIRED_TAG, CAME_BACK_TAG}  # ended no export
        if event.partition and outcome and outcome.ending != "r" and not told_for_others:
            ended_at = outcome.at if outcome.ending == "t" else -math.inf
            told_at[event.partition] = min(ended_at, told_at.get(event.partition, math.inf))
    return found
