"""The scenarios by which a policy is judged, each with its bars; see `ol simulate --list`."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ol_devkit.simulator import bars
from ol_devkit.simulator.acts import (
    acknowledge_shrink,
    fail,
    heal,
    kill_daemon,
    kill_run,
    list_as,
    monitor_after,
    publish,
    refuse,
    remember_live,
    remember_partitions,
    skip,
    slow,
    together,
    unpublish,
)
from ol_devkit.simulator.bars import SWEEP, Finding, Partitions
from ol_devkit.simulator.simulation import Script, Simulation
from ol_devkit.simulator.stage import MakeSubject, OpenStorage, staged
from ol_devkit.simulator.storage import sqlite
from ol_devkit.simulator.world import partitions_of


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens, and what must hold.

    Attributes:
        name: What it is called.
        about: What happens, in a sentence.
        ticks: How long it lasts.
        script: What happens when, to these partitions.
        judge: Compares what was counted with the bars.
        partitions: How many, unless said otherwise.
        is_seeded: Whether all partitions are held at the beginning.
    """

    name: str
    about: str
    ticks: int
    script: Callable[[Partitions], Script]
    judge: Callable[[Simulation, Partitions], list[Finding]]
    partitions: int = 5_000
    is_seeded: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a scenario."""

    scenario: str
    subject: str
    partitions: int
    findings: Sequence[Finding]
    figures: dict[str, Any]

    @property
    def holds(self) -> bool:
        """Whether every bar holds."""
        return all(finding.holds for finding in self.findings)


def play(
    scenario: Scenario,
    make_subject: MakeSubject,
    *,
    partitions: int | None = None,
    ticks: int | None = None,
    open_storage: OpenStorage = sqlite,
) -> Verdict:
    """Play a scenario and judge it.

    Args:
        scenario: What happens.
        make_subject: Builds what is judged.
        partitions: How many; by default what the scenario says.
        ticks: How long; by default what the scenario says.
        open_storage: Opens the instance of Dagster.
    """
    versions = partitions_of(partitions or scenario.partitions)
    names = list(versions)
    with staged(make_subject, versions, is_seeded=scenario.is_seeded, open_storage=open_storage) as simulation:
        simulation.script = scenario.script(names)
        figures = simulation.run(ticks or scenario.ticks)
        findings = [bars.slots(simulation), *scenario.judge(simulation, names)]
        counted = {
            "calls": dict(simulation.world.calls),
            "partition_versions_by_attempts": dict(Counter(simulation.world.attempts.values())),
        }
        return Verdict(scenario.name, simulation.subject.name, len(names), findings, {**figures.as_json(), **counted})


def _quiet(_names: Partitions) -> Script:
    return {}


SCENARIOS: Sequence[Scenario] = (
    Scenario("nothing-changes", "Nothing happens.", 100, _quiet, bars.nothing_changes),
    Scenario(
        "three-republished",
        "Three partitions move to another version.",
        130,
        lambda names: {10: publish(dict.fromkeys(names[:3], "2"))},
        bars.three_republished,
    ),
    Scenario(
        "fails-for-good",
        "One partition moves, and can never be exported again.",
        1000,
        lambda names: {10: together(publish({names[0]: "2"}), fail(names[:1], "permanent"), slow(export_seconds=150))},
        bars.fails_for_good,
    ),
    Scenario(
        "fails-for-a-while",
        "A partition's export fails twice and succeeds; its next version fails without end.",
        300,
        lambda names: {
            10: together(publish({names[0]: "2"}), fail(names[:1], "transient"), slow(export_seconds=150)),
            75: heal(names[:1]),
            90: together(publish({names[0]: "3"}), fail(names[:1], "transient")),
        },
        bars.fails_for_a_while,
    ),
    Scenario(
        "published-in-flight",
        "A partition moves again while its export goes on.",
        200,
        lambda names: {
            10: together(publish({names[0]: "2"}), slow(export_seconds=600)),
            SWEEP + 4: publish({names[0]: "3"}),
        },
        bars.in_flight,
    ),
    Scenario(
        "source-down",
        "The source is down for 50 ticks, beginning with a sweep; three partitions move meanwhile.",
        240,
        lambda names: {
            SWEEP: together(refuse("down"), publish(dict.fromkeys(names[:3], "2"))),
            SWEEP + 50: refuse(None),
        },
        bars.source_down,
    ),
    Scenario(
        "slower-than-its-budget",
        "A call takes 0.1 s, so that a sweep does not fit into a tick; the last partition moves.",
        58,
        lambda names: {1: together(slow(call_seconds=0.1), publish({names[-1]: "2"}))},
        bars.slower,
    ),
    Scenario(
        "unknown-discovery",
        "The list of what the source has is unreadable, then empty, then 60 % smaller, then whole.",
        300,
        lambda _names: {
            SWEEP: list_as("unreadable"),
            2 * SWEEP: list_as("empty"),
            3 * SWEEP: list_as("smaller"),
            4 * SWEEP: list_as("whole"),
        },
        bars.discovery,
    ),
    Scenario(
        "gone",
        "Three partitions are unpublished, then one whose run hangs; later one of the three comes back.",
        400,
        lambda names: {
            10: together(unpublish(names[:3]), publish({names[3]: "2"})),
            SWEEP: together(kill_run(after_calls=1), monitor_after(200)),
            SWEEP + 1: unpublish(names[3:4]),
            SWEEP + 190: remember_partitions("meanwhile"),
            SWEEP + 280: together(remember_partitions("afterwards"), publish({names[0]: "1"})),
        },
        bars.gone,
    ),
    Scenario(
        "shrunk",
        "60 % of what the source has is gone at once; half an hour after the sweep that saw it, somebody says so.",
        260,
        lambda names: {
            10: unpublish(names[len(names) * 2 // 5 :]),
            SWEEP + 30: together(remember_live("before"), acknowledge_shrink()),
            SWEEP + 190: remember_partitions("after"),
        },
        bars.shrunk,
    ),
    Scenario(
        "fifty-thousand", "Nothing happens to 50,000 partitions.", 100, _quiet, bars.nothing_is_done, partitions=50_000
    ),
    Scenario(
        "deaths",
        "While many partitions move, a worker and the daemon die twice, and ticks are left out.",
        200,
        lambda names: {
            10: together(publish(dict.fromkeys(names[: len(names) // 10], "2")), slow(export_seconds=5)),
            SWEEP: together(kill_run(after_calls=30), kill_daemon("result lost")),
            SWEEP + 20: kill_run(after_calls=10),
            SWEEP + 40: skip(5),
            100: publish(dict.fromkeys(names[: len(names) // 10], "3")),
            2 * SWEEP: kill_daemon("cursor lost"),
            2 * SWEEP + 1: kill_daemon("cursor lost"),
        },
        bars.killed,
    ),
    Scenario(
        "exports-at-once",
        "Nothing is held yet, all is wanted at once, an export takes 30 s, and a worker dies.",
        120,
        lambda _names: {1: slow(export_seconds=30), 3: kill_run(after_calls=50)},
        bars.at_once,
        partitions=2_000,
        is_seeded=False,
    ),
)
