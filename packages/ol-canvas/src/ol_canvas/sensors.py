"""Sensors of an instance: one asks the source, one brings what follows from it up to date."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from ol_core.orchestration.cadence import OFF, Cadence
from ol_core.orchestration.desired_state import DATA_VERSION_TAG, AttemptPolicy, Step, held_versions
from ol_core.orchestration.follow_tick import Follower, FollowPlan, follow_tick
from ol_core.orchestration.retirement import ShrinkGuard
from ol_core.orchestration.sweep_tick import TICK_SECONDS, SweepPlan, sweep_tick

from ol_canvas.assets.content import LAST_KIND, wanted_raw
from ol_canvas.assets.keys import InstanceAssets
from ol_canvas.resources import CanvasApiClientFactory
from ol_canvas.tables import COURSE_KINDS

Jobs = Mapping[str, Any]
"""An instance's jobs by step; Dagster does not export the type of what `define_asset_job` returns."""

SWEEP = Cadence(dev=3600, ci=OFF, qa=4 * 3600, production=3600)
"""Seconds from one rotation through all courses to the next."""

FOLLOW = Cadence(dev=60, ci=OFF, qa=300, production=60)
"""Seconds between two looks at what is held."""


def follow_plan(keys: InstanceAssets, *, policy: AttemptPolicy, exports_in_flight: int, announces: bool) -> FollowPlan:
    """Return what is kept up to date: the cartridges, what follows from them, and webhooks where it `announces`."""
    webhooks = Follower(
        Step(keys.name("course_content_webhook"), keys.webhook, keys.webhook.to_python_identifier()),
        lambda instance: held_versions(instance, keys.course_content, tag=DATA_VERSION_TAG),
    )
    return FollowPlan(
        swept=Step(
            keys.name("course_export"),
            keys.course_content,
            keys.name("export_courses"),
            at_once=exports_in_flight,
            makes=[keys.course_content, keys.course_metadata],
        ),
        partitions=keys.partitions,
        followers=[
            Follower(
                Step(
                    keys.name("raw_tables"),
                    keys.raw(LAST_KIND),
                    keys.name("write_raw_tables"),
                    makes=[keys.raw(kind) for kind in COURSE_KINDS],
                ),
                lambda instance: wanted_raw(instance, keys),
            ),
            *([webhooks] if announces else []),
        ],
        policy=policy,
        listing=Step(keys.name("courses"), keys.courses),
    )


def sweep_sensor(
    keys: InstanceAssets, jobs: Jobs, plan: FollowPlan, *, rotation_seconds: int, guard: ShrinkGuard
) -> dg.SensorDefinition:
    """Build the sensor that asks an instance what it has and requests the courses that moved."""
    sweep = SweepPlan(
        step=plan.swept,
        partitions=plan.partitions,
        rotation_seconds=rotation_seconds,
        policy=plan.policy,
        guard=guard,
        listing=plan.listing,
    )

    @dg.sensor(
        name=keys.name("sweep"),
        jobs=[jobs["courses"], jobs["course_export"]],
        minimum_interval_seconds=TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        metadata=SWEEP.metadata,
        description=(
            f"Asks {keys.instance} for its courses, a part in each tick, and requests those whose metadata moved."
        ),
    )
    def sweep_instance(context: dg.SensorEvaluationContext, canvas_api: CanvasApiClientFactory) -> dg.SensorResult:
        from ol_canvas.sweep import SWEEP_POLICY, InstanceSource

        with canvas_api.client(keys.instance, policy=SWEEP_POLICY) as client:
            return sweep_tick(context, sweep, InstanceSource(client, client.clock))

    return sweep_instance


def follow_sensor(keys: InstanceAssets, jobs: Jobs, plan: FollowPlan, *, seconds: int) -> dg.SensorDefinition:
    """Build the sensor that requests what is behind the cartridges held; it asks nobody but Dagster."""

    @dg.sensor(
        name=keys.name("follow"),
        jobs=[jobs[step] for step in ("raw_tables", "course_content_webhook")],
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        metadata=FOLLOW.metadata,
        description=f"Requests what is behind the cartridges of {keys.instance}: raw tables, webhooks.",
    )
    def follow_cartridges(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        return follow_tick(context, plan)

    return follow_cartridges
