"""Raw tables with real catalogs: SQLite, and the REST catalog of SeaweedFS; many writers, some of them killed."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from ol_core.environment import RAW_NAMESPACE
from ol_core.failures import PermanentFailure, TransientFailure
from ol_core.secrets import LocalSecrets
from ol_core.tables import RawTableIOManager, TablePolicy
from ol_devkit.servers.faults import Fault, fault_proxy
from ol_devkit.servers.process import free_ports
from ol_devkit.servers.seaweedfs import SeaweedFS

SCHEMA = pa.schema([pa.field("course_id", pa.string(), nullable=False), ("n", pa.int64()), ("writer", pa.string())])
PROCESSES, COMMITS = 8, 25


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


def rest(server: SeaweedFS, url: str, folder: Path) -> RawTableIOManager:
    file = folder / "secrets.toml"
    file.write_text(f'[catalog]\ncredential = "{server.access_key}:{server.secret_key}"\n')
    file.chmod(0o600)
    return RawTableIOManager(
        kind="rest",
        uri=url,
        warehouse=server.warehouse,
        credential="catalog#credential",
        oauth2_server_uri=f"{url}/v1/oauth/tokens",
        s3_endpoint_url=server.s3_url,
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
    assert tables.snapshots()[name] == str(commit.snapshot_id)


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


WRITER = """
import sys
import pyarrow as pa
from ol_core.secrets import LocalSecrets
from ol_core.tables import RawTableIOManager

number, commits, name, same = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4] == "same"
tables = RawTableIOManager({stated})
schema = pa.schema([pa.field("course_id", pa.string(), nullable=False), ("n", pa.int64()), ("writer", pa.string())])
for turn in range(commits):
    course = "shared" if same else f"course-{{number}}-{{turn % 5}}"
    content = [{{"course_id": course, "n": n, "writer": f"{{number}}/{{turn}}"}} for n in range(10)]
    print("turn", flush=True)
    tables.replace_partitions(name, schema, [course], [pa.Table.from_pylist(content, schema=schema)])
"""


@pytest.fixture
def writer(tables: RawTableIOManager, tmp_path: Path) -> Callable[..., "subprocess.Popen[bytes]"]:
    stated = {field: getattr(tables, field) for field in ("kind", "uri", "warehouse", "writable")}
    code = ", ".join(f"{field}={value!r}" for field, value in stated.items())
    if tables.kind == "rest":
        others = ("credential", "oauth2_server_uri", "s3_endpoint_url", "region")
        code += ", " + ", ".join(f"{field}={getattr(tables, field)!r}" for field in others)
        code += f", secrets=LocalSecrets(file={str(tmp_path / 'secrets.toml')!r})"

    def start(number: int, commits: int, name: str, kind: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", WRITER.format(stated=code), str(number), str(commits), name, kind]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ})

    return start


@pytest.mark.timeout(600)
def test_many_writers_of_different_partitions_lose_nothing(
    tables: RawTableIOManager, writer: Callable[..., "subprocess.Popen[bytes]"], name: str
) -> None:
    tables.ensure(name, SCHEMA)
    processes = [writer(number, COMMITS, name, "different") for number in range(PROCESSES)]
    for process in processes:
        _, said = process.communicate()
        assert process.returncode == 0, said.decode()[-3000:]

    found = tables.read(name).to_pylist()
    newest = {
        f"course-{number}-{turn % 5}": f"{number}/{turn}" for number in range(PROCESSES) for turn in range(COMMITS)
    }
    assert len(found) == len(newest) * 10
    assert {(row["course_id"], row["writer"]) for row in found} == set(newest.items())


@pytest.mark.timeout(300)
def test_of_many_writers_of_one_partition_one_wins_whole(
    tables: RawTableIOManager, writer: Callable[..., "subprocess.Popen[bytes]"], name: str
) -> None:
    tables.ensure(name, SCHEMA)
    processes = [writer(number, 5, name, "same") for number in range(4)]
    for process in processes:
        _, said = process.communicate()
        assert process.returncode == 0, said.decode()[-3000:]

    found = tables.read(name).to_pylist()
    assert sorted(row["n"] for row in found) == list(range(10))
    (winner,) = {row["writer"] for row in found}
    assert winner.endswith("/4")


@pytest.mark.timeout(300)
def test_a_writer_killed_at_any_moment_leaves_the_table_whole(
    tables: RawTableIOManager, writer: Callable[..., "subprocess.Popen[bytes]"], name: str
) -> None:
    tables.ensure(name, SCHEMA)
    for moment in [random.Random(number).uniform(0.0, 0.6) for number in range(5)]:
        with writer(1, 100, name, "same") as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(moment)
            process.send_signal(signal.SIGKILL)
        found = tables.read(name).to_pylist()
        assert sorted(row["n"] for row in found) in ([], list(range(10)))
        assert len({row["writer"] for row in found}) <= 1

    assert tables.replace_partitions(name, SCHEMA, ["shared"], [rows("shared", 1)]).total_rows == 1


def test_upkeep_follows_the_policy_and_loses_nothing(tables: RawTableIOManager, name: str) -> None:
    policy = TablePolicy(snapshots_kept=2, snapshot_age_hours=0, compact_above_files=1, orphan_age_hours=0)
    for number in range(6):
        tables.replace_partitions(name, SCHEMA, ["a"], [rows("a", number)], policy)
    tables.replace_partitions(name, SCHEMA, ["b"], [rows("b", 7)], policy)

    (done,) = [one for one in tables.keep_up() if one.table == name]

    assert done.error == ""
    assert done.expired > 0
    assert done.removed >= 5
    assert done.snapshots == 2
    assert done.files == 2
    assert held(tables, name) == {"a": [5], "b": [7]}
    again = next(one for one in tables.keep_up() if one.table == name)
    assert (again.expired, again.compacted, again.error) == (0, 0, "")


def test_partitions_of_many_files_are_compacted(tables: RawTableIOManager, name: str) -> None:
    policy = TablePolicy(snapshots_kept=1, snapshot_age_hours=0, compact_above_files=1, orphan_age_hours=0)
    tables.ensure(name, SCHEMA, policy)
    with tables._catalog(name) as catalog:
        for number in range(4):
            catalog.load_table((RAW_NAMESPACE, name)).append(rows("a", number))

    done = next(one for one in tables.keep_up() if one.table == name)

    assert (done.compacted, done.files, done.error) == (1, 1, "")
    assert held(tables, name) == {"a": [0, 1, 2, 3]}


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

        assert proxy.injected
    assert held(tables_without(proxy.url, server, tmp_path), name) == {"a": [1, 2]}
    assert commit.total_rows == 2


def tables_without(_: str, server: SeaweedFS, folder: Path) -> RawTableIOManager:
    return rest(server, server.iceberg_url, folder)


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


def test_glue_is_configured_and_asks_nothing_before_its_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    tables = RawTableIOManager(kind="glue", warehouse="s3://lake", region="us-east-1", writable=True)

    with pytest.raises(PermanentFailure, match=r"in the glue catalog s3://lake.*give the process an AWS role"):
        tables.snapshots()
