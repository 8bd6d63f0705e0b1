"""Pools on a real instance: what is declared is what is enforced."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from ol_core.dagster_storage import free_pool_slots, pool_limits, set_pool_limit
from ol_core.environment import Environment, development
from ol_core.orchestration.pools import PoolState, apply_pools, declared_pools, pool_states

POOL_RUNS = """
import json, sys, time
import dagster as dg

@dg.op(pool="learn")
def hold(context):
    started = time.time()
    time.sleep(0.5)
    print(json.dumps([started, time.time()]))

@dg.job(executor_def=dg.in_process_executor)
def holding():
    hold()

with dg.DagsterInstance.get() as instance:
    assert holding.execute_in_process(instance=instance).success
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    policy = "telemetry: { enabled: false }\nconcurrency: { pools: { granularity: op } }\n"
    (tmp_path / "dagster.yaml").write_text(policy)
    return tmp_path


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(home)) as made:
        yield made


@pytest.fixture
def environment(home: Path) -> Environment:
    return development(data_dir=home, campus_url="http://127.0.0.1:1")


def test_what_is_declared_is_set_once(instance: dg.DagsterInstance, environment: Environment) -> None:
    declared = {pool: limit for pool, (_, limit) in declared_pools(environment).items()}

    assert len(apply_pools(instance, environment)) == len(declared) > 0
    assert pool_limits(instance) == declared
    assert apply_pools(instance, environment) == []


def test_drift_is_told_and_set_back(instance: dg.DagsterInstance, environment: Environment) -> None:
    apply_pools(instance, environment)
    set_pool_limit(instance, "learn", 9)

    assert [state for state in pool_states(instance, environment) if state.drifted] == [
        PoolState("learn", "ol-core", declared=1, limit=9)
    ]
    apply_pools(instance, environment)
    assert pool_limits(instance)["learn"] == 1


def test_a_pool_that_no_installed_package_declares_is_shown_and_left_alone(
    instance: dg.DagsterInstance, environment: Environment
) -> None:
    set_pool_limit(instance, "of_another_image", 4)
    apply_pools(instance, environment)

    (state,) = [state for state in pool_states(instance, environment) if state.pool == "of_another_image"]
    assert (state.package, state.declared, state.limit, state.drifted) == ("", None, 4, False)


def test_two_runs_of_a_pool_take_turns(instance: dg.DagsterInstance, environment: Environment, home: Path) -> None:
    apply_pools(instance, environment)
    command = [sys.executable, "-c", POOL_RUNS]
    variables = {**os.environ, "DAGSTER_HOME": str(home)}
    runs = [subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    spans = sorted(json.loads(run.communicate(timeout=120)[0].splitlines()[-1]) for run in runs)

    assert [run.returncode for run in runs] == [0, 0]
    assert spans[0][1] <= spans[1][0], "the second op started before the first had ended"


def test_slots_of_the_dead_are_given_back(instance: dg.DagsterInstance, environment: Environment, home: Path) -> None:
    apply_pools(instance, environment)
    script = POOL_RUNS.replace("time.sleep(0.5)", "print(flush=True); time.sleep(60)")
    killed = subprocess.Popen(
        [sys.executable, "-c", script], env={**os.environ, "DAGSTER_HOME": str(home)}, stdout=subprocess.PIPE
    )
    assert killed.stdout is not None
    killed.stdout.readline()
    killed.kill()
    killed.communicate()

    @dg.op(pool="learn")
    def hold() -> None: ...

    @dg.job(executor_def=dg.in_process_executor)
    def holding() -> None:
        hold()

    assert instance.event_log_storage.get_concurrency_info("learn").active_slot_count == 1
    free_pool_slots(instance)
    assert instance.event_log_storage.get_concurrency_info("learn").active_slot_count == 0
    assert holding.execute_in_process(instance=instance).success


def ol_pools(home: Path | None, *options: str) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": os.environ["PATH"], **({"DAGSTER_HOME": str(home)} if home else {})}
    command = [sys.executable, "-m", "ol_core.cli", "pools", *options]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def test_the_command_tells_drift_by_its_exit_code_and_applies(home: Path) -> None:
    before, applied, after = (ol_pools(home, *options) for options in (["--check"], ["--apply"], ["--check", "--json"]))

    assert before.returncode == 1
    assert "pools differ from what is declared" in before.stderr
    assert applied.returncode == 0, applied.stderr
    assert "0 of" in applied.stderr
    assert after.returncode == 0
    assert {"pool": "learn", "package": "ol-core", "declared": 1, "limit": 1, "drifted": False} in json.loads(
        after.stdout
    )


def test_a_limit_of_none_at_all_is_shown(home: Path) -> None:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        set_pool_limit(instance, "learn", 0)
    (line,) = [line for line in ol_pools(home).stdout.splitlines() if line.startswith("learn ")]

    assert line.split() == ["learn", "ol-core", "1", "0"]


@pytest.mark.parametrize(
    ("home", "said"),
    [
        (None, "DAGSTER_HOME is not set; set it to the folder of the deployment's dagster.yaml"),
        (Path("/nowhere/at/all"), "DAGSTER_HOME=/nowhere/at/all cannot be used: "),
    ],
)
def test_without_an_instance_the_command_says_what_to_set(home: Path | None, said: str) -> None:
    done = ol_pools(home)

    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
