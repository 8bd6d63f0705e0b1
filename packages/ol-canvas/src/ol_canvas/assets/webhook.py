"""The webhook: whoever serves the content is told that a cartridge moved."""

import dagster as dg
from ol_core.learn import content_webhook
from ol_core.webhooks import ContentEvent

from ol_canvas.assets.keys import COURSE_CONTENT, GROUP, PARTITIONS, WEBHOOK


def course_content_webhook() -> dg.AssetsDefinition:
    """Build the asset that announces each new version of a course's cartridge, once."""
    return content_webhook(
        key=WEBHOOK,
        announces=COURSE_CONTENT,
        partitions=PARTITIONS,
        group=GROUP,
        describe=lambda course, cartridge: ContentEvent(
            source="canvas",
            content_path=str(cartridge.metadata["key"].value),
            course_id=course,
            course_readable_id=None,
        ),
    )
