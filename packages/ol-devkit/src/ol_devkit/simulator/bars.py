"""The bars: what is compared with what was counted."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import pairwise

from ol_core.dagster_storage import latest_check
from ol_core.orchestration.desired_state import MAX_ATTEMPTS, RETIRED_TAG, latest_by_partition, observations_since
from ol_core.orchestration.inventory import INVENTORY_CHECK
from ol_core.orchestration.sweep import DAEMON_SENSOR_TIMEOUT_SECONDS

from ol_devkit.simulator.figures import RunRecord
from ol_devkit.simulator.simulation import Simulation

TICK_CPU_SECONDS = 2.0
"""Most CPU time of a tick in which nothing changed, beside the calls."""

COURSE_CPU_SECONDS = 0.3
"""Most CPU time that orchestration may cost for each of many exports that are wanted at once."""

IN_FLIGHT = 20
SWEEP = 61
"""The first tick of the second sweep: all of these scenarios tick each minute and sweep each hour."""

Partitions = Sequence[str]


@dataclass(frozen=True, slots=True)
class Finding:
    """A bar, what was measured, and whether it holds."""

    bar: str
    measured: str
    holds: bool


def at_most(bar: str, measured: float, limit: float) -> Finding:
    """Return whether a figure stays within a limit."""
    return Finding(bar, f"{measured:,.3f}".rstrip("0").rstrip("."), measured <= limit)


def exactly(bar: str, measured: int, wanted: int) -> Finding:
    """Return whether a count is what it should be."""
    return Finding(bar, f"{measured:,}", measured == wanted)


def slots(simulation: Simulation) -> Finding:
    """Return whether no job had two runs at a time."""
    most = max((tick.slots for tick in simulation.figures.ticks), default=0)
    return at_most("at most one run of a job at a time", most, 1)


def converged(simulation: Simulation) -> Finding:
    """Return whether the world's versions are held, or their partitions known to need a person."""
    behind = simulation.behind()
    sample = f": {', '.join(sorted(behind)[:3])}" if behind else ""
    return Finding(
        "every partition holds its wanted version, or is known to be given up",
        f"{len(behind)} do not{sample}",
        not behind,
    )


def attempts(simulation: Simulation, limit: int = MAX_ATTEMPTS) -> Finding:
    """Return whether no version of a partition was exported more often than it may be."""
    most = max(simulation.world.attempts.values(), default=0)
    return at_most(f"at most {limit} attempts for a partition and version", most, limit)


def answers(simulation: Simulation) -> Finding:
    """Return whether no tick took longer than the daemon waits."""
    slowest = max(tick.source_seconds + tick.cpu_seconds for tick in simulation.figures.ticks)
    return at_most(
        f"every tick answers within the daemon's {DAEMON_SENSOR_TIMEOUT_SECONDS} s",
        slowest,
        DAEMON_SENSOR_TIMEOUT_SECONDS,
    )


def runs(simulation: Simulation) -> list[RunRecord]:
    """Return the runs that made the asset."""
    return simulation.figures.runs_of(simulation.subject.job)


def materialized(simulation: Simulation) -> int:
    """Return how often the asset was materialized."""
    return simulation.watch.materialized[simulation.subject.asset_key.to_string()]


def nothing_changes(simulation: Simulation, names: Partitions) -> list[Finding]:
    """Judge what a quiet world costs."""
    most = max(tick.cpu_seconds for tick in simulation.figures.ticks)
    return [
        *nothing_is_done(simulation, names),
        at_most(f"{TICK_CPU_SECONDS:g} s of CPU per tick", most, TICK_CPU_SECONDS),
    ]


def nothing_is_done(simulation: Simulation, names: Partitions) -> list[Finding]:
    """Judge what is done in a quiet world, whatever its size: nothing, in the time that the daemon gives a tick."""
    figures = simulation.figures
    sweeps = -(-figures.ticks[-1].number // 60)
    asked = sum(count for kind, count in simulation.world.calls.items() if kind not in ("token", "list"))
    cost = simulation.subject.calls_per_version
    most = sweeps * len(names) * cost
    bar = f"at most {most:,} calls for {sweeps} sweeps of {len(names):,} versions, {cost:,} per version"
    changes = simulation.watch.asset_events - figures.events["ASSET_CHECK_EVALUATION"]
    return [
        exactly("no runs", len(figures.runs), 0),
        exactly("no materializations, no observations", changes, 0),
        at_most(bar, asked, most),
        answers(simulation),
    ]


def three_republished(simulation: Simulation, names: Partitions) -> list[Finding]:
    """Judge what three changes cost."""
    requested = simulation.figures.requested(simulation.subject.job)
    return [
        Finding("3 partitions requested, once each", str(dict(requested)), requested == dict.fromkeys(names[:3], 1)),
        exactly("3 materializations", materialized(simulation), 3),
        converged(simulation),
    ]


def fails_for_good(simulation: Simulation, names: Partitions) -> list[Finding]:
    """Judge what is done about a partition that can never be exported."""
    check = latest_check(simulation.storage.instance, simulation.subject.asset_key, INVENTORY_CHECK)
    said = "no" if check is None else f"{check.description}; {check.metadata.get('sample')}"
    given_up = simulation.subject.given_up(simulation.storage.instance)
    return [
        attempts(simulation),
        at_most(f"at most {MAX_ATTEMPTS} runs", len(runs(simulation)), MAX_ATTEMPTS),
        Finding("it is known to need a person", f"given up: {sorted(given_up)}", set(given_up) == {names[0]}),
        Finding("it stands in the inventory, with what recovers it", said, names[0] in said and "ol recover" in said),
    ]


def fails_for_a_while(simulation: Simulation, names: Partitions) -> list[Finding]:
    """Judge how failures are tried again."""
    begun = simulation.world.begun
    first = [one.at for one in begun if one.version == "2"]
    pauses = [later - earlier for earlier, later in pairwise(first)]
    return [
        attempts(simulation),
        Finding(
            "pauses grow",
            f"{[round(pause) for pause in pauses]} s",
            len(pauses) + 1 == MAX_ATTEMPTS and pauses == sorted(pauses),
        ),
        exactly("the next version has a fresh budget", simulation.world.attempts[names[0], "3"], MAX_ATTEMPTS),
        converged(simulation),
    ]


def in_flight(simulation: Simulation, names: Partitions) -> list[Finding]:
    """Judge what becomes of a version that appears while the one before is exported."""
    return [
        Finding(
            "each version is exported once",
            str(dict(simulation.world.attempts)),
            simulation.world.attempts == {(names[0], "2"): 1, (names[0], "3"): 1},
        ),
        converged(simulation),
    ]


def source_down(simulation: Simulation, names: Partitions) -> list[Finding]:
    """Judge what an outage of the source costs."""
    instance, figures = simulation.storage.instance, simulation.figures
    failed = [tick for tick in figures.failed_ticks if SWEEP <= tick.number < SWEEP + 50]
    held = len(instance.get_dynamic_partitions(simulation.subject.partitions))
    late = [tick for tick in figures.ticks if tick.number >= SWEEP + 50 and tick.calls]
    return [
        exactly("50 ticks fail and say so", sum("down" in tick.error or "503" in tick.error for tick in failed), 50),
        exactly("nothing is deleted", held, len(names)),
        Finding(
            "coverage recovers in one sweep",
            f"asked again by tick {late[-1].number if late else None}",
            min(simulation.world.asked[name] for name in names) > 1,
        ),
        converged(simulation),
    ]


def slower(simulation: Simulation, names: Partitions) -> list[Finding]:
    """Judge a sweep that does not fit into a tick."""
    asked = simulation.world.asked
    ticks = [tick for tick in simulation.figures.ticks if tick.calls]
    reached = sum(1 for name in names if asked[name])
    return [
        answers(simulation),
        exactly("every tick gets further", sum(1 for tick in ticks if tick.error), 0),
        exactly("every partition is reached", reached, len(names)),
        at_most("nobody is asked twice in a sweep", max(asked.values(), default=0), 1),
        converged(simulation),
    ]


def discovery(simulation: Simulation, names: Partitions) -> list[Finding]:
    """Judge what is concluded from a list that cannot be believed."""
    instance, asset_key = simulation.storage.instance, simulation.subject.asset_key
    seen = (
        record.asset_observation for record in observations_since(instance, asset_key, simulation.world.clock.began_at)
    )
    retired = sum(1 for event in seen if event and event.tags.get(RETIRED_TAG) == "retired")
    return [
        exactly("nothing is retired, not even for a while", retired, 0),
        exactly("nothing is removed", len(instance.get_dynamic_partitions(simulation.subject.partitions)), len(names)),
        exactly("no runs", len(runs(simulation)), 0),
        converged(simulation),
    ]


def gone(simulation: Simulation, names: Partitions) -> list[Finding]:
    """Judge what becomes of partitions that the source no longer has."""
    held, back, seen = names[3], names[0], simulation.remembered
    instance = simulation.storage.instance
    kept = latest_by_partition(instance, simulation.subject.asset_key, names[:3])
    return [
        _there("a run's partition is not removed", seen.get("meanwhile"), there={held}, gone=set(names[:3])),
        _there("it is, once no run holds it", seen.get("afterwards"), there=set(), gone={held}),
        exactly("nothing that was made is deleted", len(kept), 3),
        exactly("what comes back is held, and not made again", simulation.world.attempts[back, "1"], 0),
        converged(simulation),
    ]


def shrunk(simulation: Simulation, names: Partitions) -> list[Finding]:
    """Judge what becomes of a source of which much is gone at once, before and after somebody says so."""
    left, lost = set(names[: len(names) * 2 // 5]), set(names[len(names) * 2 // 5 :])
    seen = simulation.remembered
    return [
        _there("nothing is retired without an acknowledgement", seen.get("before"), there=left | lost, gone=set()),
        _there("all that it names is, with one", seen.get("after"), there=left, gone=lost),
        converged(simulation),
    ]


def _there(bar: str, found: object, *, there: AbstractSet[str], gone: AbstractSet[str]) -> Finding:
    partitions = found if isinstance(found, set) else set()
    missing, left = there - partitions, gone & partitions
    return Finding(bar, f"{len(missing)} are missing, {len(left)} too many", not missing and not left)


def killed(simulation: Simulation, _names: Partitions) -> list[Finding]:
    """Judge what dead workers and daemons leave behind."""
    twice = sum(1 for count in simulation.world.attempts.values() if count > 1)
    return [
        attempts(simulation),
        at_most("the same remote exports are taken up: none is begun twice", twice, 0),
        at_most("runs are bounded", len(runs(simulation)), 6),
        converged(simulation),
    ]


def at_once(simulation: Simulation, names: Partitions) -> list[Finding]:
    """Judge what many exports cost that are wanted at once: all ticks and the runs that export.

    What is made of an export, such as tables, is work for which there is no bar; a verdict's figures have it by job.
    """
    ticks = simulation.figures.ticks
    spent = sum(run.cpu_seconds for run in runs(simulation)) + sum(tick.cpu_seconds for tick in ticks)
    twice = sum(1 for count in simulation.world.attempts.values() if count > 1)
    return [
        at_most(f"at most {IN_FLIGHT} exports in flight", simulation.world.most_running, IN_FLIGHT),
        at_most("a killed worker's exports are taken up: none is begun twice", twice, 0),
        at_most(
            f"{COURSE_CPU_SECONDS} s of CPU per partition to orchestrate it", spent / len(names), COURSE_CPU_SECONDS
        ),
        converged(simulation),
    ]
