"""`.ci/run` in a workspace of its own, with a `uv` that records what it is asked and fails where it is told."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

CI = Path(__file__).parents[2] / ".ci"
UV = """#!/usr/bin/env bash
echo "$*" >>"$LOG"
echo "uv says: $*"
[[ -z "${FAIL-}" || "$*" != *"$FAIL"* ]]
"""


@dataclass(frozen=True, slots=True)
class Workspace:
    """A workspace with two packages."""

    root: Path

    def run(self, *arguments: str, fail: str = "") -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PATH": f"{self.root / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "LOG": str(self.root / "log"),
            "FAIL": fail,
        }
        command = ["bash", str(self.root / ".ci" / "run"), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, stdin=subprocess.DEVNULL
        )

    def asked(self) -> list[str]:
        """What uv was asked, in order."""
        return (self.root / "log").read_text(encoding="utf-8").splitlines()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    shutil.copytree(CI, tmp_path / ".ci")
    for package in ("ol-a", "ol-b"):
        (tmp_path / "packages" / package / "tests").mkdir(parents=True)
        (tmp_path / "packages" / package / "src").mkdir()
    (tmp_path / "README.md").write_text("```\nuv run ol demo\nuv run pytest\n```\n", encoding="utf-8")
    (tmp_path / "bin").mkdir()
    uv = tmp_path / "bin" / "uv"
    uv.write_text(UV, encoding="utf-8")
    uv.chmod(0o755)
    return Workspace(tmp_path)


def summary(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Step -> its result, from the summary at the end."""
    rows = [line.split() for line in done.stdout.partition("=== summary\n")[2].splitlines()]
    return {" ".join(row[:-3]): row[-3] for row in rows}


def test_a_step_that_fails_stops_no_other_and_fails_the_run(workspace: Workspace) -> None:
    done = workspace.run(fail="ruff check")
    assert done.returncode == 1
    results = summary(done)
    assert list(results)[:4] == ["lock", "sync", "format", "lint"]
    assert (results["format"], results["lint"], results["types"]) == ("ok", "FAILED", "ok")
    assert any("lint-imports" in asked for asked in workspace.asked())


def test_the_commands_of_the_readme_run_last_and_all_of_them(workspace: Workspace) -> None:
    done = workspace.run("readme", fail="ol demo")
    assert done.returncode == 1
    assert workspace.asked() == ["run ol demo", "run pytest"]
    assert list(summary(workspace.run()))[-1] == "readme"


def test_a_failure_in_one_package_hides_no_other(workspace: Workspace) -> None:
    done = workspace.run("types", fail="packages/ol-a/tests")
    assert done.returncode == 1
    assert workspace.asked()[-1].endswith("mypy packages/ol-b/tests")


def test_a_step_of_packages_runs_for_each_where_none_is_named(workspace: Workspace) -> None:
    done = workspace.run("package", fail="--package ol-a")
    assert done.returncode == 1
    # No interpreter is there: the fake makes no environment.
    assert summary(done) == {"package ol-a": "FAILED", "package ol-b": "FAILED"}
    assert "sync --quiet --locked --package ol-b --all-extras" in workspace.asked()


def test_a_step_that_fails_halfway_goes_no_further(workspace: Workspace) -> None:
    done = workspace.run("package", "ol-a", fail="sync")
    assert done.returncode == 1
    assert len(workspace.asked()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lnit"], "no step is called lnit; steps are: lock sync format lint"),
        (["wheels", "ol-c"], "no package is called ol-c; packages are: ol-a ol-b"),
    ],
)
def test_a_name_that_is_unknown_is_an_error_that_lists_the_known(
    workspace: Workspace, arguments: list[str], message: str
) -> None:
    done = workspace.run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_servers_are_installed_where_they_are_missing_and_nowhere_else(workspace: Workspace) -> None:
    """The fake records what Debian's package manager is asked."""
    shutil.copy(workspace.root / "bin" / "uv", workspace.root / "bin" / "apt-get")
    done = workspace.run("servers")
    asked = workspace.asked() if (workspace.root / "log").exists() else []
    missing = [] if shutil.which("mariadbd", path="/usr/sbin:/usr/bin") else ["mariadb-server-core"]
    missing += (
        [] if shutil.which("initdb") or list(Path("/usr/lib/postgresql").glob("*/bin/initdb")) else ["postgresql"]
    )

    assert done.returncode == 0
    assert bool(asked) == (bool(missing) and os.geteuid() == 0)
    assert all(package in asked[-1] for package in missing if asked)


def test_nothing_is_left_behind(workspace: Workspace) -> None:
    scratch = workspace.root / "scratch"
    scratch.mkdir()
    environment = {**os.environ, "PATH": f"{workspace.root / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", str(workspace.root / ".ci" / "run"), "lock"]
    subprocess.run(command, check=True, env={**environment, "LOG": os.devnull, "TMPDIR": str(scratch)})
    assert list(scratch.iterdir()) == []
