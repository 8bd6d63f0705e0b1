import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

LOCATION = """
import socket
import dagster as dg

@dg.asset
def one() -> None: ...

@dg.definitions
def good() -> dg.Definitions:
    return dg.Definitions(assets=[one])

@dg.definitions
def empty() -> dg.Definitions:
    return dg.Definitions()

@dg.definitions
def online() -> dg.Definitions:
    socket.create_connection(("127.0.0.1", 9))
    return dg.Definitions(assets=[one])

@dg.definitions
def invalid() -> dg.Definitions:
    @dg.asset(required_resource_keys={"absent"})
    def two() -> None: ...
    return dg.Definitions(assets=[two])
"""


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    """A folder on the path with a distribution that brings one code location a kind of trouble."""
    (tmp_path / "some_location.py").write_text(LOCATION)
    info = tmp_path / "ol_some-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ol-some\nVersion: 0.1.0\n")
    names = ("good", "empty", "online", "invalid")
    lines = [f"{name}_location = some_location:{name}" for name in names]
    commands = ["[ol_data_platform.commands]", "broken_verb = no_such_module:command"]
    commands += ["no_verb = some_location:LOCATION", "pools = some_location:good"]
    (info / "entry_points.txt").write_text("\n".join(["[ol_data_platform.code_locations]", *lines, *commands]) + "\n")
    return tmp_path


def ol(plugins: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = "import sys; from ol_core.cli import main; main(prog_name='ol')"
    environment = {"PYTHONPATH": str(plugins), "PATH": os.environ["PATH"], "HOME": str(plugins)}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_locations_are_listed_without_importing_dagster(plugins: Path) -> None:
    script = (
        "import sys; from ol_core.cli import main; main(['locations', '--json'], standalone_mode=False); "
        "assert 'dagster' not in sys.modules and 'some_location' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": str(plugins)}, capture_output=True, text=True, check=True
    )

    found = {one["name"]: one for one in json.loads(done.stdout)}
    assert found["good_location"] == {
        "name": "good_location",
        "distribution": "ol-some",
        "version": "0.1.0",
        "entry": "some_location:good",
    }


def test_workspace_has_one_process_a_location(plugins: Path) -> None:
    done = ol(plugins, "workspace", "good_location", "empty_location")

    modules = [entry["python_module"] for entry in yaml.safe_load(done.stdout)["load_from"]]
    assert [(one["location_name"], one["module_name"], one["attribute"]) for one in modules] == [
        ("empty_location", "some_location", "empty"),
        ("good_location", "some_location", "good"),
    ]


@pytest.mark.parametrize(
    ("verb", "reason"),
    [
        ("no_verb", "`ol no_verb` of ol-some cannot be loaded: AttributeError"),
        ("pools", "`ol pools` is brought by ol-core and by ol-some; uninstall one"),
    ],
)
def test_a_verb_that_cannot_be_told_or_used_is_refused(plugins: Path, verb: str, reason: str) -> None:
    done = ol(plugins, verb)

    assert done.returncode == 1
    assert reason in done.stderr


def test_check_counts_what_it_checked(plugins: Path) -> None:
    done = ol(plugins, "check", "good_location")

    assert done.returncode == 0, done.stderr
    assert "good_location: ok, 1 assets" in done.stdout


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty_location", "holds no asset, so nothing was checked"),
        ("online_location", "uses the network while loading"),
        ("invalid_location", "absent"),
    ],
)
def test_check_fails_and_says_why(plugins: Path, name: str, reason: str) -> None:
    done = ol(plugins, "check", name, "good_location")

    assert done.returncode == 1
    assert f"{name}: FAILED" in done.stdout
    assert "good_location: ok" in done.stdout
    assert reason in done.stderr


def test_check_of_an_unknown_name_is_an_error(plugins: Path) -> None:
    done = ol(plugins, "check", "nonesuch")

    assert done.returncode == 1
    assert "no code location is called nonesuch; installed are" in done.stderr


def test_a_broken_verb_names_its_package_and_spares_the_others(plugins: Path) -> None:
    assert ol(plugins, "locations").returncode == 0

    done = ol(plugins, "broken_verb")

    assert done.returncode == 1
    assert "`ol broken_verb` of ol-some cannot be loaded: ModuleNotFoundError" in done.stderr
