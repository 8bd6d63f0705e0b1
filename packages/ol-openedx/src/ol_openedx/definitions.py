"""The `openedx` code location: every Open edX deployment of the environment."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import dagster as dg
from ol_core.content_location import ContentSource, content_location
from ol_core.environment import Environment, OpenEdxDeployment, load_environment
from ol_core.orchestration.desired_state import AttemptPolicy
from ol_core.orchestration.exports import ExportLimits
from ol_core.orchestration.jobs import LARGE, SMALL, asset_job

from ol_openedx.assets import DeploymentAssets, deployment_assets
from ol_openedx.resources import openedx_api
from ol_openedx.sensors import FOLLOW, SWEEP, follow_plan, open_source


@dg.definitions
def defs() -> dg.Definitions:
    """Build the location from the environment in force; the only file it may read is the environment's."""
    return location(load_environment())


def location(environment: Environment) -> dg.Definitions:
    """Build the location of an environment."""
    return content_location(
        "openedx",
        environment,
        resources={"openedx_api": openedx_api(environment)},
        sources=[_source(environment, deployment) for deployment in environment.openedx],
    )


def _source(environment: Environment, deployment: OpenEdxDeployment) -> ContentSource:
    keys = DeploymentAssets(deployment.name)
    policy, limits = AttemptPolicy.of(environment), ExportLimits.of(environment)
    steps = deployment_assets(keys, webhook_source=deployment.webhook_source, policy=policy, limits=limits)
    return ContentSource(
        title=deployment.name,
        name=keys.name,
        plan=follow_plan(keys, policy=policy, exports_in_flight=limits.in_flight, announces=environment.learn.writable),
        assets=list(steps.values()),
        jobs=_jobs(keys, steps, limits),
        resource="openedx_api",
        open_source=partial(open_source, keys),
        sweep=SWEEP,
        follow=FOLLOW,
    )


def _jobs(keys: DeploymentAssets, steps: Mapping[str, dg.AssetsDefinition], limits: ExportLimits) -> list[Any]:
    """Define one job per step: what it does, what its worker gets, and the seconds after which it is ended."""
    stated = {
        "course_runs": ("Writes the list of course runs.", SMALL, 900),
        "course_xml": (
            "Exports course runs: one run submits, polls and collects all that are wanted.",
            LARGE,
            limits.longest_run_seconds,
        ),
        "processed_data": ("Reads archives and keeps what is in them as Parquet.", LARGE, 7200),
        "raw_tables": ("Replaces the rows of course runs in the raw tables.", LARGE, 3600),
        "course_content_webhook": ("Tells the receiver of webhooks which archives moved.", SMALL, 3600),
    }
    return [
        asset_job(keys.name(step), steps[step], description=does, worker=worker, max_runtime_seconds=seconds)
        for step, (does, worker, seconds) in stated.items()
    ]
