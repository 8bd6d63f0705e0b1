"""No writer reaches what its environment does not declare writable: every environment's name against every writer."""

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

import dagster as dg
import pyarrow as pa
import pytest
from ol_core.environment import Environment, EnvironmentName, InvalidEnvironment, development, load_environment
from ol_core.failures import PermanentFailure
from ol_core.learn import learn_api
from ol_core.objects import object_store
from ol_core.tables import RawTableIOManager
from ol_lakehouse.assets import build_warehouse_assets
from ol_lakehouse.project import project_directory, read_manifest

DEPLOYMENTS = Path(__file__).parents[2] / "deployments"
NAMES = get_args(EnvironmentName)
ROWS = pa.table({"course_id": ["a"]})
KEY = dg.AssetKey("key")

Write = Callable[[Environment], object]


def handled(manager: dg.ConfigurableIOManager, value: object) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        manager.handle_output(dg.build_output_context(asset_key=KEY, instance=instance), value)


def built(environment: Environment) -> None:
    manifest = read_manifest(project_directory(), adapter_type=environment.engine.kind)
    warehouse = build_warehouse_assets(manifest=manifest, data_dir=Path("nowhere"), engine=environment.engine)
    resources = {"dbt": object(), "secrets": object()}
    list(warehouse(dg.build_asset_context(resources=resources)))  # type: ignore[call-overload]  # Dagster's own way


WRITERS: Mapping[str, tuple[str, Write]] = {
    "a file": ("objects", lambda one: object_store(one).put(Path(__file__), key="a/v", version="v")),
    "a file by its checksum": (
        "objects",
        lambda one: object_store(one).put_by_checksum(Path(__file__), asset_key=KEY, partition=None),
    ),
    "a file in quarantine": (
        "objects",
        lambda one: object_store(one).quarantine(
            Path(__file__), asset_key=KEY, partition="a", error=PermanentFailure("")
        ),
    ),
    "a file of an asset": ("objects", lambda one: handled(object_store(one), Path(__file__))),
    "a table": ("tables", lambda one: RawTableIOManager.of(one).replace("t", ROWS)),
    "partitions": (
        "tables",
        lambda one: RawTableIOManager.of(one).replace_partitions("t", ROWS.schema, ["a"], [ROWS]),
    ),
    "an empty table": ("tables", lambda one: RawTableIOManager.of(one).ensure("t", ROWS.schema)),
    "a table of an asset": ("tables", lambda one: handled(RawTableIOManager.of(one), ROWS)),
    "upkeep": ("tables", lambda one: list(RawTableIOManager.of(one).keep_up())),
    "models": ("engine", built),
    "webhooks": ("learn", lambda one: learn_api(one).client()),
}


def read_only(name: str, folder: Path) -> Environment:
    """Return an environment that declares nothing writable."""
    if name == "dev":
        stated = development(data_dir=folder, campus_url="http://127.0.0.1:1").model_dump(mode="json")
    else:
        stated = tomllib.loads((DEPLOYMENTS / name / "environment.toml").read_text())
    for section in stated.values():
        if isinstance(section, dict) and "writable" in section:
            section["writable"] = False
    return Environment.model_validate(stated)


@pytest.mark.usefixtures("socket_disabled")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("writer", WRITERS)
def test_a_target_that_is_not_declared_writable_is_refused(name: str, writer: str, tmp_path: Path) -> None:
    environment = read_only(name, tmp_path / "data")

    with pytest.raises(PermanentFailure, match=r"does not declare .*writable"):
        WRITERS[writer][1](environment)

    assert not (tmp_path / "data").exists()


def test_every_writable_section_has_a_writer_here() -> None:
    stated = development(data_dir=Path("data"), campus_url="http://127.0.0.1:1").model_dump()
    writable = {key for key, section in stated.items() if isinstance(section, dict) and "writable" in section}

    assert writable - {"superset"} == {section for section, _ in WRITERS.values()}


@pytest.mark.parametrize("name", ["prod", "", "Production", "staging"])
def test_a_wrong_environment_gives_no_writer_at_all(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_ENV", name)
    monkeypatch.delenv("OL_ENVIRONMENT_FILE", raising=False)
    with pytest.raises(InvalidEnvironment, match="valid: dev, ci, qa, production"):
        load_environment()

    monkeypatch.setenv("OL_ENVIRONMENT_FILE", str(DEPLOYMENTS / "production" / "environment.toml"))
    with pytest.raises(InvalidEnvironment, match="valid: dev, ci, qa, production"):
        load_environment()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("of", [path.name for path in sorted(DEPLOYMENTS.iterdir())])
def test_the_file_of_one_environment_serves_no_other(name: str, of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_ENV", name)
    monkeypatch.setenv("OL_ENVIRONMENT_FILE", str(DEPLOYMENTS / of / "environment.toml"))
    if name == of:
        assert load_environment().name == name
        return
    with pytest.raises(InvalidEnvironment, match=f"the file is for {of!r} but DAGSTER_ENV is {name!r}"):
        load_environment()


def test_a_declared_target_is_written(tmp_path: Path) -> None:
    environment = development(data_dir=tmp_path, campus_url="http://127.0.0.1:1")
    stored = object_store(environment).put(Path(__file__), key="a/v", version="v")
    RawTableIOManager.of(environment).replace("t", ROWS)

    assert stored.path.startswith(str(tmp_path))
    assert RawTableIOManager.of(environment).read("t").num_rows == 1
