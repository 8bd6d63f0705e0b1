"""The `openedx` code location: every Open edX deployment of the environment."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from ol_core.environment import Environment, OpenEdxDeployment, load_environment
from ol_core.orchestration.alerts import alert_definitions
from ol_core.orchestration.desired_state import AttemptPolicy
from ol_core.orchestration.exports import ExportLimits
from ol_core.orchestration.follow_tick import FollowPlan
from ol_core.orchestration.jobs import LARGE, SMALL, asset_job
from ol_core.orchestration.retirement import ShrinkGuard
from ol_core.orchestration.standing_checks import standing_checks
from ol_core.resources import shared_resources

from ol_openedx.assets import DeploymentAssets, deployment_assets
from ol_openedx.resources import openedx_api
from ol_openedx.sensors import FOLLOW, SWEEP, follow_plan, follow_sensor, sweep_sensor


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
        alert_definitions(
            "openedx", environment, [step for one in environment.openedx for step in _plan(environment, one).steps]
        ),
    )


def _plan(environment: Environment, deployment: OpenEdxDeployment) -> FollowPlan:
    return follow_plan(
        DeploymentAssets(deployment.name),
        policy=AttemptPolicy.of(environment),
        exports_in_flight=environment.orchestration.exports_in_flight,
        announces=environment.learn.writable,
    )


def _deployment(environment: Environment, deployment: OpenEdxDeployment) -> dg.Definitions:
    keys = DeploymentAssets(deployment.name)
    plan, stated = _plan(environment, deployment), environment.orchestration
    limits = ExportLimits(stated.exports_in_flight, stated.export_deadline_seconds)
    steps = deployment_assets(keys, webhook_source=deployment.webhook_source, policy=plan.policy, limits=limits)
    jobs = _jobs(keys, steps, limits)
    return dg.Definitions(
        assets=list(steps.values()),
        asset_checks=[standing_checks(keys.name("standing_checks"), plan)],
        jobs=list(jobs.values()),
        sensors=[
            *SWEEP.registered(
                environment,
                lambda seconds: sweep_sensor(
                    keys, jobs, plan, rotation_seconds=seconds, guard=ShrinkGuard.of(environment)
                ),
            ),
            *FOLLOW.registered(environment, lambda seconds: follow_sensor(keys, jobs, plan, seconds=seconds)),
        ],
    )


def _jobs(keys: DeploymentAssets, steps: Mapping[str, dg.AssetsDefinition], limits: ExportLimits) -> dict[str, Any]:
    """Define a job a step: what it does, what its worker gets, and the seconds after which it is ended."""
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
    return {
        step: asset_job(keys.name(step), steps[step], description=does, worker=worker, max_runtime_seconds=seconds)
        for step, (does, worker, seconds) in stated.items()
    }
