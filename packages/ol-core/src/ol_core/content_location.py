"""A code location of sources whose content is kept current: their jobs, sensors and checks, and its alerts.

A domain states what its sources are and makes; how each is swept and followed is the same for all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import dagster as dg

from ol_core.environment import Environment
from ol_core.orchestration.alerts import alert_definitions
from ol_core.orchestration.cadence import Cadence
from ol_core.orchestration.desired_state import Step
from ol_core.orchestration.follow_tick import FollowPlan, follow_tick
from ol_core.orchestration.retirement import ShrinkGuard
from ol_core.orchestration.standing_checks import standing_checks
from ol_core.orchestration.sweep_tick import TICK_SECONDS, SweepPlan, SweepSource, sweep_tick
from ol_core.resources import shared_resources


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentSource:
    """A system whose content is kept current.

    Attributes:
        title: What it is called, for people.
        name: Gives the name of a sensor or check of it.
        plan: What is swept, and what follows.
        assets: What it makes.
        jobs: A job of each of the plan's steps.
        resource: Key of the resource that the sweep asks.
        open_source: Opens the source by that resource, for a tick.
        sweep: Seconds from one rotation through the source to the next.
        follow: Seconds between two looks at what is held.
    """

    title: str
    name: Callable[[str], str]
    plan: FollowPlan
    assets: Sequence[dg.AssetsDefinition]
    jobs: Sequence[Any]
    resource: str
    open_source: Callable[[Any], AbstractContextManager[SweepSource]]
    sweep: Cadence[int]
    follow: Cadence[int]


def content_location(
    name: str, environment: Environment, *, resources: Mapping[str, object], sources: Sequence[ContentSource]
) -> dg.Definitions:
    """Define a code location.

    Args:
        name: Its name.
        environment: The environment that it serves.
        resources: What it needs beside the resources of all locations.
        sources: Its sources.
    """
    return dg.Definitions.merge(
        dg.Definitions(resources={**shared_resources(environment), **resources}, executor=dg.in_process_executor),
        *(_definitions(environment, source) for source in sources),
        alert_definitions(name, environment, [step for source in sources for step in source.plan.steps]),
    )


def _definitions(environment: Environment, source: ContentSource) -> dg.Definitions:
    guard = ShrinkGuard.of(environment)
    return dg.Definitions(
        assets=source.assets,
        asset_checks=[standing_checks(source.name("standing_checks"), source.plan)],
        jobs=source.jobs,
        sensors=[
            *source.sweep.registered(environment, lambda seconds: _sweep(source, seconds, guard)),
            *source.follow.registered(environment, lambda seconds: _follow(source, seconds)),
        ],
    )


def _sweep(source: ContentSource, rotation_seconds: int, guard: ShrinkGuard) -> dg.SensorDefinition:
    plan = SweepPlan(
        step=source.plan.swept,
        partitions=source.plan.partitions,
        rotation_seconds=rotation_seconds,
        policy=source.plan.policy,
        guard=guard,
        listing=source.plan.listing,
    )

    @dg.sensor(
        name=source.name("sweep"),
        jobs=_jobs(source, [step for step in (plan.listing, plan.step) if step]),
        minimum_interval_seconds=TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        metadata=source.sweep.metadata,
        required_resource_keys={source.resource},
        description=f"Asks {source.title} what it has, part by part, and requests exports of what changed.",
    )
    def sweep(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        with source.open_source(getattr(context.resources, source.resource)) as opened:
            return sweep_tick(context, plan, opened)

    return sweep


def _follow(source: ContentSource, seconds: int) -> dg.SensorDefinition:
    @dg.sensor(
        name=source.name("follow"),
        jobs=_jobs(source, [follower.step for follower in source.plan.followers]),
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        metadata=source.follow.metadata,
        description=f"Requests every step that lags behind the content held from {source.title}; reads only Dagster.",
    )
    def follow(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        return follow_tick(context, source.plan)

    return follow


def _jobs(source: ContentSource, steps: Sequence[Step]) -> list[Any]:
    jobs = {job.name: job for job in source.jobs}
    return [jobs[step.job_name] for step in steps]
