"""Keys, names and partitions of an instance's assets: the one place that spells them."""

from collections.abc import Mapping
from dataclasses import dataclass

import dagster as dg
from ol_core.environment import RAW_NAMESPACE, Environment

from ol_canvas.tables import COURSES, table_name

GROUP = "canvas"
OWNERS = ["team:data-platform"]
EACH_RUN_MANY_PARTITIONS = dg.BackfillPolicy.single_run()
"""A run costs seconds, so one run works through all partitions that are asked for together."""


@dataclass(frozen=True, slots=True)
class InstanceAssets:
    """What one instance's assets are called."""

    instance: str

    @property
    def partitions(self) -> dg.DynamicPartitionsDefinition:
        """One partition per course; the key is the course's Canvas id."""
        return dg.DynamicPartitionsDefinition(name=self.name("courses"))

    @property
    def courses(self) -> dg.AssetKey:
        """The raw table of courses."""
        return self.raw(COURSES)

    @property
    def course_content(self) -> dg.AssetKey:
        """The courses' cartridges."""
        return dg.AssetKey([self.instance, "course_content"])

    @property
    def course_metadata(self) -> dg.AssetKey:
        """What the API says of the courses, beside the cartridges."""
        return dg.AssetKey([self.instance, "course_metadata"])

    @property
    def webhook(self) -> dg.AssetKey:
        """The deliveries to the webhook's receiver."""
        return dg.AssetKey([self.instance, "course_content_webhook"])

    def raw(self, kind: str) -> dg.AssetKey:
        """The raw table of one kind."""
        return dg.AssetKey([RAW_NAMESPACE, table_name(self.instance, kind)])

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
        return f"{self.instance}_{step}"


def pools(environment: Environment) -> Mapping[str, int]:
    """Return the pools of each instance: one run exports and one lists at a time."""
    names = (InstanceAssets(instance.name) for instance in environment.canvas)
    return {pool: 1 for keys in names for pool in (keys.export_pool, keys.list_pool)}
