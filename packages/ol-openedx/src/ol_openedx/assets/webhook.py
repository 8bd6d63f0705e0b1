"""The webhook: whoever serves the content is told that an archive moved."""

import dagster as dg
from ol_core.learn import content_webhook
from ol_core.webhooks import ContentEvent

from ol_openedx.assets.keys import GROUP, DeploymentAssets


def course_content_webhook(keys: DeploymentAssets, *, webhook_source: str) -> dg.AssetsDefinition:
    """Build the asset that announces each new version of a course run's archive, once."""
    return content_webhook(
        key=keys.webhook,
        announces=keys.course_xml,
        partitions=keys.partitions,
        group=GROUP,
        describe=lambda course, archive: ContentEvent(
            source=webhook_source,
            content_path=str(archive.metadata["key"].value),
            course_id=course,
            course_readable_id=course,
        ),
    )
