"""Many exports of Open edX wanted at once: CPU seconds, events, queries per course; beside it, one run per course.

The code location is the installed one; LMS, Studio and the receiver of webhooks are in memory, archives are tiny. So
what is measured is orchestration, that of the steps behind the archives included, and the little work there is to do
for such archives, which is measured alone as well.
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
from ol_core.environment import development
from ol_core.resources import shared_resources
from ol_devkit.daemon import execute
from ol_devkit.servers.postgres import PostgresServer
from ol_devkit.simulator import SCENARIOS, SUBJECTS, Storage, Verdict, partitions_of, play, postgres, staged
from ol_devkit.simulator.openedx import KEYS, archive
from ol_openedx.archive import TABLE_KINDS, digest_archive, table_schema, write_parquet_tables
from ol_openedx.tables import table_name
from pyarrow import parquet

N = int(os.environ.get("OL_BENCHMARK_EXPORTS", "2000"))
ALONE = 10
"""Courses that are given a run each, for comparison."""

WORKED_ON = 200
"""Courses by which the work alone is measured."""

MOST_CPU_SECONDS = 0.3
"""To orchestrate one of 2,000 courses; among fewer, each has a larger part of the ticks."""

(AT_ONCE,) = [one for one in SCENARIOS if one.name == "exports-at-once"]


def told(verdict: Verdict, database: str, work: float) -> float:
    """Print a verdict; return the CPU seconds per course without those of the `work`."""
    figures = verdict.figures
    ticking: float = figures["tick_cpu_seconds_mean"] * figures["ticks"]
    a_course: float = (figures["run_cpu_seconds"] + ticking) / verdict.partitions
    sys.stdout.write(
        f"\n{verdict.partitions} exports wanted at once, on {database}: {a_course - work:.3f} CPU s "
        f"to orchestrate a course up to its raw tables and webhook, and {work:.3f} to do the work; "
        f"{figures['events'] / verdict.partitions:.1f} events, {figures['queries'] / verdict.partitions:.1f} queries, "
        f"{figures['database_bytes'] / verdict.partitions:,.0f} bytes per course; {figures['runs_by_end']} runs; "
        f"source calls {figures['calls']}\n"
    )
    for job, seconds in figures["run_cpu_seconds_by_job"].items():
        sys.stdout.write(f"  {job}: {seconds / verdict.partitions:.4f} CPU s per course\n")
    sys.stdout.write(f"  ticks: {ticking / verdict.partitions:.4f} CPU s per course\n")
    for finding in verdict.findings:
        sys.stdout.write(f"  {'ok' if finding.holds else 'MISSED'}: {finding.bar}: {finding.measured}\n")
    return a_course - work


@pytest.mark.benchmark
@pytest.mark.timeout(7200)
def test_exports_wanted_at_once(tmp_path: Path) -> None:
    verdict = play(AT_ONCE, SUBJECTS["openedx"], partitions=N)
    a_course = told(verdict, "SQLite", the_work_alone(tmp_path))
    export = verdict.figures["run_cpu_seconds_by_job"][KEYS.name("course_xml")] / verdict.partitions
    starting, alone = a_worker(), a_run_a_course()
    sys.stdout.write(
        f"an export: {export:.3f} CPU s; in a run of its own {alone:.2f}, and {starting:.1f} to start its process: "
        f"{(starting + alone) / export:.0f} times as much\n"
    )
    assert verdict.holds
    assert a_course <= MOST_CPU_SECONDS
    assert starting + alone > 10 * export


@pytest.mark.benchmark
@pytest.mark.timeout(7200)
def test_exports_wanted_at_once_on_postgresql(postgres_server: PostgresServer, tmp_path: Path) -> None:
    def open_storage(folder: Path) -> AbstractContextManager[Storage]:
        return postgres(folder, f"{postgres_server.create_database().url}?sslmode=disable")  # one connection per query

    verdict = play(AT_ONCE, SUBJECTS["openedx"], partitions=N, open_storage=open_storage)
    a_course = told(verdict, "PostgreSQL", the_work_alone(tmp_path))
    assert verdict.holds
    assert a_course <= MOST_CPU_SECONDS


def the_work_alone(folder: Path) -> float:
    """Return the CPU seconds per course of what is done with such an archive, by the same readers and IO managers."""
    resources = shared_resources(development(data_dir=folder, campus_url="http://127.0.0.1:1"))
    objects, tables = resources["io_manager"], resources["raw_table_io_manager"]
    courses = {f"course-v1:Org+C{number}+R": archive(f"course-v1:Org+C{number}+R", "1") for number in range(WORKED_ON)}
    started = time.process_time()
    for course, content in courses.items():
        file = folder / "archive"
        file.write_bytes(content)
        with file.open("rb") as stream:
            digest_archive(stream, name=course)
        objects.put_by_checksum(file, asset_key=KEYS.course_xml, partition=course)
        with file.open("rb") as stream:
            write_parquet_tables(stream, name=course, out=folder / course, course_id=course)
        for kind in TABLE_KINDS:
            read = folder / course / f"{kind}.parquet"
            objects.put_by_checksum(read, asset_key=KEYS.processed(kind), partition=course)
    for kind in TABLE_KINDS:
        rows = (parquet.read_table(folder / course / f"{kind}.parquet") for course in courses)
        tables.replace_partitions(table_name("mitx", kind), table_schema(kind), list(courses), rows)
    return (time.process_time() - started) / WORKED_ON


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
