"""Raw tables with real catalogs: SQLite, and the REST catalog of SeaweedFS; their upkeep, and faults on the way."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from ol_core.environment import RAW_NAMESPACE, GlueCatalog, development
from ol_core.failures import PermanentFailure, TransientFailure
from ol_core.tables import RawTableIOManager, TablePolicy
from ol_devkit.servers.faults import Fault, fault_proxy
from ol_devkit.servers.process import free_ports
from ol_devkit.servers.seaweedfs import SeaweedFS
from served_catalog import SCHEMA, held, rest, rows


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
        wider = SCHEMA.append(pa.field("title", pa.string()))
        content = rows("a", 3).append_column(wider.field("title"), pa.array(["x"]))

        with pytest.raises(TransientFailure, match=name):
            tables.replace_partitions(name, wider, ["a"], [content])

        assert proxy.injected
        proxy.inject()
        assert (held(tables, name), tables.snapshots()[name]) == ({"a": [1, 2]}, before.version)
        assert tables.read(name).column_names == SCHEMA.names
        assert tables.replace_partitions(name, wider, ["a"], [content]).total_rows == 1
        assert tables.read(name).to_pylist() == content.to_pylist()


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
