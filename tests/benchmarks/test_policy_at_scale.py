"""Every scenario of the simulator at its whole size: 5,000 partitions, and what a tick of 50,000 costs."""

import os
import sys

import pytest
from ol_devkit.simulator import SCENARIOS, SUBJECTS, Scenario, play

CHOSEN = os.environ.get("OL_BENCHMARK_LOCATION", "generic")


@pytest.mark.benchmark
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_scenario_at_its_whole_size(scenario: Scenario) -> None:
    verdict = play(scenario, SUBJECTS[CHOSEN])
    figures = verdict.figures
    sys.stdout.write(
        f"\n{scenario.name}: {CHOSEN}, {verdict.partitions:,} partitions, {figures['ticks']} ticks: "
        f"{figures['runs']} runs, {figures['calls']} calls, {figures['events']} events, {figures['queries']} queries, "
        f"CPU s per tick {figures['tick_cpu_seconds_mean']:.3f} (most {figures['tick_cpu_seconds_max']:.2f}, wall "
        f"{figures['tick_wall_seconds_max']:.2f}), cursor {figures['cursor_bytes_max']} bytes, database "
        f"+{figures['database_bytes'] / 1e6:.2f} MB, memory {figures['peak_memory_bytes'] / 1e6:.0f} MB\n"
    )
    for finding in verdict.findings:
        sys.stdout.write(f"  {'ok' if finding.holds else 'MISSED'}: {finding.bar}: {finding.measured}\n")
    sys.stdout.flush()
    assert verdict.holds
