"""Sensors of a deployment: one asks the source, one brings what follows from it up to date."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
from ol_core.desired_state import DATA_VERSION_TAG, changed, held_versions, run_requests

from ol_openedx.assets.content import LAST_KIND, wanted_processed, wanted_raw
from ol_openedx.assets.keys import DeploymentAssets
from ol_openedx.resources import OpenEdxApiClientFactory

if TYPE_CHECKING:
    from ol_openedx.sweep import Sweep

Jobs = Mapping[str, Any]
"""A deployment's jobs by step; Dagster does not export the type of what `define_asset_job` returns."""

SWEEP_SECONDS = 3600
FOLLOW_SECONDS = 60


def sweep_sensor(keys: DeploymentAssets, jobs: Jobs) -> dg.SensorDefinition:
    """Build the sensor that asks a deployment what it has and requests the course runs that moved."""

    @dg.sensor(
        name=keys.name("sweep"),
        jobs=[jobs["course_runs"], jobs["course_xml"]],
        minimum_interval_seconds=SWEEP_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Asks {keys.deployment} for its course runs and requests those whose version moved.",
    )
    def sweep_deployment(context: dg.SensorEvaluationContext, openedx_api: OpenEdxApiClientFactory) -> dg.SensorResult:
        from ol_openedx.sweep import sweep

        with openedx_api.client(keys.deployment) as client:
            found = sweep(client)
        for course, error in found.unreadable.items():
            context.log.warning("%s: its version is unknown: %s", course, error)
        known = context.instance.get_dynamic_partitions(str(keys.partitions.name))
        new = [course for course in found.versions if course not in set(known)]
        requests = _requests(context.instance, keys, found, [*known, *new])
        seen = f"{len(found.versions)} course runs seen, {len(found.unreadable)} more of unknown version"
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else f"{seen}; nothing to request",
            dynamic_partitions_requests=[keys.partitions.build_add_request(new)] if new else [],
        )

    return sweep_deployment


def _requests(
    instance: dg.DagsterInstance, keys: DeploymentAssets, found: "Sweep", partitions: Sequence[str]
) -> list[dg.RunRequest]:
    listing = changed(instance, keys.course_runs, {"": found.digest})
    moved = changed(instance, keys.course_xml, found.versions)
    return [
        *run_requests(instance, keys.name("course_runs"), listing),
        *run_requests(instance, keys.name("course_xml"), moved, partitions),
    ]


def follow_sensor(keys: DeploymentAssets, jobs: Jobs) -> dg.SensorDefinition:
    """Build the sensor that requests what is behind the archives held; it asks nobody but Dagster."""
    steps = {
        "processed_data": (keys.processed(LAST_KIND), wanted_processed),
        "raw_tables": (keys.raw(LAST_KIND), wanted_raw),
        "course_content_webhook": (keys.webhook, _wanted_webhook),
    }

    @dg.sensor(
        name=keys.name("follow"),
        jobs=[jobs[step] for step in steps],
        minimum_interval_seconds=FOLLOW_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Requests what is behind the archives of {keys.deployment}: processed data, raw tables, webhooks.",
    )
    def follow_archives(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        partitions = context.instance.get_dynamic_partitions(str(keys.partitions.name))
        requests: list[dg.RunRequest] = []
        for step, (asset_key, wanted) in steps.items():
            moved = changed(context.instance, asset_key, wanted(context.instance, keys))
            requests += run_requests(context.instance, keys.name(step), moved, partitions)
        nothing = f"nothing to request behind the archives of {len(partitions)} course runs"
        return dg.SensorResult(run_requests=requests, skip_reason=None if requests else nothing)

    return follow_archives


def _wanted_webhook(instance: dg.DagsterInstance, keys: DeploymentAssets) -> dict[str, str]:
    return held_versions(instance, keys.course_xml, tag=DATA_VERSION_TAG)
