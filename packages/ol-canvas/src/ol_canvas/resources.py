"""The `canvas_api` resource: clients of the environment's Canvas."""

from typing import TYPE_CHECKING, Any

import dagster as dg
from ol_core.environment import CanvasInstance, Environment
from ol_core.secrets import Secrets, secrets_resource
from pydantic import Field

if TYPE_CHECKING:
    from ol_canvas.client import CanvasClient


class CanvasApiClientFactory(dg.ConfigurableResource[Any]):
    """Makes a client of Canvas; its token is read when a client is made."""

    instance: CanvasInstance = Field(description="Canvas: address, account, secret reference.")
    secrets: dg.ResourceDependency[Secrets]

    def client(self) -> "CanvasClient":
        """Return a client; close it, or use it as a context manager."""
        from ol_canvas.client import CanvasClient

        return CanvasClient(str(self.instance.url), self.secrets.get(self.instance.access_token))


def canvas_api(environment: Environment) -> CanvasApiClientFactory:
    """Build the `canvas_api` resource of an environment."""
    return CanvasApiClientFactory(instance=environment.canvas, secrets=secrets_resource(environment))
