"""The code location `lakehouse`."""

import sysconfig
from pathlib import Path

import dagster as dg
from dagster_dbt import DbtCliResource
from ol_core.environment import Settings, load_environment
from ol_core.orchestration.alerts import alert_definitions, alert_sink
from ol_core.orchestration.desired_state import AttemptPolicy, Step
from ol_core.orchestration.jobs import LARGE, asset_job
from ol_core.secrets import secrets_resource
from ol_core.tables import RawTableIOManager

from ol_lakehouse.assets import build_warehouse_assets
from ol_lakehouse.maintenance import MAINTENANCE, maintenance_schedule, raw_table_maintenance
from ol_lakehouse.project import project_directory, read_manifest
from ol_lakehouse.sensors import BUILD, BUILDS, build_sensor


@dg.definitions
def defs() -> dg.Definitions:
    """The warehouse: the dbt project over the raw tables, the job that builds all of it, and the tables' upkeep."""
    environment = load_environment()
    engine = environment.engine
    project = project_directory()
    manifest = read_manifest(project, adapter_type=engine.kind)
    warehouse = build_warehouse_assets(
        manifest=manifest,
        data_dir=Settings().data_dir.absolute(),
        engine=engine,
    )
    dbt = DbtCliResource(
        project_dir=str(project),
        profiles_dir=str(project),
        target=engine.kind,
        dbt_executable=str(_dbt_executable()),
    )
    build = asset_job(
        BUILDS.job_name,
        warehouse,
        description="Builds all models from the raw tables, and tests them.",
        max_runtime_seconds=7200,
        worker=LARGE,
    )
    tables = raw_table_maintenance()
    maintain = asset_job(
        "lakehouse_raw_table_maintenance",
        tables,
        description="Compacts the raw tables, expires their old snapshots and removes files that nobody needs.",
        max_runtime_seconds=4 * 3600,
        worker=LARGE,
    )
    upkeep = Step(maintain.name, tables.key)
    location = dg.Definitions(
        assets=[warehouse, tables, _builds()],
        resources={
            "dbt": dbt,
            "raw_table_io_manager": RawTableIOManager.of(environment),
            "secrets": secrets_resource(environment),
            "alert_sink": alert_sink(environment),
        },
        jobs=[build, maintain],
        schedules=MAINTENANCE.registered(environment, lambda cron: maintenance_schedule(maintain.name, cron=cron)),
        sensors=BUILD.registered(
            environment,
            lambda seconds: build_sensor(build.name, manifest, seconds=seconds, policy=AttemptPolicy.of(environment)),
        ),
        executor=dg.in_process_executor,
    )
    alerts = alert_definitions("lakehouse", environment, [], whole_runs=[BUILDS, upkeep])
    return dg.Definitions.merge(location, alerts)


def _builds() -> dg.AssetSpec:
    return dg.AssetSpec(
        BUILDS.asset_key,
        group_name="alerts",
        owners=["team:data-platform"],
        kinds={"dbt"},
        description="Failed builds of the models, one observation each.",
    )


def _dbt_executable() -> Path:
    """Beside this Python, since PATH may name another environment or none.

    `ol-dbt` before `dbt`, which asks PyPI for its version before every run.
    """
    scripts = Path(sysconfig.get_path("scripts"))
    ours = scripts / "ol-dbt"
    return ours if ours.exists() else scripts / "dbt"
