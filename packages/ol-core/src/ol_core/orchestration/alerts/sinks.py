"""Whom failures are told: the log of the sensor, or a receiver of signed webhooks."""

import logging
from typing import Any, Protocol

import dagster as dg
from pydantic import Field

from ol_core.environment import Environment, SecretRef
from ol_core.failures import PermanentFailure
from ol_core.orchestration.alerts.messages import Alert
from ol_core.secrets import Secrets, secrets_resource
from ol_core.webhooks import WebhookClient

SINK_RESOURCE = "alert_sink"
"""Key of the resource."""


class AlertSink(Protocol):
    """Whom failures are told."""

    def tell(self, alert: Alert, log: Any) -> None:  # noqa: ANN401 - Dagster does not export the type of a tick's log
        """Tell one message.

        Raises:
            OlError: it was not taken; telling it again is harmless.
        """


class LogSink(dg.ConfigurableResource[Any]):
    """Tells failures in the log of the sensor that finds them."""

    level: int = Field(default=logging.ERROR, description="Level of the lines, as Python's `logging` counts.")

    def tell(self, alert: Alert, log: Any) -> None:  # noqa: ANN401 - as `AlertSink`
        """Write a line."""
        log.log(self.level, "%s", alert)


class WebhookSink(dg.ConfigurableResource[Any]):
    """Posts failures to a receiver, signed as all webhooks are."""

    url: str = Field(description="Address of the receiver.")
    secret: str = Field(description="Where the shared secret of the signature is, as path#key.")
    writable: bool = Field(description="Whether this environment may tell this receiver anything.")
    secrets: dg.ResourceDependency[Secrets]

    def tell(self, alert: Alert, log: Any) -> None:  # noqa: ANN401 - as `AlertSink`
        """Post a message.

        Raises:
            TransientFailure: the receiver is throttled or down.
            PermanentFailure: it rejects the message, or the environment does not declare it writable.
        """
        if not self.writable:
            raise PermanentFailure(
                f"the environment does not declare {self.url} writable; refused to tell it failures; where it may be "
                "told, set writable = true under [alerts] in environment.toml"
            )
        with WebhookClient(self.url, self.secrets.get(SecretRef.parse(self.secret))) as client:
            delivery = client.send(alert.body, alert.delivery_id, path=self.url)
        if delivery.state == "rejected":
            raise PermanentFailure(f"{self.url} rejected message {alert.delivery_id} with status {delivery.status}")
        log.info("told: %s", alert)


def alert_sink(environment: Environment) -> LogSink | WebhookSink:
    """Build the `alert_sink` resource of an environment."""
    stated = environment.alerts
    if stated.kind == "log":
        return LogSink()
    return WebhookSink(
        url=str(stated.url),
        secret=str(stated.secret),
        writable=stated.writable,
        secrets=secrets_resource(environment),
    )
