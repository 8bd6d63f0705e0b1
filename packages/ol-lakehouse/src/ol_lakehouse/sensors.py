"""The sensor that builds the models when what they read, or the models themselves, changed."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import dagster as dg
from ol_core.cadence import OFF, Cadence
from ol_core.desired_state import MAX_ATTEMPTS, WANTED_VERSION_TAG, in_flight
from ol_core.tables import RawTableIOManager

BUILD = Cadence(dev=60, ci=OFF, qa=3600, production=600)
"""Seconds between two looks: a build takes seconds on the embedded engine and costs money on the distributed one."""


def build_sensor(job_name: str, manifest: Mapping[str, Any], *, seconds: int) -> dg.SensorDefinition:
    """Build the sensor of the job that builds all models.

    Args:
        job_name: Job to request.
        manifest: The baked manifest; its sources are the raw tables that the models read.
        seconds: Between two looks.
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
        return _decide(context.instance, job_name, wanted)

    return build_when_behind


def _decide(instance: dg.DagsterInstance, job_name: str, wanted: str) -> dg.RunRequest | dg.SkipReason:
    if in_flight(instance, job_name):
        return dg.SkipReason("a build is under way")
    built = instance.get_runs(dg.RunsFilter(job_name=job_name, statuses=[dg.DagsterRunStatus.SUCCESS]), limit=1)
    if built and built[0].tags.get(WANTED_VERSION_TAG) == wanted:
        return dg.SkipReason("the models are built from the current snapshots")
    failed = dg.RunsFilter(job_name=job_name, tags={WANTED_VERSION_TAG: wanted}, statuses=[dg.DagsterRunStatus.FAILURE])
    tried = instance.get_runs_count(failed)
    if tried >= MAX_ATTEMPTS:
        return dg.SkipReason(
            f"{tried} builds of these snapshots failed; repair the models, or materialize them by hand"
        )
    return dg.RunRequest(tags={WANTED_VERSION_TAG: wanted})
