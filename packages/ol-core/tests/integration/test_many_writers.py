"""Many writers of one raw table, some of them killed, with a SQLite catalog and the REST catalog of SeaweedFS."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from ol_core.tables import RawTableIOManager, TablePolicy, TableUpkeep
from served_catalog import SCHEMA, held, rows

PROCESSES, COMMITS = 8, 5

WRITERS = """
import os, sys
import pyarrow as pa
from ol_core.secrets import LocalSecrets
from ol_core.tables import RawTableIOManager
{imports}

name, writers, commits, same = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "same"
tables = RawTableIOManager({stated})
schema = pa.schema([pa.field("course_id", pa.string(), nullable=False), ("n", pa.int64()), ("writer", pa.string())])

def write(number):
    for turn in range(commits):
        course = "shared" if same else f"course-{{number}}-{{turn % 5}}"
        content = [{{"course_id": course, "n": n, "writer": f"{{number}}/{{turn}}"}} for n in range(10)]
        print("turn", turn, flush=True)
        tables.replace_partitions(name, schema, [course], [pa.Table.from_pylist(content, schema=schema)])

others = []
for number in range(1, writers):
    others.append(os.fork())
    if not others[-1]:
        try:
            write(number)
        except BaseException as error:
            print(number, repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
write(0)
sys.exit(any(os.waitpid(other, 0)[1] for other in others))
"""
"""One process that imports what is needed, and as many as are asked for that it forks then."""

IMPORTS = "import pyiceberg.catalog.sql, pyiceberg.catalog.rest, pyiceberg.io.pyarrow, ol_core.tables.snapshots"

KILLED = """
import signal
from pyiceberg.table import Table
commit = Table._do_commit
def killed(self, **given):
    if given["updates"] and "rows" in os.environ["KILL"]:
        if "after" in os.environ["KILL"]:
            commit(self, **given)
        os.kill(os.getpid(), signal.SIGKILL)
    return commit(self, **given)
Table._do_commit = killed
"""

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tables: RawTableIOManager, tmp_path: Path) -> Start:
    """Start writers: how many, how many commits each makes, and of the same partition or of different ones."""
    fields = ["kind", "uri", "warehouse", "writable"]
    if tables.kind == "rest":
        fields += ["credential", "oauth2_server_uri", "s3_endpoint_url", "region"]
    stated = ", ".join(f"{field}={getattr(tables, field)!r}" for field in fields)
    if tables.kind == "rest":
        stated += f", secrets=LocalSecrets(file={str(tmp_path / 'secrets.toml')!r})"

    def started(name: str, writers: int, commits: int, which: str, **variables: str) -> "subprocess.Popen[bytes]":
        imports = f"{IMPORTS}\n{KILLED}" if "KILL" in variables else IMPORTS
        script = WRITERS.format(stated=stated, imports=imports)
        command = [sys.executable, "-c", script, name, str(writers), str(commits), which]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **variables}
        )

    return started


def lose_nothing(tables: RawTableIOManager, start: Start, name: str, *, commits: int) -> float:
    """Let all writers commit at once; return the seconds that it took."""
    if tables.kind == "rest":  # SeaweedFS lets two make the same table, and keeps one of them
        tables.ensure(name, SCHEMA)
    started = time.monotonic()
    with start(name, PROCESSES, commits, "different") as process:
        _, said = process.communicate()
    seconds = time.monotonic() - started
    assert process.returncode == 0, said.decode()[-3000:]

    found = tables.read(name).to_pylist()
    newest = {
        f"course-{number}-{turn % 5}": f"{number}/{turn}" for number in range(PROCESSES) for turn in range(commits)
    }
    assert len(found) == len(newest) * 10
    assert {(row["course_id"], row["writer"]) for row in found} == set(newest.items())
    return seconds


def test_many_writers_of_different_partitions_lose_nothing(tables: RawTableIOManager, start: Start, name: str) -> None:
    lose_nothing(tables, start, name, commits=COMMITS)


def test_a_column_that_many_add_at_once_is_added_once(tables: RawTableIOManager, name: str) -> None:
    tables.ensure(name, SCHEMA)
    wider = SCHEMA.append(pa.field("title", pa.string()))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: tables.ensure(name, wider), range(4)))

    assert tables.read(name).column_names == [*SCHEMA.names, "title"]


def test_writers_that_each_add_a_column_keep_all_rows_and_columns(tables: RawTableIOManager, name: str) -> None:
    tables.ensure(name, SCHEMA)

    def write(course: str) -> None:
        schema = SCHEMA.append(pa.field(course, pa.string()))
        tables.replace_partitions(name, schema, [course], [rows(course, 1).append_column(schema[-1], pa.array(["x"]))])

    courses = ["a", "b", "c", "d"]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, courses))

    found = tables.read(name).to_pylist()
    assert sorted((row["course_id"], *[one for one in courses if row[one]]) for row in found) == [
        (course, course) for course in courses
    ]


@pytest.mark.benchmark
@pytest.mark.timeout(900)
def test_two_hundred_commits_of_eight_writers_lose_nothing(tables: RawTableIOManager, start: Start, name: str) -> None:
    seconds = lose_nothing(tables, start, name, commits=200 // PROCESSES)

    print(f"{tables.kind}: 200 commits of {PROCESSES} processes in {seconds:.0f} s")  # noqa: T201 - the figure


def test_of_many_writers_of_one_partition_one_wins_whole(tables: RawTableIOManager, start: Start, name: str) -> None:
    tables.ensure(name, SCHEMA)
    with start(name, 4, 3, "same") as process:
        _, said = process.communicate()
    assert process.returncode == 0, said.decode()[-3000:]

    found = tables.read(name).to_pylist()
    assert sorted(row["n"] for row in found) == list(range(10))
    (winner,) = {row["writer"] for row in found}
    assert winner.endswith("/2")


@pytest.mark.parametrize(("moment", "expected"), [("rows before", [1, 2]), ("rows after", list(range(10)))])
def test_a_writer_killed_around_its_commit_leaves_all_or_nothing(
    tables: RawTableIOManager, start: Start, name: str, *, moment: str, expected: list[int]
) -> None:
    before = tables.replace_partitions(name, SCHEMA, ["shared"], [rows("shared", 1, 2)])

    with start(name, 1, 1, "same", KILL=moment) as process:
        _, said = process.communicate()

    assert process.returncode == -signal.SIGKILL, said.decode()[-3000:]
    assert held(tables, name) == {"shared": expected}
    assert (tables.snapshots()[name] == before.version) == (moment == "rows before")
    again = tables.replace_partitions(name, SCHEMA, ["shared"], [rows("shared", 3)])
    assert (again.total_rows, held(tables, name)) == (1, {"shared": [3]})


def test_a_writer_killed_at_any_moment_leaves_the_table_whole(
    tables: RawTableIOManager, start: Start, name: str
) -> None:
    tables.ensure(name, SCHEMA)
    for moment in [random.Random(number).uniform(0.0, 0.6) for number in range(2)]:
        with start(name, 1, 100, "same") as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(moment)
            process.kill()
        found = tables.read(name).to_pylist()
        assert sorted(row["n"] for row in found) in ([], list(range(10)))
        assert len({row["writer"] for row in found}) <= 1

    assert tables.replace_partitions(name, SCHEMA, ["shared"], [rows("shared", 1)]).total_rows == 1


def test_upkeep_beside_writers_costs_them_nothing(tables: RawTableIOManager, name: str) -> None:
    policy = TablePolicy(snapshots_kept=1, snapshot_age_hours=0, compact_above_files=1)
    tables.ensure(name, SCHEMA, policy=policy)

    def write(course: str) -> None:
        for number in range(6):
            tables.replace_partitions(name, SCHEMA, [course], [rows(course, number)], policy=policy)

    with ThreadPoolExecutor(3) as pool:
        writing = [pool.submit(write, course) for course in ("a", "b", "c")]
        kept_up: list[TableUpkeep] = []
        while not all(one.done() for one in writing):
            kept_up += tables.keep_up([name])
        for one in writing:
            one.result()

    assert [one.error for one in kept_up if one.error] == []
    assert held(tables, name) == {"a": [5], "b": [5], "c": [5]}
