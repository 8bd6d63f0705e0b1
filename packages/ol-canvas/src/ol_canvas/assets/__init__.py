"""The assets of a Canvas instance, from its courses to the raw tables and the webhook."""

from collections.abc import Mapping

import dagster as dg
from ol_core.orchestration.desired_state import AttemptPolicy
from ol_core.orchestration.exports import ExportLimits

from ol_canvas.assets.content import raw_tables
from ol_canvas.assets.keys import InstanceAssets
from ol_canvas.assets.source import course_export, courses
from ol_canvas.assets.webhook import course_content_webhook

__all__ = ["InstanceAssets", "instance_assets"]


def instance_assets(
    keys: InstanceAssets, *, webhook_source: str, policy: AttemptPolicy, limits: ExportLimits
) -> Mapping[str, dg.AssetsDefinition]:
    """Build the assets of one instance; each step is run by a job of its own, in this order."""
    return {
        "courses": courses(keys),
        "course_export": course_export(keys, policy=policy, limits=limits),
        "raw_tables": raw_tables(keys),
        "course_content_webhook": course_content_webhook(keys, webhook_source=webhook_source),
    }
