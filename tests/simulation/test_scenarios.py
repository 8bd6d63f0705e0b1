"""Every scenario, at a size that everyday tests can bear; benchmarks play them whole."""

import os

import pytest
from ol_devkit.simulator import SCENARIOS, SUBJECTS, Scenario, Verdict, bars, memory, partitions_of, play, staged
from ol_devkit.simulator.acts import fail, heal, kill_daemon, kill_run, publish, skip, slow, together

PARTITIONS = int(os.environ.get("OL_SIMULATED_PARTITIONS", "40"))
HARDSHIP = Scenario(
    "hardship",
    "Nothing is held; a course fails for good, a worker dies, a cursor is lost, and an hour later three courses moved.",
    66,
    lambda names: {
        1: together(slow(export_seconds=90), fail(names[:1], "permanent")),
        2: together(kill_run(after_calls=4), kill_daemon("cursor lost")),
        14: together(skip(46), publish(dict.fromkeys(names[:3], "2")), heal(names[:1]), slow()),
    },
    lambda simulation, names: [
        bars.attempts(simulation, 1),
        bars.exactly("all are made once, and three once more", bars.materialized(simulation), len(names) + 2),
        bars.converged(simulation),
    ],
    partitions=8,
    is_seeded=False,
)


def failures(verdict: Verdict) -> list[str]:
    return [f"{one.bar}: {one.measured}" for one in verdict.findings if not one.holds]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_policy_holds(scenario: Scenario) -> None:
    ticks = 130 if scenario.name == "fails-for-good" else None  # a sweep after its last attempt
    verdict = play(scenario, SUBJECTS["generic"], partitions=PARTITIONS, ticks=ticks, open_storage=memory)
    assert failures(verdict) == []


@pytest.mark.parametrize("location", ["canvas", "openedx"])
def test_code_locations_hold(location: str) -> None:
    verdict = play(HARDSHIP, SUBJECTS[location])
    assert failures(verdict) == []
    assert verdict.figures["runs_by_end"]["killed"] == 1


@pytest.mark.parametrize("location", ["canvas", "openedx"])
@pytest.mark.parametrize("name", ["nothing-changes", "three-republished"])
def test_code_locations_hold_the_same_bars(location: str, name: str) -> None:
    (scenario,) = (one for one in SCENARIOS if one.name == name)
    assert failures(play(scenario, SUBJECTS[location], partitions=12, open_storage=memory)) == []


def test_canvas_is_allowed_no_more_calls_for_a_version_than_it_takes() -> None:
    with staged(SUBJECTS["canvas"], partitions_of(12), open_storage=memory) as simulation:
        simulation.run(1)
        assert simulation.world.calls["versions"] == 12 * simulation.subject.calls_per_version
