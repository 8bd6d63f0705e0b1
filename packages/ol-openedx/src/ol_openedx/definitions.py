"""The `openedx` code location: every Open edX deployment of the environment."""

import dagster as dg
from ol_core.desired_state import NO_RUN_RETRIES, AttemptPolicy
from ol_core.environment import Environment, OpenEdxDeployment, load_environment
from ol_core.exports import ExportLimits
from ol_core.resources import shared_resources

from ol_openedx.assets import DeploymentAssets, deployment_assets
from ol_openedx.resources import openedx_api
from ol_openedx.sensors import follow_sensor, sweep_sensor

_WHAT_A_JOB_DOES = {
    "course_runs": "Writes the list of course runs.",
    "course_xml": "Exports course runs: one run submits, polls and collects all that are wanted.",
    "processed_data": "Reads archives and keeps what is in them as Parquet.",
    "raw_tables": "Replaces the rows of course runs in the raw tables.",
    "course_content_webhook": "Tells the receiver of webhooks which archives moved.",
}


@dg.definitions
def defs() -> dg.Definitions:
    """Build the location from the environment in force; the only file it may read is the environment's."""
    environment = load_environment()
    return dg.Definitions.merge(
        dg.Definitions(
            resources={**shared_resources(environment), "openedx_api": openedx_api(environment)},
            executor=dg.in_process_executor,
        ),
        *(_deployment(environment, one) for one in environment.openedx),
    )


def _deployment(environment: Environment, deployment: OpenEdxDeployment) -> dg.Definitions:
    keys = DeploymentAssets(deployment.name)
    policy, stated = AttemptPolicy.of(environment), environment.orchestration
    steps = deployment_assets(
        keys,
        webhook_source=deployment.webhook_source,
        policy=policy,
        limits=ExportLimits(stated.exports_in_flight, stated.export_deadline_seconds),
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
