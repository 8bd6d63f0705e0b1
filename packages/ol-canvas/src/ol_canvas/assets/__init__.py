"""The assets of Canvas, from its courses to the raw tables and the webhook."""

from collections.abc import Mapping

import dagster as dg

from ol_canvas.assets.content import raw_tables
from ol_canvas.assets.source import course_export, courses
from ol_canvas.assets.webhook import course_content_webhook

__all__ = ["canvas_assets"]


def canvas_assets() -> Mapping[str, dg.AssetsDefinition]:
    """Build the assets; each step is run by a job of its own, in this order."""
    return {
        "courses": courses(),
        "course_export": course_export(),
        "raw_tables": raw_tables(),
        "course_content_webhook": course_content_webhook(),
    }
