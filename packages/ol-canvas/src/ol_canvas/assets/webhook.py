"""The webhook: whoever serves the content is told that a cartridge moved."""

import dagster as dg
from ol_core.learn import content_webhook
from ol_core.webhooks import ContentEvent

from ol_canvas.assets.keys import GROUP, InstanceAssets


def course_content_webhook(keys: InstanceAssets, *, webhook_source: str) -> dg.AssetsDefinition:
    """Build the asset that announces each new version of a course's cartridge, once."""
    return content_webhook(
        key=keys.webhook,
        announces=keys.course_content,
        partitions=keys.partitions,
        group=GROUP,
        describe=lambda course, cartridge: ContentEvent(
            source=webhook_source,
            content_path=str(cartridge.metadata["key"].value),
            course_id=course,
            course_readable_id=None,
        ),
    )
