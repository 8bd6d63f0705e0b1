"""Sensors of a deployment: one asks the source, one brings what follows from it up to date."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from ol_core.orchestration.cadence import OFF, Cadence
from ol_core.orchestration.desired_state import DATA_VERSION_TAG, AttemptPolicy, Step, held_versions
from ol_core.orchestration.follow_tick import Follower, FollowPlan, follow_tick
from ol_core.orchestration.retirement import ShrinkGuard
from ol_core.orchestration.sweep_tick import TICK_SECONDS, SweepPlan, sweep_tick

from ol_openedx.archive import TABLE_KINDS
from ol_openedx.assets.content import LAST_KIND, wanted_processed, wanted_raw
from ol_openedx.assets.keys import DeploymentAssets
from ol_openedx.resources import OpenEdxApiClientFactory

Jobs = Mapping[str, Any]
"""A deployment's jobs by step; Dagster does not export the type of what `define_asset_job` returns."""

SWEEP = Cadence(dev=3600, ci=OFF, qa=4 * 3600, production=3600)
"""Seconds from one rotation through all course runs to the next."""

FOLLOW = Cadence(dev=60, ci=OFF, qa=300, production=60)
"""Seconds between two looks at what is held."""


def follow_plan(
    keys: DeploymentAssets, *, policy: AttemptPolicy, exports_in_flight: int, announces: bool
) -> FollowPlan:
    """Return what is kept up to date: the archives, what follows from them, and webhooks where it `announces`."""
    webhooks = Follower(
        Step(keys.name("course_content_webhook"), keys.webhook, keys.webhook.to_python_identifier()),
        lambda instance: held_versions(instance, keys.course_xml, tag=DATA_VERSION_TAG),
    )
    return FollowPlan(
        swept=Step(keys.name("course_xml"), keys.course_xml, keys.name("export_courses"), at_once=exports_in_flight),
        partitions=keys.partitions,
        followers=[
            Follower(
                Step(
                    keys.name("processed_data"),
                    keys.processed(LAST_KIND),
                    keys.name("read_archives"),
                    makes=[keys.processed(kind) for kind in TABLE_KINDS],
                ),
                lambda instance: wanted_processed(instance, keys),
            ),
            Follower(
                Step(
                    keys.name("raw_tables"),
                    keys.raw(LAST_KIND),
                    keys.name("write_raw_tables"),
                    makes=[keys.raw(kind) for kind in TABLE_KINDS],
                ),
                lambda instance: wanted_raw(instance, keys),
            ),
            *([webhooks] if announces else []),
        ],
        policy=policy,
        listing=Step(keys.name("course_runs"), keys.course_runs),
    )


def sweep_sensor(
    keys: DeploymentAssets, jobs: Jobs, plan: FollowPlan, *, rotation_seconds: int, guard: ShrinkGuard
) -> dg.SensorDefinition:
    """Build the sensor that asks a deployment what it has and requests the course runs that moved."""
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
        jobs=[jobs["course_runs"], jobs["course_xml"]],
        minimum_interval_seconds=TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        metadata=SWEEP.metadata,
        description=(
            f"Asks {keys.deployment} for its course runs, a part in each tick, and requests those whose version moved."
        ),
    )
    def sweep_deployment(context: dg.SensorEvaluationContext, openedx_api: OpenEdxApiClientFactory) -> dg.SensorResult:
        from ol_openedx.sweep import SWEEP_POLICY, DeploymentSource

        with openedx_api.client(keys.deployment, policy=SWEEP_POLICY) as client:
            return sweep_tick(context, sweep, DeploymentSource(client, client.clock))

    return sweep_deployment


def follow_sensor(keys: DeploymentAssets, jobs: Jobs, plan: FollowPlan, *, seconds: int) -> dg.SensorDefinition:
    """Build the sensor that requests what is behind the archives held; it asks nobody but Dagster."""

    @dg.sensor(
        name=keys.name("follow"),
        jobs=[jobs[step] for step in ("processed_data", "raw_tables", "course_content_webhook")],
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        metadata=FOLLOW.metadata,
        description=f"Requests what is behind the archives of {keys.deployment}: processed data, raw tables, webhooks.",
    )
    def follow_archives(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        return follow_tick(context, plan)

    return follow_archives
