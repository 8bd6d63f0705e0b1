"""The sensor that builds the models when what they read, or the models themselves, changed."""

import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

import dagster as dg
from ol_core.orchestration.cadence import OFF, Cadence
from ol_core.orchestration.desired_state import WANTED_VERSION_TAG, AttemptPolicy, Outcome, Step, in_flight, outcomes
from ol_core.tables import RawTableIOManager

BUILDS = Step("lakehouse_dbt_build", dg.AssetKey(["lakehouse", "dbt_build"]))
"""Builds of all models; each attempt is a run."""

BUILD = Cadence(dev=60, ci=OFF, qa=3600, production=600)
"""Seconds between two looks: a build takes seconds on the embedded engine and costs money on the distributed one."""


def build_sensor(
    job_name: str, manifest: Mapping[str, Any], *, seconds: int, policy: AttemptPolicy
) -> dg.SensorDefinition:
    """Build the sensor of the job that builds all models.

    Args:
        job_name: Job to request.
        manifest: The baked manifest; its sources are the raw tables that the models read.
        seconds: Between two looks.
        policy: How often a build of the same snapshots is tried, and how soon again.
    """
    reads = sorted(source["name"] for source in manifest["sources"].values())

    @dg.sensor(
        name="lakehouse_build",
        job_name=job_name,
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        metadata=BUILD.metadata,
        description="Requests a build when a raw table has a new snapshot or the models changed; otherwise nothing.",
    )
    def build_when_behind(
        context: dg.SensorEvaluationContext, raw_table_io_manager: dg.ResourceParam[RawTableIOManager]
    ) -> dg.RunRequest | dg.SkipReason:
        snapshots = raw_table_io_manager.snapshots()
        missing = [table for table in reads if table not in snapshots]
        if missing:
            return dg.SkipReason(f"{len(missing)} raw tables are not there yet, such as {missing[0]}")
        state = [manifest, {table: snapshots[table] for table in reads}]
        wanted = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
        return _decide(context.instance, job_name, wanted, policy)

    return build_when_behind


def _decide(
    instance: dg.DagsterInstance, job_name: str, wanted: str, policy: AttemptPolicy
) -> dg.RunRequest | dg.SkipReason:
    if in_flight(instance, job_name):
        return dg.SkipReason("a build is under way")
    built = instance.get_runs(dg.RunsFilter(job_name=job_name, statuses=[dg.DagsterRunStatus.SUCCESS]), limit=1)
    if built and built[0].tags.get(WANTED_VERSION_TAG) == wanted:
        return dg.SkipReason("the models are built from the current snapshots")
    failed = dg.RunsFilter(job_name=job_name, tags={WANTED_VERSION_TAG: wanted}, statuses=[dg.DagsterRunStatus.FAILURE])
    last = outcomes(instance, BUILDS.asset_key, [""]).get("")
    forgiven_at = last.at if last is not None and last.ending == "r" else 0
    runs = instance.get_run_records(failed, limit=policy.attempts)
    ends = [int(run.end_time or 0) for run in runs if (run.end_time or 0) > forgiven_at]
    outcome = Outcome(wanted, len(ends), "t", max(ends)) if ends else None
    if not policy.may_try(outcome, wanted):
        return dg.SkipReason(
            f"{len(ends)} builds of these snapshots failed; repair the models, then have them built again: "
            f"ol recover {BUILDS.asset_key.to_user_string()} --failed"
        )
    pause = policy.due_at(outcome, wanted) - time.time()
    if pause > 0:
        return dg.SkipReason(f"{len(ends)} builds of these snapshots failed; the next waits {pause:.0f} s")
    return dg.RunRequest(tags={WANTED_VERSION_TAG: wanted})
