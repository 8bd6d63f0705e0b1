"""Raw tables with real catalogs: SQLite, and the REST catalog of SeaweedFS; many writers, some of them killed."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from ol_core.environment import RAW_NAMESPACE, GlueCatalog, development
from ol_core.failures import PermanentFailure, TransientFailure
from ol_core.secrets import LocalSecrets
from ol_core.tables import RawTableIOManager, TablePolicy
from ol_devkit.servers.faults import Fault, fault_proxy
from ol_devkit.servers.process import free_ports
from ol_devkit.servers.seaweedfs import SeaweedFS

SCHEMA = pa.schema([pa.field("course_id", pa.string(), nullable=False), ("n", pa.int64()), ("writer", pa.string())])
PROCESSES, COMMITS = 8, 5


@pytest.fixture(params=["sql", "rest"])
def tables(request: pytest.FixtureRequest, tmp_path: Path) -> RawTableIOManager:
    if request.param == "rest":
        server: SeaweedFS = request.getfixturevalue("seaweedfs_server")
        monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
        for name, value in server.aws_variables.items():
            monkeypatch.setenv(name, value)
        return rest(server, server.iceberg_url, tmp_path)
    root = tmp_path / "tables"
    return RawTableIOManager(kind="sql", uri=f"sqlite:///{root}/catalog.db", warehouse=str(root), writable=True)


def rest(server: SeaweedFS, url: str, folder: Path, *, s3_url: str = "") -> RawTableIOManager:
    file = folder / "secrets.toml"
    file.write_text(f'[catalog]\ncredential = "{server.access_key}:{server.secret_key}"\n')
    file.chmod(0o600)
    return RawTableIOManager(
        kind="rest",
        uri=url,
        warehouse=server.warehouse,
        credential="catalog#credential",
        oauth2_server_uri=f"{url}/v1/oauth/tokens",
        s3_endpoint_url=s3_url or server.s3_url,
        region="us-east-1",
        writable=True,
        secrets=LocalSecrets(file=str(file)),
    )


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return f"t_{abs(hash(request.node.name)) % 10**8}_{time.time_ns() % 10**9}"


def rows(course: str, *numbers: int, writer: str = "") -> pa.Table:
    content = [{"course_id": course, "n": number, "writer": writer} for number in numbers]
    return pa.Table.from_pylist(content, schema=SCHEMA)


def held(tables: RawTableIOManager, name: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row in tables.read(name).to_pylist():
        found.setdefault(row["course_id"], []).append(row["n"])
    return {course: sorted(numbers) for course, numbers in found.items()}


def test_partitions_are_replaced_in_one_commit(tables: RawTableIOManager, name: str) -> None:
    tables.replace_partitions(name, SCHEMA, ["a", "b"], [rows("a", 1, 2), rows("b", 3)])
    commit = tables.replace_partitions(name, SCHEMA, ["a"], [rows("a", 9)])

    assert held(tables, name) == {"a": [9], "b": [3]}
    assert (commit.changed_partitions, commit.total_rows) == (1, 2)
    assert tables.snapshots()[name] == commit.version


def test_what_the_table_holds_already_is_not_committed_again(tables: RawTableIOManager, name: str) -> None:
    first = tables.replace_partitions(name, SCHEMA, ["a", "b", "c"], [rows("a", 1, 2), rows("b", 3)])
    again = tables.replace_partitions(name, SCHEMA, ["c", "b", "a"], [rows("b", 3), rows("a", 2), rows("a", 1)])
    some = tables.replace_partitions(name, SCHEMA, ["a", "b"], [rows("a", 1, 2), rows("b", 4)])

    assert again.unchanged
    assert again.snapshot_id == first.snapshot_id
    assert again.metadata["rows_written"] == 0
    assert some.changed_partitions == 1
    assert held(tables, name) == {"a": [1, 2], "b": [4]}


def test_a_whole_table_that_is_the_same_is_unchanged(tables: RawTableIOManager, name: str) -> None:
    first = tables.replace(name, rows("a", 1, 2))

    assert tables.replace(name, rows("a", 2, 1)).snapshot_id == first.snapshot_id
    assert tables.replace(name, rows("a", 2)).snapshot_id != first.snapshot_id


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


def later() -> datetime:
    return datetime.now(UTC) + timedelta(days=30)


def test_upkeep_follows_the_policy_and_loses_nothing(tables: RawTableIOManager, name: str) -> None:
    policy = TablePolicy(snapshots_kept=2, snapshot_age_hours=1, compact_above_files=1, orphan_age_hours=24)
    strange = "course-v1:MITx+6.00x/ü ?#%2F&=+*"
    for number in range(6):
        tables.replace_partitions(name, SCHEMA, [strange], [rows(strange, number)], policy=policy)
    last = tables.replace_partitions(name, SCHEMA, ["b"], [rows("b", 7)], policy=policy)

    (young,) = tables.keep_up([name])
    (done,) = tables.keep_up([name], now=later)
    (again,) = tables.keep_up([name], now=later)

    assert (young.expired, young.removed, young.error) == (0, 0, "")
    assert (done.error, done.expired, done.snapshots, done.files) == ("", 5, 2, 2)
    assert done.removed >= 10
    assert (again.expired, again.removed, again.compacted, again.error) == (0, 0, 0, "")
    assert held(tables, name) == {strange: [5], "b": [7]}
    assert tables.snapshots()[name] == last.version


def test_partitions_of_many_files_are_compacted_and_keep_their_version(tables: RawTableIOManager, name: str) -> None:
    policy = TablePolicy(compact_above_files=1)
    first = tables.replace_partitions(name, SCHEMA, ["a", "b"], [rows("a", 1), rows("b", 2)], policy=policy)
    with tables._catalog(name) as catalog:  # as another engine would
        for number in range(4):
            catalog.load_table((RAW_NAMESPACE, name)).append(rows("a", number))
    appended = tables.snapshots()[name]

    (done,) = tables.keep_up([name])
    same = tables.replace_partitions(name, SCHEMA, ["a", "b"], [rows("a", 0, 1, 1, 2, 3), rows("b", 2)], policy=policy)

    assert (done.compacted, done.files, done.error) == (1, 2, "")
    assert held(tables, name) == {"a": [0, 1, 1, 2, 3], "b": [2]}
    assert appended != first.version
    assert tables.snapshots()[name] == appended
    assert same.unchanged
    assert same.partition_versions["b"] == first.partition_versions["b"]


def test_manifests_are_merged_before_they_are_many(
    tables: RawTableIOManager, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ol_core.tables.snapshots.MANIFESTS", 4)
    for number in range(12):
        tables.replace_partitions(name, SCHEMA, [f"c{number % 3}"], [rows(f"c{number % 3}", number)])

    with tables._catalog(name) as catalog:
        stored = catalog.load_table((RAW_NAMESPACE, name))
        snapshot = stored.current_snapshot()
        assert snapshot is not None
        assert len(snapshot.manifests(stored.io)) <= 6
    assert held(tables, name) == {"c0": [9], "c1": [10], "c2": [11]}


STREAMED = """
import resource, signal, sys
import pyarrow as pa, pyarrow.compute as pc
from ol_core.tables import RawTableIOManager

folder, batches = sys.argv[1], int(sys.argv[2])
tables = RawTableIOManager(kind="sql", uri=f"sqlite:///{folder}/catalog.db", warehouse=folder, writable=True)
schema = pa.schema([pa.field("course_id", pa.string(), nullable=False), ("text", pa.string())])
filling = pa.scalar("some text that compresses well " * 33)

def rows(count, said):
    for number in range(count):
        numbers = pa.array(range(number * 4000, number * 4000 + 4000)).cast(pa.string())
        text = pc.binary_join_element_wise(numbers, filling, said)
        course = "a" if number < count / 2 else "b"
        yield pa.RecordBatch.from_arrays([pa.array([course] * 4000), text], schema=schema)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

for table in ("partitioned", "whole"):
    for count, said in ((2, "x"), (batches, "y"), (batches, "y")):
        if table == "whole":
            commit = tables.replace(table, pa.RecordBatchReader.from_batches(schema, rows(count, said)))
        else:
            commit = tables.replace_partitions(table, schema, ["a", "b"], rows(count, said))
        before = peak() if count == 2 and table == "partitioned" else before
        print(table, commit.total_rows, commit.unchanged, peak() - before)
"""


def test_memory_does_not_grow_with_the_rows_that_stream_through(tmp_path: Path) -> None:
    batches = 60  # of 4 MB: 240 MB a table
    command = [sys.executable, "-c", STREAMED, str(tmp_path / "tables"), str(batches)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[:3] for line in lines] == [
        [table, rows, unchanged]
        for table in ("partitioned", "whole")
        for rows, unchanged in (("8000", "False"), ("240000", "False"), ("240000", "True"))
    ]
    assert max(int(line[3]) for line in lines) < 160, done.stdout


FULL = """
import resource, signal, sys
import pyarrow as pa
from ol_core.tables import RawTableIOManager

folder = sys.argv[1]
tables = RawTableIOManager(kind="sql", uri=f"sqlite:///{folder}/catalog.db", warehouse=folder, writable=True)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
tables.replace("t", pa.table({"n": list(range(200_000))}))
"""


def test_a_full_disk_leaves_the_table_as_it_was(tmp_path: Path) -> None:
    root = tmp_path / "tables"
    tables = RawTableIOManager(kind="sql", uri=f"sqlite:///{root}/catalog.db", warehouse=str(root), writable=True)
    before = tables.replace("t", pa.table({"n": [1, 2]}))

    command = [sys.executable, "-c", FULL, str(root), "5000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "TransientFailure: t: cannot keep rows in " in done.stderr.splitlines()[-1]
    assert tables.read("t")["n"].to_pylist() == [1, 2]
    assert tables.snapshots() == {"t": before.version}


@pytest.fixture
def server(seaweedfs_server: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> SeaweedFS:
    for variable, value in seaweedfs_server.aws_variables.items():
        monkeypatch.setenv(variable, value)
    return seaweedfs_server


def test_a_commit_whose_answer_is_lost_is_made_once(server: SeaweedFS, tmp_path: Path, name: str) -> None:
    with fault_proxy(server.iceberg_url) as proxy:
        tables = rest(server, proxy.url, tmp_path)
        tables.ensure(name, SCHEMA)
        proxy.inject(Fault("drop_answer", "POST", f"/{name}"))
        commit = tables.replace_partitions(name, SCHEMA, ["a"], [rows("a", 1, 2)])
        committed = [method for method, target in proxy.requests if method == "POST" and target.endswith(f"/{name}")]

        assert proxy.injected
    direct = rest(server, server.iceberg_url, tmp_path)
    assert held(direct, name) == {"a": [1, 2]}
    assert (commit.total_rows, commit.version, len(committed)) == (2, direct.snapshots()[name], 1)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", "PUT", "/data/", status=500, times=1000),
        Fault("drop_request", "PUT", "/data/", after_bytes=100, times=1000),
        Fault("status", "PUT", "/metadata/", status=503, times=1000),
    ],
    ids=["data 500", "data cut", "manifest 503"],
)
def test_a_store_that_fails_leaves_the_table_as_it_was(
    server: SeaweedFS, tmp_path: Path, name: str, fault: Fault
) -> None:
    with fault_proxy(server.s3_url) as proxy:
        tables = rest(server, server.iceberg_url, tmp_path, s3_url=proxy.url)
        before = tables.replace_partitions(name, SCHEMA, ["a"], [rows("a", 1, 2)])
        proxy.inject(fault)

        with pytest.raises(TransientFailure, match=name):
            tables.replace_partitions(name, SCHEMA, ["a"], [rows("a", 3)])

        assert proxy.injected
        proxy.inject()
        assert (held(tables, name), tables.snapshots()[name]) == ({"a": [1, 2]}, before.version)
        assert tables.replace_partitions(name, SCHEMA, ["a"], [rows("a", 3)]).total_rows == 1


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_catalog_that_fails_is_transient(server: SeaweedFS, tmp_path: Path, name: str, status: int) -> None:
    with fault_proxy(server.iceberg_url) as proxy:
        tables = rest(server, proxy.url, tmp_path)
        proxy.inject(Fault("status", contains=name, status=status, body=b"{}", times=1000))

        with pytest.raises(TransientFailure, match=f"{name} in the rest catalog"):
            tables.ensure(name, SCHEMA)


def test_a_catalog_that_refuses_or_is_away_says_so(server: SeaweedFS, tmp_path: Path, name: str) -> None:
    refused = rest(server, server.iceberg_url, tmp_path)
    (tmp_path / "secrets.toml").write_text('[catalog]\ncredential = "nobody:canary-9"\n')
    with pytest.raises(PermanentFailure, match="check the catalog's credential") as caught:
        refused.ensure(name, SCHEMA)
    assert "canary-9" not in str(caught.value)

    away = rest(server, f"http://127.0.0.1:{free_ports(1)[0]}", tmp_path)
    with pytest.raises(TransientFailure, match="what it held is as it was"):
        away.ensure(name, SCHEMA)


def test_glue_is_given_what_the_environment_states(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyiceberg.catalog import glue

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of the process")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the process")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    environment = development(data_dir=Path("unused"), campus_url="http://127.0.0.1")
    stated = GlueCatalog(kind="glue", region="eu-central-1", warehouse="s3://lake/raw", writable=True)
    tables = RawTableIOManager.of(environment.model_copy(update={"tables": stated}))

    with tables._catalog("nothing yet") as catalog:
        assert isinstance(catalog, glue.GlueCatalog)
        assert catalog.glue.meta.region_name == "eu-central-1"
        assert dict(catalog.properties) == {
            "type": "glue",
            "warehouse": "s3://lake/raw",
            "glue.region": "eu-central-1",
            "s3.region": "eu-central-1",
        }


def test_glue_is_configured_and_asks_nothing_before_its_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    tables = RawTableIOManager(kind="glue", warehouse="s3://lake", region="us-east-1", writable=True)

    with pytest.raises(PermanentFailure, match=r"in the glue catalog s3://lake.*give the process an AWS role"):
        tables.snapshots()
