"""The `canvas` code location: every Canvas instance of the environment."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import dagster as dg
from ol_core.content_location import ContentSource, content_location
from ol_core.environment import CanvasInstance, Environment, load_environment
from ol_core.orchestration.desired_state import AttemptPolicy
from ol_core.orchestration.exports import ExportLimits
from ol_core.orchestration.jobs import LARGE, SMALL, asset_job

from ol_canvas.assets import InstanceAssets, instance_assets
from ol_canvas.resources import canvas_api
from ol_canvas.sensors import FOLLOW, SWEEP, follow_plan, open_source


@dg.definitions
def defs() -> dg.Definitions:
    """Build the location from the environment in force; the only file it may read is the environment's."""
    return location(load_environment())


def location(environment: Environment) -> dg.Definitions:
    """Build the location of an environment."""
    return content_location(
        "canvas",
        environment,
        resources={"canvas_api": canvas_api(environment)},
        sources=[_source(environment, instance) for instance in environment.canvas],
    )


def _source(environment: Environment, instance: CanvasInstance) -> ContentSource:
    keys = InstanceAssets(instance.name)
    policy, limits = AttemptPolicy.of(environment), ExportLimits.of(environment)
    steps = instance_assets(keys, webhook_source=instance.webhook_source, policy=policy, limits=limits)
    return ContentSource(
        title=instance.name,
        name=keys.name,
        plan=follow_plan(keys, policy=policy, exports_in_flight=limits.in_flight, announces=environment.learn.writable),
        assets=list(steps.values()),
        jobs=_jobs(keys, steps, limits),
        resource="canvas_api",
        open_source=partial(open_source, keys),
        sweep=SWEEP,
        follow=FOLLOW,
    )


def _jobs(keys: InstanceAssets, steps: Mapping[str, dg.AssetsDefinition], limits: ExportLimits) -> list[Any]:
    """Define one job per step: what it does, what its worker gets, and the seconds after which it is ended."""
    stated = {
        "courses": ("Writes the list of courses.", SMALL, 900),
        "course_export": (
            "Exports courses: one run submits, polls and collects all that are wanted.",
            LARGE,
            limits.longest_run_seconds,
        ),
        "raw_tables": ("Reads cartridges and replaces the rows of courses in the raw tables.", LARGE, 7200),
        "course_content_webhook": ("Tells the receiver of webhooks which cartridges moved.", SMALL, 3600),
    }
    return [
        asset_job(keys.name(step), steps[step], description=does, worker=worker, max_runtime_seconds=seconds)
        for step, (does, worker, seconds) in stated.items()
    ]
