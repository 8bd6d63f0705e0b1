"""What is checked in installed environments: licences, and packages outside the repository."""

import subprocess
import sys
from pathlib import Path

import pytest

CI = Path(__file__).parents[2] / ".ci"
GPL = "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"


def install(site: Path, name: str, *fields: str, entry_points: str = "", **modules: str) -> None:
    """Put a distribution with a package of modules into a folder of installed ones."""
    information = site / f"{name.replace('-', '_')}-0.1.0.dist-info"
    information.mkdir(parents=True)
    metadata = ["Metadata-Version: 2.4", f"Name: {name}", "Version: 0.1.0", *fields, ""]
    (information / "METADATA").write_text("\n".join(metadata), encoding="utf-8")
    (information / "entry_points.txt").write_text(entry_points, encoding="utf-8")
    package = site / name.replace("-", "_")
    package.mkdir()
    for module, text in {"__init__": "", **modules}.items():
        (package / f"{module}.py").write_text(text, encoding="utf-8")


def run(script: str, *arguments: str, site: Path, isolated: bool = False) -> subprocess.CompletedProcess[str]:
    options = ["-S"] if isolated else []
    command = [sys.executable, *options, str(CI / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(site)})


@pytest.mark.parametrize(
    "fields",
    [
        ["License-Expression: MIT"],
        ["License-Expression: GPL-2.0-only OR MIT"],
        ["License-Expression: LGPL-3.0-or-later"],
        ["Classifier: License :: OSI Approved :: GNU Lesser General Public License v3 (LGPLv3)"],
        ["Classifier: License :: OSI Approved :: MIT License", "License: see GPL.txt"],
        ["License: BSD", "        compatible with the GPL"],
        [],
    ],
)
def test_a_licence_that_leaves_a_choice_is_accepted(tmp_path: Path, fields: list[str]) -> None:
    install(tmp_path, "one", *fields)
    done = run("licences.py", site=tmp_path, isolated=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "fields",
    [
        ["License-Expression: AGPL-3.0-only"],
        ["License-Expression: GPL-2.0-only AND MIT"],
        ["License-Expression: GPL-2.0-only OR AGPL-3.0-only"],
        [f"Classifier: {GPL}"],
        ["License: GNU Affero General Public License"],
    ],
)
def test_copyleft_is_refused_by_name(tmp_path: Path, fields: list[str]) -> None:
    install(tmp_path, "one", *fields)
    install(tmp_path, "two", "License: MIT")
    done = run("licences.py", site=tmp_path, isolated=True)
    assert done.returncode == 1
    assert "  one: " in done.stderr
    assert "two" not in done.stderr


def test_what_metadata_does_not_tell_is_counted(tmp_path: Path) -> None:
    install(tmp_path, "one", "License: MIT")
    install(tmp_path, "two")
    assert "no licence in the metadata of 1: two" in run("licences.py", site=tmp_path, isolated=True).stdout


def test_every_module_is_imported(tmp_path: Path) -> None:
    install(tmp_path, "ol-one", good="", __main__="raise SystemExit(1)")
    assert run("check_wheel.py", "modules", "ol-one", site=tmp_path).returncode == 0
    (tmp_path / "ol_one" / "bad.py").write_text("import not_declared", encoding="utf-8")
    done = run("check_wheel.py", "modules", "ol-one", site=tmp_path)
    assert done.returncode == 1
    assert "No module named 'not_declared'" in done.stderr


def test_a_module_that_uses_the_network_is_refused(tmp_path: Path) -> None:
    install(tmp_path, "ol-one", bad="import socket\nsocket.create_connection(('127.0.0.1', 1))")
    done = run("check_wheel.py", "modules", "ol-one", site=tmp_path)
    assert done.returncode == 1
    assert "uses the network while loading" in done.stderr


def test_extras_are_listed(tmp_path: Path) -> None:
    install(tmp_path, "ol-one", "Provides-Extra: aws", "Provides-Extra: vault")
    assert run("check_wheel.py", "extras", "ol-one", site=tmp_path).stdout == "aws,vault\n"


def test_a_domain_that_brings_an_engine_it_does_not_declare_is_refused(tmp_path: Path) -> None:
    location = "[ol_data_platform.code_locations]\none = ol_one:defs\n"
    install(tmp_path, "ol-one", "Requires-Dist: dbt-core; extra == 'dbt'", entry_points=location)
    done = run("check_wheel.py", "locations", "ol-one", site=tmp_path)
    assert done.returncode == 1
    assert "ol-one brings " in done.stderr
    assert "dbt-core" in done.stderr


def test_a_package_without_code_locations_has_none_to_load(tmp_path: Path) -> None:
    install(tmp_path, "ol-one")
    done = run("check_wheel.py", "locations", "ol-one", site=tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
