"""What every installed code location must hold, whoever wrote it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from ol_core.code_locations import CodeLocation, installed, load
from ol_core.environment import RAW_NAMESPACE

SNAPSHOTS = Path(__file__).with_name("snapshots")
DEPLOYMENTS = sorted((Path(__file__).parents[2] / "deployments").iterdir())
LOCATIONS = installed()
PREFIXES = {
    "canvas": {"canvas", RAW_NAMESPACE},
    "openedx": {"mitx", "mitxonline", "xpro", RAW_NAMESPACE},
    "lakehouse": {"lakehouse", "staging", "dimensional", "mart"},
}


@pytest.fixture(scope="module", params=LOCATIONS, ids=lambda location: location.name)
def location(request: pytest.FixtureRequest) -> CodeLocation:
    assert isinstance(request.param, CodeLocation)
    return request.param


@pytest.fixture(scope="module")
def definitions(location: CodeLocation) -> dg.Definitions:
    return load([location])[location.name]


@pytest.fixture(scope="module")
def specs(definitions: dg.Definitions) -> list[dg.AssetSpec]:
    made = definitions.resolve_asset_graph().materializable_asset_keys
    found = (spec for spec in definitions.resolve_all_asset_specs() if spec.key in made)
    return sorted(found, key=lambda spec: spec.key)


def test_the_three_domains_are_installed() -> None:
    assert [one.name for one in LOCATIONS] == ["canvas", "lakehouse", "openedx"]


def test_it_loads_alone_with_no_network_and_an_empty_environment(location: CodeLocation, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ol_core.check", location.name]
    done = subprocess.run(command, env={}, cwd=tmp_path, capture_output=True, text=True, check=True)

    result = json.loads(done.stdout.splitlines()[-1])
    assert result["error"] is None
    assert result["counts"]["assets"] > 0
    assert list(tmp_path.iterdir()) == []


def test_it_serves_as_a_module_of_its_own(location: CodeLocation) -> None:
    module, attribute = location.entry.split(":")

    assert (module, attribute) == (f"ol_{location.name}.definitions", "defs")


def test_loading_imports_nothing_heavy(location: CodeLocation) -> None:
    heavy = ["dagster_aws", "pyarrow", "pyiceberg", "pandas", "polars", "boto3", "ol_devkit", "duckdb"]
    script = (
        "import sys, warnings; warnings.simplefilter('ignore'); from ol_core.code_locations import installed, load; "
        f"load(installed([{location.name!r}])); print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_every_key_stands_under_its_prefix(location: CodeLocation, specs: list[dg.AssetSpec]) -> None:
    assert {spec.key.path[0] for spec in specs} == PREFIXES[location.name]


def test_every_asset_says_what_it_is(specs: list[dg.AssetSpec]) -> None:
    lacking = [
        (spec.key.to_user_string(), what)
        for spec in specs
        for what, value in {
            "group": spec.group_name if spec.group_name != "default" else None,
            "owner": spec.owners,
            "kind": spec.kinds,
            "description": spec.description,
        }.items()
        if not value
    ]

    assert lacking == []


def test_every_job_and_sensor_says_what_it_does(definitions: dg.Definitions) -> None:
    sensors = list(definitions.sensors or [])

    assert sensors
    assert [sensor.name for sensor in sensors if not sensor.description] == []


def test_every_field_of_a_resource_is_described(definitions: dg.Definitions) -> None:
    ours = {
        key: resource
        for key, resource in (definitions.resources or {}).items()
        if type(resource).__module__.startswith("ol_")
    }
    lacking = [
        f"{key}.{name}"
        for key, resource in ours.items()
        for name, field in type(resource).model_fields.items()
        if not field.description and name != "secrets"
    ]

    assert ours
    assert lacking == []


def test_its_assets_are_those_of_the_snapshot(
    location: CodeLocation, specs: list[dg.AssetSpec], request: pytest.FixtureRequest
) -> None:
    file = SNAPSHOTS / f"{location.name}.json"
    found = {spec.key.to_user_string(): _described(spec) for spec in specs}
    if request.config.getoption("--update-snapshots"):
        file.write_text(json.dumps(found, indent=1) + "\n")

    assert found == json.loads(file.read_text()), "if this is meant: pytest tests/conformance --update-snapshots"


def _described(spec: dg.AssetSpec) -> dict[str, Any]:
    partitions = spec.partitions_def
    return {
        "deps": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
        "group": spec.group_name,
        "kinds": sorted(spec.kinds),
        "owners": list(spec.owners),
        "partitions": partitions.name if isinstance(partitions, dg.DynamicPartitionsDefinition) else None,
    }


def test_the_lineage_has_no_missing_edge_across_locations() -> None:
    graphs = {name: loaded.resolve_asset_graph() for name, loaded in load(LOCATIONS).items()}
    made = {key for graph in graphs.values() for key in graph.materializable_asset_keys}
    read = {key for graph in graphs.values() for key in graph.external_asset_keys if graph.get(key).child_keys}
    raw = {key for key in made if key.path[0] == RAW_NAMESPACE}

    assert read - made == set()
    assert raw - read == set(), "a raw table that no model reads"


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda folder: folder.name)
def test_every_deployment_loads_every_location(deployment: Path, tmp_path: Path) -> None:
    environment = {"DAGSTER_ENV": deployment.name, "OL_ENVIRONMENT_FILE": str(deployment / "environment.toml")}
    command = [sys.executable, "-m", "ol_core.cli", "check", "--json"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    results = json.loads(done.stdout)
    assert [(one["name"], one["error"]) for one in results] == [(one.name, None) for one in LOCATIONS]
