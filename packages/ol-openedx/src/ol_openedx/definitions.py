"""The `openedx` code location: every Open edX deployment of the environment."""

import dagster as dg
from ol_core.environment import load_environment
from ol_core.resources import shared_resources

from ol_openedx.assets import DeploymentAssets, deployment_assets
from ol_openedx.resources import openedx_api
from ol_openedx.sensors import follow_sensor, sweep_sensor


@dg.definitions
def defs() -> dg.Definitions:
    """Build the location from the environment in force; the only file it may read is the environment's."""
    environment = load_environment()
    return dg.Definitions.merge(
        dg.Definitions(
            resources={**shared_resources(environment), "openedx_api": openedx_api(environment)},
            executor=dg.in_process_executor,
        ),
        *(_deployment(one.name, webhook_source=one.webhook_source) for one in environment.openedx),
    )


def _deployment(name: str, *, webhook_source: str) -> dg.Definitions:
    keys = DeploymentAssets(name)
    steps = deployment_assets(keys, webhook_source=webhook_source)
    jobs = {
        step: dg.define_asset_job(keys.name(step), selection=dg.AssetSelection.assets(*assets.keys))
        for step, assets in steps.items()
    }
    return dg.Definitions(
        assets=list(steps.values()),
        jobs=list(jobs.values()),
        sensors=[sweep_sensor(keys, jobs), follow_sensor(keys, jobs)],
    )
