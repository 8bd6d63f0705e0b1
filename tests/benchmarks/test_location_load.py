"""CPU time of loading a code location, against importing the frameworks that it is made of."""

import resource
import statistics
import subprocess
import sys

import pytest
from ol_core.code_locations import installed

RUNS = 5
BASELINES = {"lakehouse": "import dagster, dagster_dbt"}
LIMIT = 1.3


def cpu_seconds(script: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, env={})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.benchmark
@pytest.mark.parametrize("name", [location.name for location in installed()])
def test_loading_costs_little_more_than_the_framework(name: str) -> None:
    load = f"from ol_core.code_locations import installed, load; load(installed([{name!r}]))"
    baseline = BASELINES.get(name, "import dagster")
    cpu_seconds(load)  # compiles what is not compiled yet
    pairs = [(cpu_seconds(load), cpu_seconds(baseline)) for _ in range(RUNS)]

    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    sys.stdout.write(f"{name}: {ratio:.2f} times the CPU time of `{baseline}`, median of {RUNS} pairs\n")
    assert ratio <= LIMIT
