"""The checks that stand on the assets of a sweep and of what follows from it, as Dagster's pages list them.

Their sensors evaluate them. Run by hand, an inventory is taken anew; the others are stated again as they stand, because
only a sweep knows more.
"""

from collections.abc import Iterator

import dagster as dg

from ol_core.dagster_storage import latest_check
from ol_core.orchestration.follow_tick import Follower, FollowPlan
from ol_core.orchestration.inventory import INVENTORY_CHECK, take
from ol_core.orchestration.retirement import RETIREMENT_CHECK, live_partitions
from ol_core.orchestration.sweep_tick import COVERAGE_CHECK

_SWEPT = {
    COVERAGE_CHECK: "Whether every version was read in the last rotation of the sweep, and the list of what exists.",
    RETIREMENT_CHECK: "Fails while an implausibly large drop in the source awaits `ol retire acknowledge`.",
}
_INVENTORY = (
    "Whether no partition failed or is in quarantine: how many are failed, quarantined, never built and stale, some of "
    "them with their reasons, and the command that recovers them."
)


def standing_checks(name: str, plan: FollowPlan) -> dg.AssetChecksDefinition:
    """Define the checks: the inventory of every partitioned asset, and what the sweep says of its own.

    Args:
        name: Name of their op.
        plan: What is swept, and what follows.
    """
    swept = plan.swept.asset_key
    followers = [Follower(plan.swept, lambda _instance: {}), *plan.followers]
    specs = [
        *(dg.AssetCheckSpec(check, asset=swept, description=what) for check, what in _SWEPT.items()),
        *(
            dg.AssetCheckSpec(INVENTORY_CHECK, asset=asset_key, description=_INVENTORY)
            for follower in followers
            for asset_key in follower.step.assets
        ),
    ]

    @dg.multi_asset_check(
        name=name, specs=specs, can_subset=True, description="Re-reports the checks that the sensors keep."
    )
    def checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        instance, selected = context.instance, context.selected_asset_check_keys
        for check in sorted(_SWEPT.keys() & {key.name for key in selected}):
            yield _again(latest_check(instance, swept, check), dg.AssetCheckKey(swept, check))
        live = live_partitions(instance, swept, plan.partitions)
        for follower in followers:
            if any(dg.AssetCheckKey(one, INVENTORY_CHECK) in selected for one in follower.step.assets):
                wanted = {one: version for one, version in follower.wanted(instance).items() if one in live}
                taken = [one.evaluation() for one in take(instance, follower.step, live, wanted)]
                yield from (_again(one, one.asset_check_key) for one in taken if one.asset_check_key in selected)

    return checks


def _again(evaluation: dg.AssetCheckEvaluation | None, key: dg.AssetCheckKey) -> dg.AssetCheckResult:
    if evaluation is None:
        return dg.AssetCheckResult(
            passed=True, asset_key=key.asset_key, check_name=key.name, description="not evaluated by its sensor yet"
        )
    return dg.AssetCheckResult(
        passed=evaluation.passed,
        asset_key=key.asset_key,
        check_name=key.name,
        severity=evaluation.severity,
        description=evaluation.description,
        metadata=evaluation.metadata,
    )
