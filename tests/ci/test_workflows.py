"""The workflows are valid, harmless, and run nothing but steps that a developer can run."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RUN = ROOT / ".ci" / "run"
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
workflows = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def read(path: Path) -> Mapping[str, Any]:
    """Return a workflow; GitHub's `on` is YAML 1.1's true."""
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(workflow, dict)
    return {str(key): value for key, value in workflow.items()}


def steps(path: Path) -> Iterator[Mapping[str, Any]]:
    for job in read(path)["jobs"].values():
        yield from job.get("steps", [])


@pytest.fixture(scope="module")
def known_steps() -> set[str]:
    """The steps that `.ci/run` names when it is asked for one that does not exist."""
    done = subprocess.run(["bash", str(RUN), "no-such-step"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    return set(done.stderr.partition("steps are: ")[2].split())


def test_there_are_workflows() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "nightly.yml", "package.yml"]


@workflows
def test_every_command_is_a_step_of_ci_run(path: Path, known_steps: set[str]) -> None:
    commands = [step["run"] for step in steps(path) if "run" in step and ".ci/" in step["run"]]
    assert commands
    named = {name for command in commands for name in re.findall(r"\.ci/run ([\w-]+)", command)}
    assert named <= known_steps


@workflows
def test_a_workflow_may_only_read_and_ends(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        assert ("timeout-minutes" in job) != ("uses" in job)


@workflows
def test_actions_have_a_major_version_and_checkouts_keep_no_token(path: Path) -> None:
    used = [step for step in steps(path) if "uses" in step]
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"]) for step in used)
    checkouts = [step for step in used if step["uses"].startswith("actions/checkout@")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@workflows
def test_what_comes_from_outside_reaches_no_shell(path: Path) -> None:
    commands = [step["run"] for step in steps(path) if "run" in step]
    assert not [command for command in commands if re.search(r"\$\{\{[^}]*\b(github|inputs|matrix)\.", command)]


@workflows
def test_jobs_call_workflows_with_the_inputs_they_declare(path: Path) -> None:
    for job in read(path)["jobs"].values():
        if "uses" in job:
            called = read(ROOT / job["uses"])
            assert set(job["with"]) == set(called["True"]["workflow_call"]["inputs"])


def test_one_job_waits_for_all_others() -> None:
    jobs = read(ROOT / ".github/workflows/ci.yml")["jobs"]
    assert set(jobs["done"]["needs"]) == set(jobs) - {"done"}


def test_the_header_of_ci_run_documents_every_step(known_steps: set[str]) -> None:
    header = RUN.read_text(encoding="utf-8").partition("\nset -euo")[0]
    documented = set(re.findall(r"^#   ([a-z]+)  +\S", header, re.MULTILINE))
    assert documented | {"matrix"} == known_steps
