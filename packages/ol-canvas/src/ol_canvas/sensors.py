"""Sensors of Canvas: one asks the source, one brings what follows from it up to date."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
from ol_core.desired_state import DATA_VERSION_TAG, changed, held_versions, run_requests

from ol_canvas.assets.content import LAST_TABLE, wanted_raw
from ol_canvas.assets.keys import COURSE_CONTENT, COURSES_TABLE, PARTITIONS, WEBHOOK, raw
from ol_canvas.resources import CanvasApiClientFactory

if TYPE_CHECKING:
    from ol_canvas.sweep import Sweep

Jobs = Mapping[str, Any]
"""The jobs by step; Dagster does not export the type of what `define_asset_job` returns."""

SWEEP_SECONDS = 3600
FOLLOW_SECONDS = 60


def sweep_sensor(jobs: Jobs) -> dg.SensorDefinition:
    """Build the sensor that asks Canvas what it has and requests the courses that moved."""

    @dg.sensor(
        name="canvas_sweep",
        jobs=[jobs["courses"], jobs["course_export"]],
        minimum_interval_seconds=SWEEP_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks Canvas for its courses and requests those whose metadata moved.",
    )
    def sweep_canvas(context: dg.SensorEvaluationContext, canvas_api: CanvasApiClientFactory) -> dg.SensorResult:
        from ol_canvas.sweep import sweep

        with canvas_api.client() as client:
            found = sweep(client, canvas_api.account_id)
        for course, error in found.unreadable.items():
            context.log.warning("course %s: its version is unknown: %s", course, error)
        known = context.instance.get_dynamic_partitions(str(PARTITIONS.name))
        new = [course for course in found.versions if course not in set(known)]
        requests = _requests(context.instance, found, [*known, *new])
        seen = f"{len(found.versions)} courses seen, {len(found.unreadable)} more of unknown version"
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else f"{seen}; nothing to request",
            dynamic_partitions_requests=[PARTITIONS.build_add_request(new)] if new else [],
        )

    return sweep_canvas


def _requests(instance: dg.DagsterInstance, found: "Sweep", partitions: list[str]) -> list[dg.RunRequest]:
    listing = changed(instance, COURSES_TABLE, {"": found.digest})
    moved = changed(instance, COURSE_CONTENT, found.versions)
    return [
        *run_requests(instance, "canvas_courses", listing),
        *run_requests(instance, "canvas_course_export", moved, partitions),
    ]


def follow_sensor(jobs: Jobs) -> dg.SensorDefinition:
    """Build the sensor that requests what is behind the cartridges held; it asks nobody but Dagster."""

    @dg.sensor(
        name="canvas_follow",
        jobs=[jobs["raw_tables"], jobs["course_content_webhook"]],
        minimum_interval_seconds=FOLLOW_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Requests what is behind the cartridges held: raw tables and webhooks.",
    )
    def follow_cartridges(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        instance = context.instance
        partitions = instance.get_dynamic_partitions(str(PARTITIONS.name))
        steps = [
            ("canvas_raw_tables", raw(LAST_TABLE), wanted_raw(instance)),
            ("canvas_course_content_webhook", WEBHOOK, held_versions(instance, COURSE_CONTENT, tag=DATA_VERSION_TAG)),
        ]
        requests: list[dg.RunRequest] = []
        for job, asset_key, wanted in steps:
            requests += run_requests(instance, job, changed(instance, asset_key, wanted), partitions)
        nothing = f"nothing to request behind the cartridges of {len(partitions)} courses"
        return dg.SensorResult(run_requests=requests, skip_reason=None if requests else nothing)

    return follow_cartridges
