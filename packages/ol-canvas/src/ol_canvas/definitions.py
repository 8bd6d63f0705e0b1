"""The `canvas` code location: the environment's Canvas."""

import dagster as dg
from ol_core.environment import load_environment
from ol_core.resources import shared_resources

from ol_canvas.assets import canvas_assets
from ol_canvas.resources import canvas_api
from ol_canvas.sensors import follow_sensor, sweep_sensor


@dg.definitions
def defs() -> dg.Definitions:
    """Build the location from the environment in force; the only file it may read is the environment's."""
    environment = load_environment()
    steps = canvas_assets()
    jobs = {
        step: dg.define_asset_job(f"canvas_{step}", selection=dg.AssetSelection.assets(*assets.keys))
        for step, assets in steps.items()
    }
    return dg.Definitions(
        assets=list(steps.values()),
        jobs=list(jobs.values()),
        sensors=[sweep_sensor(jobs), follow_sensor(jobs)],
        resources={**shared_resources(environment), "canvas_api": canvas_api(environment)},
        executor=dg.in_process_executor,
    )
