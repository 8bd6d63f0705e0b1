"""What a code location registers to tell its failures."""

import time
from collections.abc import Sequence

import dagster as dg

from ol_core.dagster_storage import latest_check
from ol_core.environment import Environment
from ol_core.orchestration.alerts.sinks import SINK_RESOURCE, AlertSink
from ol_core.orchestration.alerts.tick import LAG_CHECK, AlertPlan, alert_tick, lag, untold_failures
from ol_core.orchestration.cadence import OFF, Cadence
from ol_core.orchestration.desired_state import Step

ALERTS = Cadence(dev=60, ci=OFF, qa=60, production=60)
"""Seconds between two looks for failures."""


def alert_definitions(
    location: str, environment: Environment, steps: Sequence[Step], *, whole_runs: Sequence[Step] = ()
) -> dg.Definitions:
    """Define the sensor that tells a location's failures, the asset that keeps what was told, and the check of its lag.

    Args:
        location: Name of the code location.
        environment: The environment; it says whom, and within which window.
        steps: Steps whose failures are told.
        whole_runs: Steps whose attempts are runs, and whose sensors record none.
    """
    plan = AlertPlan(location, environment.name, steps, environment.alerts.window_seconds, whole_runs)
    told = dg.AssetSpec(
        plan.asset_key,
        group_name="alerts",
        owners=["team:data-platform"],
        kinds={"alerts"},
        description=f"What was told of the failures of {location}: one observation per message.",
    )
    return dg.Definitions(
        assets=[told],
        asset_checks=[_lag_check(plan)],
        sensors=ALERTS.registered(environment, lambda seconds: _sensor(plan, seconds)),
    )


def _sensor(plan: AlertPlan, seconds: int) -> dg.SensorDefinition:
    @dg.sensor(
        name=f"{plan.location}_alerts",
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        metadata=ALERTS.metadata,
        required_resource_keys={SINK_RESOURCE},
        description=f"Tells what failed in {plan.location}: one message per step, kind of failure and window.",
    )
    def tell_failures(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        sink: AlertSink = getattr(context.resources, SINK_RESOURCE)
        return alert_tick(context, plan, sink)

    return tell_failures


def _lag_check(plan: AlertPlan) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        name=LAG_CHECK,
        asset=plan.asset_key,
        description="Whether the oldest unreported failure is younger than two windows.",
    )
    def alert_lag(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        latest = latest_check(context.instance, plan.asset_key, LAG_CHECK)
        found = lag(plan, untold_failures(context.instance, plan), time.time())
        stands = latest if latest is not None and found.passed and not latest.passed else found
        return dg.AssetCheckResult(
            passed=stands.passed, severity=stands.severity, description=stands.description, metadata=stands.metadata
        )

    return alert_lag
