"""A tick of a sensor that keeps up to date what follows from a sweep; it asks nobody but Dagster."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg

from ol_core.orchestration.desired_state import AttemptPolicy, Step, decide
from ol_core.orchestration.inventory import news
from ol_core.orchestration.retirement import live_partitions


@dataclass(frozen=True, slots=True)
class Follower:
    """A step that follows from what is held.

    Attributes:
        step: The step.
        wanted: Returns the version that each of its partitions should hold.
    """

    step: Step
    wanted: Callable[[dg.DagsterInstance], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class FollowPlan:
    """What a sensor keeps up to date.

    Attributes:
        swept: The step that a sweep requests.
        partitions: Its partitions, and those of all that follows.
        followers: What follows.
        policy: Attempts, backoff and the size of a batch.
        listing: The step that writes the list of what exists; None where there is none.
    """

    swept: Step
    partitions: dg.DynamicPartitionsDefinition
    followers: Sequence[Follower]
    policy: AttemptPolicy = field(default_factory=AttemptPolicy)
    listing: Step | None = None

    @property
    def steps(self) -> list[Step]:
        """All steps."""
        listing = [self.listing] if self.listing else []
        return [*listing, self.swept, *(follower.step for follower in self.followers)]


def follow_tick(context: dg.SensorEvaluationContext, plan: FollowPlan) -> dg.SensorResult:
    """Request what is behind, at most one run per step, and report what is new in the inventories."""
    instance = context.instance
    live = live_partitions(instance, plan.swept.asset_key, plan.partitions)
    requests: list[dg.RunRequest] = []
    reasons: list[str] = []
    evaluations: list[dg.AssetCheckEvaluation] = []
    reported = _reported(context.cursor)
    for follower in plan.followers:
        every = follower.wanted(instance)
        wanted = {partition: version for partition, version in every.items() if partition in live}
        decision = decide(instance, follower.step, wanted, plan.policy, live=live)
        fresh, reported = news(instance, follower.step, live, wanted, at_rest=decision.at_rest, reported=reported)
        evaluations += fresh
        requests += decision.requests
        reasons += [decision.reason] if decision.reason else []
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else "; ".join(reasons),
        cursor=json.dumps(reported),
        asset_events=evaluations,
    )


def _reported(cursor: str | None) -> dict[str, str]:
    """Read the cursor; one that cannot be read costs one more evaluation of each check."""
    try:
        stated = json.loads(cursor or "{}")
    except ValueError:
        return {}
    return {str(name): str(one) for name, one in stated.items()} if isinstance(stated, dict) else {}
