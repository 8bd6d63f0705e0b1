"""The dbt models as assets, their tests as asset checks.

Asset keys are `<schema>/<model>`, those of the raw tables that they read `ol_warehouse_raw_data/<table>`.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import (
    DagsterDbtCliRuntimeError,
    DagsterDbtTranslator,
    DagsterDbtTranslatorSettings,
    DbtCliResource,
    DbtProject,
    dbt_assets,
)
from dagster_dbt.core.dbt_event_iterator import DbtEventIterator
from ol_core.cpus import usable_cpus
from ol_core.environment import Engine
from ol_core.failures import PermanentFailure
from ol_core.secrets import Secrets

from ol_lakehouse.resources import WAREHOUSE_POOL


class DbtAutomationTranslator(DagsterDbtTranslator):
    """Names and describes dbt's models, sources and tests for Dagster."""

    def __init__(self, macros: Mapping[str, Mapping[str, str]]) -> None:
        """Keep the SQL of the project's macros, which is part of every model's code version.

        Args:
            macros: The manifest's section `macros`.
        """
        super().__init__(DagsterDbtTranslatorSettings(enable_source_metadata=False))
        self._macro_sql = "".join(macros[name]["macro_sql"] for name in sorted(macros))

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """`<schema>/<name>`, for a source as for a model."""
        return dg.AssetKey([dbt_resource_props["schema"], dbt_resource_props["name"]])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """The schema."""
        schema: str = dbt_resource_props["schema"]
        return schema

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> Sequence[str] | None:
        """`config.meta.dagster.owners`."""
        owners: Sequence[str] | None = dbt_resource_props["config"]["meta"].get("dagster", {}).get("owners")
        return owners

    def get_code_version(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """Digest of the model's SQL and of the project's macros."""
        return hashlib.sha256((dbt_resource_props.get("raw_code", "") + self._macro_sql).encode()).hexdigest()[:16]

    def get_asset_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> dg.AssetCheckSpec | None:
        """dagster-dbt's own, with the description of the test."""
        spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        test = self.get_resource_props(manifest, unique_id)
        description = test.get("description") or test["config"].get("description")
        return spec._replace(description=description) if spec and description else spec


def build_warehouse_assets(*, manifest: dict[str, Any], data_dir: Path, engine: Engine) -> dg.AssetsDefinition:
    """Define every model of the project as an asset.

    Args:
        manifest: The baked manifest, of `ol_lakehouse.project.read_manifest`.
        data_dir: `OL_DATA_DIR`, absolute: dbt's artifacts and logs go to its folder `dbt`, DuckDB's file lies in it.
        engine: What builds the models; one that is not writable is refused when a run starts.
    """

    @dbt_assets(
        manifest=manifest,
        name="warehouse",
        pool=WAREHOUSE_POOL,
        dagster_dbt_translator=DbtAutomationTranslator(manifest["macros"]),
    )
    def warehouse(
        context: dg.AssetExecutionContext, dbt: DbtCliResource, secrets: dg.ResourceParam[Secrets]
    ) -> Iterator[object]:
        if not engine.writable:
            raise PermanentFailure(
                f"this environment does not declare its engine ({engine.kind}) writable; "
                f"set `writable = true` under [engine] in environment.toml to build the warehouse from here"
            )
        arguments = ["build", "--exclude-resource-type", "unit_test", "--vars", json.dumps({"data_dir": str(data_dir)})]
        if engine.kind == "duckdb":  # the models are built in this process; a distributed engine builds them elsewhere
            arguments += ["--threads", str(usable_cpus())]
        # dagster-dbt asks the context for its op, which is deprecated on an asset's own context.
        with connection_variables(engine, secrets):
            build = dbt.cli(arguments, context=context.op_execution_context, target_path=data_dir / "dbt")
            stream: Iterator[Any] = build.stream()
            events, failure = _drained(stream) if engine.kind == "duckdb" else (stream, None)
            # dagster-dbt counts rows while it spins on a core until the events end, so they come to it one by one.
            for event in events:
                yield from DbtEventIterator(iter([event]), build).fetch_row_counts()
            if failure is not None:
                raise failure

    return warehouse


@contextmanager
def connection_variables(engine: Engine, secrets: Secrets) -> Iterator[None]:
    """Set what ol_dbt/profiles.yml reads of the engine, for dbt to inherit, and take it back at the end.

    Raises:
        PermanentFailure: a variable names another engine already; dbt must build where the environment says.
    """
    if engine.kind == "duckdb":
        yield
        return
    stated = {
        "OL_TRINO_HOST": engine.host,
        "OL_TRINO_PORT": str(engine.port),
        "OL_TRINO_CATALOG": engine.catalog,
        "OL_TRINO_SCHEMA_BASE": engine.schema_base,
        "OL_TRINO_USER": engine.user,
    }
    for name, value in stated.items():
        if os.environ.get(name, value) != value:
            raise PermanentFailure(
                f"{name} is {os.environ[name]!r} but the environment's engine has {value!r}; unset the variable"
            )
    os.environ.update({**stated, "DBT_ENV_SECRET_TRINO_PASSWORD": secrets.get(engine.password)})
    try:
        yield
    finally:
        for name in (*stated, "DBT_ENV_SECRET_TRINO_PASSWORD"):
            os.environ.pop(name, None)


def _drained(events: Iterator[Any]) -> tuple[Iterator[Any], Exception | None]:
    """Wait until dbt ends, which is when it gives the DuckDB file up; return its events, and what it failed with."""
    kept = []
    try:
        for event in events:
            kept.append(event)  # noqa: PERF402 - what came before a failure counts
    except DagsterDbtCliRuntimeError as error:
        return iter(kept), error
    return iter(kept), None
