"""Many exports of Open edX wanted at once: CPU seconds, events and queries a course, and a run a course beside it.

The code location is the installed one; LMS, Studio and the receiver of webhooks are in memory, archives are tiny. So
what is measured is orchestration, the steps behind the archives included, and none of the source's own time.
"""

import os
import resource
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import dagster as dg
import pytest
from ol_devkit.daemon import execute
from ol_devkit.servers.postgres import PostgresServer
from ol_devkit.simulator import SCENARIOS, SUBJECTS, Storage, Verdict, partitions_of, play, postgres, staged

N = int(os.environ.get("OL_BENCHMARK_EXPORTS", "2000"))
ALONE = 10
"""Courses that are given a run each, for comparison."""

(AT_ONCE,) = [one for one in SCENARIOS if one.name == "exports-at-once"]


def told(verdict: Verdict, database: str) -> float:
    """Print a verdict; return the CPU seconds a course."""
    figures = verdict.figures
    ticking: float = figures["tick_cpu_seconds_mean"] * figures["ticks"]
    a_course: float = (figures["run_cpu_seconds"] + ticking) / verdict.partitions
    sys.stdout.write(
        f"\n{verdict.partitions} exports wanted at once, on {database}: {a_course:.3f} CPU s, "
        f"{figures['events'] / verdict.partitions:.1f} events, {figures['queries'] / verdict.partitions:.1f} queries, "
        f"{figures['database_bytes'] / verdict.partitions:,.0f} bytes a course; {figures['runs_by_end']} runs; "
        f"source calls {figures['calls']}\n"
    )
    for job, seconds in figures["run_cpu_seconds_by_job"].items():
        sys.stdout.write(f"  {job}: {seconds / verdict.partitions:.4f} CPU s a course\n")
    sys.stdout.write(f"  ticks: {ticking / verdict.partitions:.4f} CPU s a course\n")
    for finding in verdict.findings:
        sys.stdout.write(f"  {'ok' if finding.holds else 'MISSED'}: {finding.bar}: {finding.measured}\n")
    return a_course


@pytest.mark.benchmark
@pytest.mark.timeout(7200)
def test_exports_wanted_at_once() -> None:
    verdict = play(AT_ONCE, SUBJECTS["openedx"], partitions=N)
    a_course = told(verdict, "SQLite")
    starting, alone = a_worker(), a_run_a_course()
    sys.stdout.write(
        f"a run a course, its export only: {alone:.2f} CPU s a course, and {starting:.1f} to start its process: "
        f"{(starting + alone) / a_course:.0f} times as much\n"
    )
    assert verdict.holds
    assert starting + alone > a_course


@pytest.mark.benchmark
@pytest.mark.timeout(7200)
def test_exports_wanted_at_once_on_postgresql(postgres_server: PostgresServer) -> None:
    def open_storage(folder: Path) -> AbstractContextManager[Storage]:
        return postgres(folder, f"{postgres_server.create_database().url}?sslmode=disable")  # a connection a query

    verdict = play(AT_ONCE, SUBJECTS["openedx"], partitions=N, open_storage=open_storage)
    told(verdict, "PostgreSQL")
    assert verdict.holds


def a_worker() -> float:
    """Return the CPU seconds until a process has loaded the code location, as each run's does."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    load = "from ol_core import code_locations as found; found.load(found.installed(['openedx']))"
    subprocess.run([sys.executable, "-W", "ignore", "-c", load], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def a_run_a_course() -> float:
    """Return the CPU seconds of a run that exports one course, without those of starting its process."""
    with staged(SUBJECTS["openedx"], partitions_of(ALONE), is_seeded=False) as simulation:
        subject, instance = simulation.subject, simulation.storage.instance
        instance.add_dynamic_partitions(subject.partitions, list(simulation.world.versions))
        started = time.process_time()
        for partition, version in simulation.world.versions.items():
            config = {"ops": {"mitx_openedx_export_courses": {"config": {"wanted": {partition: version}}}}}
            request = dg.RunRequest(job_name=subject.job, run_config=config, partition_key=partition)
            assert execute(instance, subject.definitions, request).success
        return (time.process_time() - started) / ALONE
