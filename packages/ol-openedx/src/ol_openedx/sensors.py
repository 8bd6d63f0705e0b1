"""What a deployment's sensors keep current, how often they look, and how the source is opened for them."""

from collections.abc import Iterator
from contextlib import contextmanager

from ol_core.orchestration.cadence import OFF, Cadence
from ol_core.orchestration.desired_state import DATA_VERSION_TAG, AttemptPolicy, Step, held_versions
from ol_core.orchestration.follow_tick import Follower, FollowPlan
from ol_core.orchestration.sweep_tick import SweepSource

from ol_openedx.archive import TABLE_KINDS
from ol_openedx.assets.content import LAST_KIND, wanted_processed, wanted_raw
from ol_openedx.assets.keys import DeploymentAssets
from ol_openedx.resources import OpenEdxApiClientFactory

SWEEP = Cadence(dev=3600, ci=OFF, qa=4 * 3600, production=3600)
"""Seconds from one rotation through all course runs to the next."""

FOLLOW = Cadence(dev=60, ci=OFF, qa=300, production=60)
"""Seconds between two looks at what is held."""


def follow_plan(
    keys: DeploymentAssets, *, policy: AttemptPolicy, exports_in_flight: int, announces: bool
) -> FollowPlan:
    """Return what is kept up to date: the archives, what follows from them, and webhooks where it `announces`."""
    webhooks = Follower(
        Step(keys.name("course_content_webhook"), keys.webhook, keys.webhook.to_python_identifier()),
        lambda instance: held_versions(instance, keys.course_xml, tag=DATA_VERSION_TAG),
    )
    return FollowPlan(
        swept=Step(keys.name("course_xml"), keys.course_xml, keys.name("export_courses"), at_once=exports_in_flight),
        partitions=keys.partitions,
        followers=[
            Follower(
                Step(
                    keys.name("processed_data"),
                    keys.processed(LAST_KIND),
                    keys.name("read_archives"),
                    makes=[keys.processed(kind) for kind in TABLE_KINDS],
                ),
                lambda instance: wanted_processed(instance, keys),
            ),
            Follower(
                Step(
                    keys.name("raw_tables"),
                    keys.raw(LAST_KIND),
                    keys.name("write_raw_tables"),
                    makes=[keys.raw(kind) for kind in TABLE_KINDS],
                ),
                lambda instance: wanted_raw(instance, keys),
            ),
            *([webhooks] if announces else []),
        ],
        policy=policy,
        listing=Step(keys.name("course_runs"), keys.course_runs),
    )


@contextmanager
def open_source(keys: DeploymentAssets, api: OpenEdxApiClientFactory) -> Iterator[SweepSource]:
    """Open a deployment for a tick of its sweep."""
    from ol_openedx.sweep import SWEEP_POLICY, DeploymentSource

    with api.client(keys.deployment, policy=SWEEP_POLICY) as client:
        yield DeploymentSource(client, client.clock)
