"""The `canvas` code location: every Canvas instance of the environment."""

import dagster as dg
from ol_core.desired_state import NO_RUN_RETRIES, AttemptPolicy
from ol_core.environment import CanvasInstance, Environment, load_environment
from ol_core.exports import ExportLimits
from ol_core.resources import shared_resources

from ol_canvas.assets import InstanceAssets, instance_assets
from ol_canvas.resources import canvas_api
from ol_canvas.sensors import follow_sensor, sweep_sensor

_WHAT_A_JOB_DOES = {
    "courses": "Writes the list of courses.",
    "course_export": "Exports courses: one run submits, polls and collects all that are wanted.",
    "raw_tables": "Reads cartridges and replaces the rows of courses in the raw tables.",
    "course_content_webhook": "Tells the receiver of webhooks which cartridges moved.",
}


@dg.definitions
def defs() -> dg.Definitions:
    """Build the location from the environment in force; the only file it may read is the environment's."""
    environment = load_environment()
    return dg.Definitions.merge(
        dg.Definitions(
            resources={**shared_resources(environment), "canvas_api": canvas_api(environment)},
            executor=dg.in_process_executor,
        ),
        *(_instance(environment, one) for one in environment.canvas),
    )


def _instance(environment: Environment, instance: CanvasInstance) -> dg.Definitions:
    keys = InstanceAssets(instance.name)
    policy, stated = AttemptPolicy.of(environment), environment.orchestration
    steps = instance_assets(
        keys, policy=policy, limits=ExportLimits(stated.exports_in_flight, stated.export_deadline_seconds)
    )
    jobs = {
        step: dg.define_asset_job(
            keys.name(step),
            selection=dg.AssetSelection.assets(*assets.keys),
            description=_WHAT_A_JOB_DOES[step],
            tags=NO_RUN_RETRIES,
        )
        for step, assets in steps.items()
    }
    return dg.Definitions(
        assets=list(steps.values()),
        jobs=list(jobs.values()),
        sensors=[
            sweep_sensor(keys, jobs, policy=policy, exports_in_flight=stated.exports_in_flight),
            follow_sensor(keys, jobs, policy=policy),
        ],
    )
