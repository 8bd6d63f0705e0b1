"""The assets of an Open edX deployment, from its course runs to the raw tables and the webhook."""

from collections.abc import Mapping

import dagster as dg
from ol_core.orchestration.desired_state import AttemptPolicy
from ol_core.orchestration.exports import ExportLimits

from ol_openedx.assets.content import processed_data, raw_tables
from ol_openedx.assets.keys import DeploymentAssets
from ol_openedx.assets.source import course_runs, course_xml
from ol_openedx.assets.webhook import course_content_webhook

__all__ = ["DeploymentAssets", "deployment_assets"]


def deployment_assets(
    keys: DeploymentAssets, *, webhook_source: str, policy: AttemptPolicy, limits: ExportLimits
) -> Mapping[str, dg.AssetsDefinition]:
    """Build the assets of one deployment; each step is run by a job of its own, in this order."""
    return {
        "course_runs": course_runs(keys),
        "course_xml": course_xml(keys, policy=policy, limits=limits),
        "processed_data": processed_data(keys),
        "raw_tables": raw_tables(keys),
        "course_content_webhook": course_content_webhook(keys, webhook_source=webhook_source),
    }
