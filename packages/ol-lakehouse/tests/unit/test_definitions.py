"""What Dagster is shown, and that loading it asks nothing of the world."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from ol_core.environment import DuckDbEngine, SecretRef, TrinoEngine
from ol_core.failures import PermanentFailure
from ol_core.secrets import LocalSecrets
from ol_lakehouse.assets import DbtAutomationTranslator, build_warehouse_assets, connection_variables
from ol_lakehouse.definitions import defs
from ol_lakehouse.project import project_directory, read_manifest

MANIFEST = read_manifest(project_directory(), adapter_type="duckdb")


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return defs()


def test_definitions_are_loadable(definitions: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(definitions)


def test_every_asset_has_group_owner_kinds_description_and_documented_columns(definitions: dg.Definitions) -> None:
    specs = [
        spec
        for spec in definitions.resolve_all_asset_specs()
        if spec.group_name not in {"default", "lakehouse", "alerts"}
    ]
    assert len(specs) == len([node for node in MANIFEST["nodes"].values() if node["resource_type"] == "model"])
    for spec in specs:
        assert len(spec.key.path) == 2
        assert spec.group_name == spec.key.path[0]
        assert spec.group_name in {"staging", "dimensional", "mart"}
        assert spec.owners == ["team:data-platform"]
        assert spec.kinds == {"dbt", "duckdb"}
        assert (spec.description or "").strip()
        assert spec.code_version
        columns = spec.metadata["dagster/column_schema"].columns
        assert [column.name for column in columns if not column.description or column.type == "?"] == []


def test_edges_reach_the_raw_tables_of_every_deployment(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    blocks = graph.get(dg.AssetKey(["staging", "stg__openedx__course_blocks"]))
    assert blocks.parent_keys == {
        dg.AssetKey(["ol_warehouse_raw_data", f"raw__{deployment}__openedx__course_blocks"])
        for deployment in ("mitx", "mitxonline", "xpro")
    }
    catalog = graph.get(dg.AssetKey(["mart", "marts__course_catalog"]))
    assert dg.AssetKey(["dimensional", "dim_course_content"]) in catalog.parent_keys


def test_every_test_of_the_project_is_an_asset_check(definitions: dg.Definitions) -> None:
    tests = {node["name"] for node in MANIFEST["nodes"].values() if node["resource_type"] == "test"}
    keys = definitions.resolve_asset_graph().asset_check_keys
    assert {key.name for key in keys if key.asset_key.path[0] not in {"lakehouse", "alerts"}} == tests
    (described,) = [
        spec
        for spec in definitions.resolve_assets_def(dg.AssetKey(["mart", "marts__course_catalog"])).check_specs
        if spec.name == "course_catalog_loses_no_item"
    ]
    assert "all the rows that raw holds" in (described.description or "")
    assert described.blocking


def test_code_versions_follow_the_sql_and_the_macros() -> None:
    node = MANIFEST["nodes"]["model.ol_dbt.stg__openedx__course_runs"]
    version = DbtAutomationTranslator(MANIFEST["macros"]).get_code_version(node)
    other_macros = {name: {"macro_sql": macro["macro_sql"] + " "} for name, macro in MANIFEST["macros"].items()}
    versions = {
        version,
        DbtAutomationTranslator(other_macros).get_code_version(node),
        DbtAutomationTranslator(MANIFEST["macros"]).get_code_version(node | {"raw_code": "select 1"}),
    }
    assert len(versions) == 3
    assert DbtAutomationTranslator(MANIFEST["macros"]).get_code_version(node) == version


def test_an_engine_that_is_not_writable_is_refused(tmp_path: Path) -> None:
    engine = DuckDbEngine(kind="duckdb", writable=False)
    assets = build_warehouse_assets(manifest=MANIFEST, data_dir=tmp_path, engine=engine)
    with pytest.raises(PermanentFailure, match=r"engine \(duckdb\).*writable = true.*environment\.toml"):
        dg.materialize([assets], resources=defs().resources)
    assert list(tmp_path.iterdir()) == []


TRINO = TrinoEngine(
    kind="trino",
    host="trino.invalid",
    port=443,
    catalog="lake",
    schema_base="qa",
    user="dagster",
    password=SecretRef(path="trino", key="password"),
    writable=True,
)


def test_dbt_is_told_the_engine_of_the_environment_while_it_runs_and_no_longer(tmp_path: Path) -> None:
    file = tmp_path / "secrets.toml"
    file.write_text('[trino]\npassword = "open sesame"\n')
    with connection_variables(TRINO, LocalSecrets(file=str(file))):
        assert os.environ["OL_TRINO_CATALOG"] == "lake"
        assert os.environ["DBT_ENV_SECRET_TRINO_PASSWORD"] == "open sesame"
    assert not [name for name in os.environ if "TRINO" in name]


def test_a_variable_that_names_another_engine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OL_TRINO_HOST", "trino-production.invalid")
    with (
        pytest.raises(PermanentFailure, match=r"OL_TRINO_HOST is 'trino-production.invalid' but .* 'trino.invalid'"),
        connection_variables(TRINO, LocalSecrets(file="none")),
    ):
        pass


LOAD = """
import socket, sys
def refuse(*args, **kwargs):
    raise OSError("loading must not open sockets")
socket.socket.connect = socket.getaddrinfo = refuse
import subprocess
subprocess.Popen = refuse
from ol_lakehouse.definitions import defs
import dagster as dg
dg.Definitions.validate_loadable(defs())
print(len(defs().resolve_asset_graph().materializable_asset_keys))
"""


def test_loading_needs_no_network_no_process_no_environment_and_writes_nothing(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", LOAD], env={}, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert finished.stdout.strip() == "19"
    assert list(tmp_path.iterdir()) == []


def test_commands_and_the_version_of_ol_dbt_import_neither_dagster_nor_dbt() -> None:
    code = (
        "import sys, ol_lakehouse.commands, ol_lakehouse.dbt_command as d; sys.argv[1:] = ['--version']; d.main(); "
        "print([m for m in ('dagster', 'dbt.cli', 'duckdb') if m in sys.modules])"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], env=dict(os.environ), capture_output=True, text=True, check=True
    )
    assert finished.stdout.splitlines()[0].startswith("dbt-core 1.")
    assert finished.stdout.splitlines()[1] == "[]"


def test_the_raw_tables_are_maintained_once_a_night(definitions: dg.Definitions) -> None:
    (spec,) = [one for one in definitions.resolve_all_asset_specs() if one.group_name == "lakehouse"]
    (schedule,) = definitions.schedules or []

    assert isinstance(schedule, dg.ScheduleDefinition)
    assert (spec.key.to_user_string(), spec.owners, spec.kinds) == (
        "lakehouse/raw_table_maintenance",
        ["team:data-platform"],
        {"iceberg"},
    )
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 3 * * *", "UTC")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    assert definitions.resolve_job_def(schedule.job_name).asset_layer.selected_asset_keys == {spec.key}
