"""Keys and partitions of the Canvas assets: the one place that spells them."""

import dagster as dg
from ol_core.environment import RAW_NAMESPACE

from ol_canvas.tables import COURSES

GROUP = "canvas"
OWNERS = ["team:data-platform"]
EACH_RUN_MANY_PARTITIONS = dg.BackfillPolicy.single_run()
"""A run costs seconds, so one run works through all partitions that are asked for together."""

PARTITIONS = dg.DynamicPartitionsDefinition(name="canvas_courses")
"""A partition a course; the key is the course's Canvas id."""

COURSE_CONTENT = dg.AssetKey(["canvas", "course_content"])
COURSE_METADATA = dg.AssetKey(["canvas", "course_metadata"])
WEBHOOK = dg.AssetKey(["canvas", "course_content_webhook"])


def raw(table: str) -> dg.AssetKey:
    """Return the key of a raw table."""
    return dg.AssetKey([RAW_NAMESPACE, table])


COURSES_TABLE = raw(COURSES)
