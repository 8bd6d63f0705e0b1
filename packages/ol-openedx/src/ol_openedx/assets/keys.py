"""Keys, names and partitions of a deployment's assets: the one place that spells them."""

from collections.abc import Mapping
from dataclasses import dataclass

import dagster as dg
from ol_core.environment import RAW_NAMESPACE, Environment

from ol_openedx.tables import COURSE_RUNS, table_name

GROUP = "openedx"
OWNERS = ["team:data-platform"]
EACH_RUN_MANY_PARTITIONS = dg.BackfillPolicy.single_run()
"""A run costs seconds, so one run works through all partitions that are asked for together."""


@dataclass(frozen=True, slots=True)
class DeploymentAssets:
    """What one deployment's assets are called."""

    deployment: str

    @property
    def partitions(self) -> dg.DynamicPartitionsDefinition:
        """One partition per course run; the key is the course id."""
        return dg.DynamicPartitionsDefinition(name=f"{self.deployment}_openedx_course_runs")

    @property
    def course_runs(self) -> dg.AssetKey:
        """The raw table of course runs."""
        return self.raw(COURSE_RUNS)

    @property
    def course_xml(self) -> dg.AssetKey:
        """The course archives."""
        return dg.AssetKey([self.deployment, "openedx", "raw_data", "course_xml"])

    @property
    def webhook(self) -> dg.AssetKey:
        """The deliveries to the webhook's receiver."""
        return dg.AssetKey([self.deployment, "openedx", "course_content_webhook"])

    def processed(self, kind: str) -> dg.AssetKey:
        """The Parquet files of one kind."""
        return dg.AssetKey([self.deployment, "openedx", "processed_data", kind])

    def raw(self, kind: str) -> dg.AssetKey:
        """The raw table of one kind."""
        return dg.AssetKey([RAW_NAMESPACE, table_name(self.deployment, kind)])

    @property
    def export_pool(self) -> str:
        """Pool of what exports: how many exports are in flight is bounded for each run, so runs take turns."""
        return self.name("exports")

    @property
    def list_pool(self) -> str:
        """Pool of what lists, which needs not wait for exports."""
        return self.name("lists")

    def name(self, step: str) -> str:
        """Name of a job, an op, a pool or a sensor."""
        return f"{self.deployment}_openedx_{step}"


def pools(environment: Environment) -> Mapping[str, int]:
    """Return the pools of each deployment: one run exports and one lists at a time."""
    names = (DeploymentAssets(deployment.name) for deployment in environment.openedx)
    return {pool: 1 for keys in names for pool in (keys.export_pool, keys.list_pool)}
