"""What an instance's sensors keep current, how often they look, and how the source is opened for them."""

from collections.abc import Iterator
from contextlib import contextmanager

from ol_core.orchestration.cadence import OFF, Cadence
from ol_core.orchestration.desired_state import DATA_VERSION_TAG, AttemptPolicy, Step, held_versions
from ol_core.orchestration.follow_tick import Follower, FollowPlan
from ol_core.orchestration.sweep_tick import SweepSource

from ol_canvas.assets.content import LAST_KIND, wanted_raw
from ol_canvas.assets.keys import InstanceAssets
from ol_canvas.resources import CanvasApiClientFactory
from ol_canvas.tables import COURSE_KINDS

SWEEP = Cadence(dev=3600, ci=OFF, qa=4 * 3600, production=3600)
"""Seconds from one rotation through all courses to the next."""

FOLLOW = Cadence(dev=60, ci=OFF, qa=300, production=60)
"""Seconds between two looks at what is held."""


def follow_plan(keys: InstanceAssets, *, policy: AttemptPolicy, exports_in_flight: int, announces: bool) -> FollowPlan:
    """Return what is kept up to date: the cartridges, what follows from them, and webhooks where it `announces`."""
    webhooks = Follower(
        Step(keys.name("course_content_webhook"), keys.webhook, keys.webhook.to_python_identifier()),
        lambda instance: held_versions(instance, keys.course_content, tag=DATA_VERSION_TAG),
    )
    return FollowPlan(
        swept=Step(
            keys.name("course_export"),
            keys.course_content,
            keys.name("export_courses"),
            at_once=exports_in_flight,
            makes=[keys.course_content, keys.course_metadata],
        ),
        partitions=keys.partitions,
        followers=[
            Follower(
                Step(
                    keys.name("raw_tables"),
                    keys.raw(LAST_KIND),
                    keys.name("write_raw_tables"),
                    makes=[keys.raw(kind) for kind in COURSE_KINDS],
                ),
                lambda instance: wanted_raw(instance, keys),
            ),
            *([webhooks] if announces else []),
        ],
        policy=policy,
        listing=Step(keys.name("courses"), keys.courses),
    )


@contextmanager
def open_source(keys: InstanceAssets, api: CanvasApiClientFactory) -> Iterator[SweepSource]:
    """Open an instance for a tick of its sweep."""
    from ol_canvas.sweep import SWEEP_POLICY, InstanceSource

    with api.client(keys.instance, policy=SWEEP_POLICY) as client:
        yield InstanceSource(client, client.clock)
