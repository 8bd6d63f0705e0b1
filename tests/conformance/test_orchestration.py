"""What keeps runs from running away, hanging or crowding, in every code location and every environment."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import dagster as dg
import pytest
from ol_core.code_locations import installed, load
from ol_core.environment import Environment, EnvironmentName, load_environment
from ol_core.orchestration.cadence import CADENCE_METADATA
from ol_core.orchestration.jobs import KUBERNETES_TAG, LARGE, MAX_RUNTIME_TAG, SMALL
from ol_core.orchestration.pools import declared_pools

DEPLOYMENTS = Path(__file__).parents[2] / "deployments"
ENVIRONMENTS: tuple[EnvironmentName, ...] = get_args(EnvironmentName)
OUTSIDE = {"airbyte", "canvas_api", "dbt", "learn_api", "openedx_api", "superset_api", "trino"}
"""Resources behind which another system is loaded."""


@dataclass(frozen=True)
class Loaded:
    """Every installed code location, as it is in one environment."""

    environment: Environment
    locations: Mapping[str, dg.Definitions]

    @property
    def jobs(self) -> Iterator[dg.JobDefinition]:
        for location in self.locations.values():
            yield from (job for job in location.get_repository_def().get_all_jobs() if not job.name.startswith("__"))

    @property
    def assets(self) -> Iterator[dg.AssetsDefinition]:
        for location in self.locations.values():
            yield from (one for one in location.assets or [] if isinstance(one, dg.AssetsDefinition))

    @property
    def rhythms(self) -> dict[str, dg.SensorDefinition | dg.ScheduleDefinition]:
        found: dict[str, dg.SensorDefinition | dg.ScheduleDefinition] = {}
        for name, location in self.locations.items():
            repository = location.get_repository_def()
            found |= {f"{name}/{sensor.name}": sensor for sensor in repository.sensor_defs}
            found |= {f"{name}/{schedule.name}": schedule for schedule in repository.schedule_defs}
        return found


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Loaded]:
    loaded: dict[str, Loaded] = {}
    for name in ENVIRONMENTS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OL_DATA_DIR", str(tmp_path_factory.mktemp(name)))
            patch.setenv("DAGSTER_ENV", name)
            if name != "dev":
                patch.setenv("OL_ENVIRONMENT_FILE", str(DEPLOYMENTS / name / "environment.toml"))
            loaded[name] = Loaded(load_environment(), load(installed()))
    return loaded


@pytest.fixture(params=ENVIRONMENTS)
def here(request: pytest.FixtureRequest, everywhere: Mapping[str, Loaded]) -> Loaded:
    return everywhere[request.param]


def cadence(one: dg.SensorDefinition | dg.ScheduleDefinition) -> dict[str, int | str]:
    stated = one.metadata[CADENCE_METADATA].value if CADENCE_METADATA in one.metadata else None
    assert isinstance(stated, dict), f"{one.name} states no cadence"
    return stated


def test_what_is_registered_is_what_is_declared(everywhere: Mapping[str, Loaded]) -> None:
    declared = {name: cadence(one) for loaded in everywhere.values() for name, one in loaded.rhythms.items()}

    assert declared
    assert [name for name, stated in declared.items() if set(stated) != set(ENVIRONMENTS)] == []
    for environment, loaded in everywhere.items():
        assert set(loaded.rhythms) == {name for name, stated in declared.items() if stated[environment] != "off"}


def test_each_comes_as_often_as_is_declared(here: Loaded) -> None:
    for one in here.rhythms.values():
        stated = cadence(one)[here.environment.name]
        if isinstance(one, dg.ScheduleDefinition):
            assert one.cron_schedule == stated
        else:  # a sweep looks more often than it starts a rotation
            assert one.minimum_interval_seconds is not None
            assert one.minimum_interval_seconds <= int(stated)


def test_nothing_that_is_registered_rests(here: Loaded) -> None:
    resting = [name for name, one in here.rhythms.items() if one.default_status.value != "RUNNING"]

    assert resting == []


def test_nothing_but_our_sensors_requests_runs(here: Loaded) -> None:
    graphs = [location.resolve_asset_graph() for location in here.locations.values()]

    assert [
        key.to_user_string()
        for graph in graphs
        for key in graph.materializable_asset_keys
        if graph.get(key).automation_condition is not None
    ] == []


def test_nothing_but_our_sensors_retries(here: Loaded) -> None:
    policies = [(one.op.name, one.op.retry_policy) for one in here.assets if one.is_executable]
    tags = {job.name: job.tags.get("dagster/max_retries") for job in here.jobs}

    assert policies == [(name, None) for name, _ in policies]
    assert tags == dict.fromkeys(tags, "0")
    assert tags


def test_every_job_says_what_it_does_and_ends(here: Loaded) -> None:
    lacking = [
        job.name
        for job in here.jobs
        if not job.description or int(job.tags.get(MAX_RUNTIME_TAG, 0)) not in range(60, 86401)
    ]

    assert lacking == []


def test_a_job_that_waits_for_exports_outlasts_their_deadline(here: Loaded) -> None:
    waiting = [job for job in here.jobs if any(node.name.endswith("export_courses") for node in job.nodes)]

    assert waiting
    for job in waiting:
        assert int(job.tags[MAX_RUNTIME_TAG]) > here.environment.orchestration.export_deadline_seconds


def test_every_job_asks_for_a_worker_that_is_declared(here: Loaded) -> None:
    declared = [SMALL.resources, LARGE.resources]
    asked = {job.name: json.loads(job.tags[KUBERNETES_TAG])["container_config"]["resources"] for job in here.jobs}
    heavy = {name for name in asked if name.endswith(("_export", "_xml", "_data", "_raw_tables", "_build"))}

    assert [name for name, resources in asked.items() if resources not in declared] == []
    assert heavy
    assert {name for name, resources in asked.items() if resources == LARGE.resources} >= heavy


def test_no_job_starts_a_process_a_cpu_of_the_node(here: Loaded) -> None:
    assert {job.executor_def.name for job in here.jobs} == {"in_process"}


def test_every_op_that_loads_another_system_is_in_a_pool_that_is_declared(here: Loaded) -> None:
    ops = [one.op for one in here.assets if one.is_executable]
    loading = [op for op in ops if OUTSIDE & op.required_resource_keys]

    assert loading
    assert [op.name for op in loading if op.pool is None] == []
    assert {op.pool for op in ops if op.pool} == set(declared_pools(here.environment))


def test_webhooks_are_followed_up_only_where_their_receiver_may_be_told(here: Loaded) -> None:
    graphs = [location.resolve_asset_graph() for location in here.locations.values()]
    stocktaken = {key.asset_key.path[-1] for graph in graphs for key in graph.asset_check_keys}

    assert stocktaken >= {"course_content", "course_xml"}
    assert ("course_content_webhook" in stocktaken) == here.environment.learn.writable
