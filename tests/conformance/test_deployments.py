"""Each deployment's dagster.yaml: Dagster starts from it, and it leaves retries to their one owner."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from ol_core.dagster_storage import keep_connections
from ol_core.environment import load_environment
from ol_core.orchestration.jobs import LARGE, SMALL, asset_job
from ol_core.orchestration.pools import apply_pools, pool_states
from ol_devkit.sandbox import DAGSTER_YAML
from ol_devkit.servers.postgres import PostgresServer
from sqlalchemy import Engine, event

DEPLOYMENTS = sorted(one for one in (Path(__file__).parents[2] / "deployments").iterdir() if one.is_dir())
STATED: dict[str, Any] = {one.name: yaml.safe_load((one / "dagster.yaml").read_text()) for one in DEPLOYMENTS}
STATED["dev"] = yaml.safe_load(DAGSTER_YAML)
ON_KUBERNETES = sorted(name for name, stated in STATED.items() if "run_launcher" in stated)
WILL_RETRY = "dagster/will_retry"

every_deployment = pytest.mark.parametrize("name", sorted(STATED))
on_kubernetes = pytest.mark.parametrize("name", ON_KUBERNETES)
without_s3 = pytest.mark.parametrize("name", sorted(set(STATED) - set(ON_KUBERNETES)))  # where steps write their logs


@pytest.fixture
def instance(name: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The instance that a deployment's file describes, on a database of this test's."""
    stated = dict(STATED[name])
    if "storage" in stated:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        database = server.create_database()
        monkeypatch.setenv("DAGSTER_PG_HOST", database.host)
        monkeypatch.setenv("DAGSTER_PG_USERNAME", database.user)
        monkeypatch.setenv("DAGSTER_PG_PASSWORD", database.password)
        monkeypatch.setenv("DAGSTER_JOB_IMAGE", "registry.invalid/platform:1")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        place = {**stated["storage"]["postgres"]["postgres_db"], "port": database.port, "db_name": database.name}
        stated["storage"] = {"postgres": {"postgres_db": place}}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(stated))
    with dg.DagsterInstance.from_config(str(tmp_path)) as made:
        yield made


def test_every_deployment_states_an_instance_and_an_environment() -> None:
    assert [one.name for one in DEPLOYMENTS] == ["ci", "production", "qa"]
    for one in DEPLOYMENTS:
        assert {file.name for file in one.iterdir()} >= {"dagster.yaml", "environment.toml"}


@every_deployment
def test_dagster_starts_from_it_and_takes_the_pools(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OL_DATA_DIR", str(tmp_path))
    environment = load_environment()

    assert apply_pools(instance, environment)
    assert [state for state in pool_states(instance, environment) if state.drifted] == []


@on_kubernetes
def test_its_launcher_is_configured_as_its_class_demands(instance: dg.DagsterInstance) -> None:
    from kubernetes.config import ConfigException  # type: ignore[import-untyped]  # ships no types

    with pytest.raises(ConfigException, match="Service host/port is not set"):  # all that it lacks is a cluster
        _ = instance.run_launcher


@on_kubernetes
def test_a_run_without_a_job_gets_the_large_worker(name: str) -> None:
    assert STATED[name]["run_launcher"]["config"]["resources"] == LARGE.resources


@on_kubernetes
def test_a_run_that_records_much_logs_in_to_dagsters_database_once(instance: dg.DagsterInstance) -> None:
    def logins(events: int) -> int:
        seen: list[object] = []
        listener = ("connect", lambda connection, _: seen.append(connection))
        event.listen(Engine, *listener)
        for number in range(events):
            instance.report_runless_asset_event(dg.AssetMaterialization("one", partition=str(number)))
        event.remove(Engine, *listener)
        return len(seen)

    assert logins(5) >= 5
    keep_connections(instance)
    assert logins(1) > 0
    keep_connections(instance)
    assert logins(20) == 0
    assert len(instance.fetch_materializations(dg.AssetKey("one"), limit=100).records) == 26


@every_deployment
def test_policy_is_the_same_everywhere(name: str) -> None:
    production = STATED["production"]
    retries = {"enabled": False} if name == "dev" else production["run_retries"]  # dev starts nothing again

    assert STATED[name].get("run_retries", {"enabled": False}) == retries
    assert STATED[name]["run_monitoring"] == production["run_monitoring"]
    assert STATED[name]["telemetry"] == production["telemetry"]


@every_deployment
def test_it_bounds_what_runs(name: str) -> None:
    stated: Mapping[str, Any] = STATED[name]

    assert stated["telemetry"] == {"enabled": False}
    assert stated["concurrency"]["pools"] == {"default_limit": 1, "granularity": "op"}
    assert name == "dev" or stated["concurrency"]["runs"]["max_concurrent_runs"] > 0
    monitoring = stated["run_monitoring"]
    assert monitoring["enabled"]
    assert monitoring["max_runtime_seconds"] <= 6 * 3600
    assert monitoring["free_slots_after_run_end_seconds"] > 0, "a killed run would hold its pools for ever"
    assert monitoring.get("max_resume_run_attempts", 0) == 0, "resuming a run is one more owner of retries"


@dg.asset
def failing() -> None:
    raise ValueError("a step that fails")


DEFINITIONS = dg.Definitions(
    assets=[failing],
    jobs=[
        asset_job("ours", failing, description="Fails.", max_runtime_seconds=60, worker=SMALL),
        dg.define_asset_job("by_hand", selection=[failing]),
    ],
    executor=dg.in_process_executor,
)


@without_s3
@pytest.mark.parametrize("job", ["ours", "by_hand"])
def test_a_failed_step_is_never_run_again_by_dagster(instance: dg.DagsterInstance, job: str) -> None:
    done = DEFINITIONS.resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=False)

    assert not will_be_run_again(instance, done.run_id)


@every_deployment
@pytest.mark.parametrize("job", ["ours", "by_hand"])
def test_a_dead_worker_is_ours_to_count_unless_no_job_of_ours_ran(
    instance: dg.DagsterInstance, job: str, name: str
) -> None:
    definition = DEFINITIONS.resolve_job_def(job)
    run = instance.create_run_for_job(definition, tags=definition.tags)
    instance.report_run_failed(run, "the worker is gone")

    assert will_be_run_again(instance, run.run_id) == (job == "by_hand" and name != "dev")


def will_be_run_again(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    assert run.status == dg.DagsterRunStatus.FAILURE
    return run.tags.get(WILL_RETRY) == "true"
