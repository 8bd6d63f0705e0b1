"""The `learn_api` resource, and the assets that tell the receiver of webhooks that content moved."""

from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
from pydantic import Field

from ol_core.environment import Environment, SecretRef
from ol_core.failures import OlError, PermanentFailure
from ol_core.orchestration.desired_state import (
    DATA_VERSION_TAG,
    WantedVersions,
    as_version,
    held_versions,
    latest_by_partition,
    nothing_held,
    recorded,
)
from ol_core.secrets import Secrets, secrets_resource
from ol_core.webhooks import ContentEvent, Delivery, WebhookClient

LEARN_POOL = "learn"
"""Pool of the ops that deliver to the receiver."""


class LearnApi(dg.ConfigurableResource[Any]):
    """Delivers signed webhooks."""

    url: str = Field(description="Address of the receiver.")
    secret: str = Field(description="Where the shared secret of the signature is, as path#key.")
    writable: bool = Field(description="Whether this environment may tell this receiver anything.")
    secrets: dg.ResourceDependency[Secrets]

    def client(self) -> WebhookClient:
        """Return a client; use it as a context manager.

        Raises:
            PermanentFailure: the environment does not declare the receiver writable.
        """
        if not self.writable:
            raise PermanentFailure(
                f"the environment does not declare {self.url} writable; refused to deliver; where it may be told, set "
                "writable = true under [learn] in environment.toml"
            )
        return WebhookClient(self.url, self.secrets.get(SecretRef.parse(self.secret)))


def learn_api(environment: Environment) -> LearnApi:
    """Build the `learn_api` resource of an environment."""
    receiver = environment.learn
    return LearnApi(
        url=str(receiver.url),
        secret=str(receiver.secret),
        writable=receiver.writable,
        secrets=secrets_resource(environment),
    )


def content_webhook(
    *,
    key: dg.AssetKey,
    announces: dg.AssetKey,
    partitions: dg.PartitionsDefinition[str],
    group: str,
    describe: Callable[[str, dg.AssetMaterialization], ContentEvent],
) -> dg.AssetsDefinition:
    """Build the asset that announces each new version of a file object, once.

    Args:
        key: Key of the asset.
        announces: Asset whose objects are announced.
        partitions: Partitions of both.
        group: Group of the asset.
        describe: Makes the event of a partition from the newest materialization of `announces`.
    """

    @dg.multi_asset(
        name=key.to_python_identifier(),
        specs=[
            dg.AssetSpec(
                key,
                deps=[announces],
                partitions_def=partitions,
                skippable=True,
                group_name=group,
                owners=["team:data-platform"],
                kinds={"webhook"},
                description=f"What the receiver of webhooks answered to each version of {announces.to_user_string()}.",
            )
        ],
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=LEARN_POOL,
    )
    def content_webhook_asset(
        context: dg.AssetExecutionContext, config: WantedVersions, learn_api: LearnApi
    ) -> Iterator[dg.AssetMaterialization | dg.AssetObservation]:
        courses = config.partitions(context)
        wanted = held_versions(context.instance, announces, tag=DATA_VERSION_TAG, partitions=courses)
        newest = latest_by_partition(context.instance, announces, courses)

        def event_of(partition: str) -> ContentEvent | OlError:
            if partition in newest:
                return describe(partition, newest[partition])
            return nothing_held(announces, partition)

        with learn_api.client() as client:
            yield from recorded(
                key,
                {partition: wanted.get(partition, config.wanted.get(partition, "")) for partition in courses},
                ((partition, _delivered(client, event_of(partition))) for partition in courses),
                lambda partition, delivery: [_event(key, partition, delivery)],
            )

    return content_webhook_asset


def _delivered(client: WebhookClient, event: ContentEvent | OlError) -> Delivery | OlError:
    if isinstance(event, OlError):
        return event
    try:
        delivery = client.deliver(event)
    except OlError as error:
        return error
    if delivery.state == "rejected":
        return PermanentFailure(f"the receiver rejected delivery {delivery.delivery_id} with status {delivery.status}")
    return delivery


def _event(key: dg.AssetKey, partition: str, delivery: Delivery) -> dg.AssetMaterialization:
    return dg.AssetMaterialization(
        key,
        partition=partition,
        metadata={"state": delivery.state, "status": delivery.status, "delivery_id": delivery.delivery_id},
        tags={DATA_VERSION_TAG: as_version(delivery.delivery_id)},
    )
