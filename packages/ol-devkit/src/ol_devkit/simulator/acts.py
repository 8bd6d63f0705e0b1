"""What a script is made of: everything that happens to a source, to workers and to the daemon."""

from collections.abc import Iterable, Mapping

import dagster as dg
from ol_core.orchestration.retirement import acknowledge, live_partitions, standing_shrinks

from ol_devkit.simulator.simulation import Act, DaemonDeath, Simulation
from ol_devkit.simulator.world import Fault, Listing, Refusal


def together(*acts: Act) -> Act:
    """Do several things before one tick."""

    def act(simulation: Simulation) -> None:
        for one in acts:
            one(simulation)

    return act


def publish(versions: Mapping[str, str]) -> Act:
    """Partitions appear, or move to another version."""
    return lambda simulation: simulation.world.versions.update(versions)


def unpublish(partitions: Iterable[str]) -> Act:
    """Partitions are gone."""

    def act(simulation: Simulation) -> None:
        for partition in partitions:
            simulation.world.versions.pop(partition, None)

    return act


def fail(partitions: Iterable[str], fault: Fault) -> Act:
    """Exports of these partitions fail from now on."""
    return lambda simulation: simulation.world.faults.update(dict.fromkeys(partitions, fault))


def heal(partitions: Iterable[str]) -> Act:
    """Exports of these partitions succeed from now on."""

    def act(simulation: Simulation) -> None:
        for partition in partitions:
            simulation.world.faults.pop(partition, None)

    return act


def refuse(refusal: Refusal | None, *, retry_after_seconds: float = 0.0) -> Act:
    """The source is down or throttles, or answers again."""

    def act(simulation: Simulation) -> None:
        simulation.world.refusal, simulation.world.retry_after_seconds = refusal, retry_after_seconds

    return act


def list_as(listing: Listing) -> Act:
    """The list of what the source has is unreadable, empty, smaller by 60 %, or whole again."""

    def act(simulation: Simulation) -> None:
        simulation.world.listing = listing

    return act


def slow(*, call_seconds: float = 0.0, export_seconds: float = 1.0) -> Act:
    """Calls and exports take so long from now on."""

    def act(simulation: Simulation) -> None:
        simulation.world.call_seconds, simulation.world.export_seconds = call_seconds, export_seconds

    return act


def kill_run(*, after_calls: int) -> Act:
    """The worker of the next run dies, as by SIGKILL, when it has called its source so often."""

    def act(simulation: Simulation) -> None:
        simulation.world.kill_after = after_calls

    return act


def kill_daemon(death: DaemonDeath) -> Act:
    """The daemon dies in its next tick and is started again."""

    def act(simulation: Simulation) -> None:
        simulation.dies = death

    return act


def monitor_after(ticks: int) -> Act:
    """It takes so many ticks until Dagster finds out that a worker is dead."""

    def act(simulation: Simulation) -> None:
        simulation.monitored_after_ticks = ticks

    return act


def acknowledge_shrink() -> Act:
    """A person says that what is missing from the source is gone in truth."""

    def act(simulation: Simulation) -> None:
        instance, asset_key = simulation.storage.instance, simulation.subject.asset_key
        for shrink in standing_shrinks(instance, [asset_key]):
            acknowledge(instance, asset_key, shrink.shrink_id)

    return act


def remember_partitions(name: str) -> Act:
    """Note which partitions there are at this time."""

    def act(simulation: Simulation) -> None:
        instance = simulation.storage.instance
        simulation.remembered[name] = set(instance.get_dynamic_partitions(simulation.subject.partitions))

    return act


def remember_live(name: str) -> Act:
    """Note which partitions there are at this time and are not retired."""

    def act(simulation: Simulation) -> None:
        instance, subject = simulation.storage.instance, simulation.subject
        definition = dg.DynamicPartitionsDefinition(name=subject.partitions)
        simulation.remembered[name] = live_partitions(instance, subject.asset_key, definition)

    return act


def skip(ticks: int) -> Act:
    """The daemon does not tick for a while."""

    def act(simulation: Simulation) -> None:
        simulation.skipped = ticks

    return act
