"""Pools: how many ops may load a system at once, over all runs and code locations of an instance.

Packages declare theirs through the entry-point group `ol_data_platform.pools`. Dagster reads limits from its database
alone, so `ol pools --apply` writes them there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from ol_core.environment import Environment
from ol_core.failures import PermanentFailure

if TYPE_CHECKING:
    import dagster as dg

POOLS_GROUP = "ol_data_platform.pools"
"""Entry-point group: functions that give an environment's pools and their limits, one a package."""

DeclarePools = Callable[[Environment], Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class PoolState:
    """A pool, as it is declared and as the instance has it.

    Attributes:
        pool: Its name.
        package: Package that declares it; empty where no installed one does.
        declared: Most ops at once; None where no installed package declares it.
        limit: What the instance enforces; None where nobody set it.
    """

    pool: str
    package: str
    declared: int | None
    limit: int | None

    @property
    def drifted(self) -> bool:
        """Whether the instance does not enforce what is declared. What others declare is theirs."""
        return self.declared is not None and self.declared != self.limit


def declared_pools(environment: Environment) -> dict[str, tuple[str, int]]:
    """Return (package, limit) of each pool that the installed packages declare, by name.

    Raises:
        PermanentFailure: a declaration cannot be loaded, or two packages declare one pool.
    """
    declared: dict[str, tuple[str, int]] = {}
    for point in sorted(entry_points(group=POOLS_GROUP), key=lambda point: point.name):
        try:
            declare: DeclarePools = point.load()
            pools = declare(environment)
        except Exception as error:
            raise PermanentFailure(
                f"the pools of {point.name} ({point.value}) cannot be listed: {type(error).__name__}: {error}; "
                f"reinstall {point.name}"
            ) from error
        for pool, limit in sorted(pools.items()):
            if pool in declared:
                raise PermanentFailure(
                    f"pool {pool} is declared by {declared[pool][0]} and by {point.name}; rename one"
                )
            declared[pool] = (point.name, limit)
    return declared


def pool_states(instance: "dg.DagsterInstance", environment: Environment) -> list[PoolState]:
    """Compare the pools that are declared with those of an instance."""
    from ol_core.dagster_storage import pool_limits

    declared, limits = declared_pools(environment), pool_limits(instance)
    states = []
    for pool in sorted({*declared, *limits}):
        package, limit = declared.get(pool, ("", None))
        states.append(PoolState(pool, package, limit, limits.get(pool)))
    return states


def apply_pools(instance: "dg.DagsterInstance", environment: Environment) -> list[PoolState]:
    """Set the limits that differ from what is declared; return what was set, as it was before."""
    from ol_core.dagster_storage import set_pool_limit

    drifted = [state for state in pool_states(instance, environment) if state.drifted]
    for state in drifted:
        set_pool_limit(instance, state.pool, state.declared or 0)
    return drifted
