"""The `canvas_api` resource: clients of the environment's Canvas."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import dagster as dg
from ol_core.environment import Environment, SecretRef
from ol_core.secrets import Secrets, secrets_resource
from pydantic import Field

if TYPE_CHECKING:
    from ol_canvas.client import CanvasClient


class CanvasApiClientFactory(dg.ConfigurableResource[Any]):
    """Makes a client of Canvas; its token is read when a client is made."""

    url: str = Field(description="Address of Canvas.")
    account_id: int = Field(description="Account whose courses are read.")
    access_token: str = Field(description="Where the access token is, as path#key.")
    secrets: dg.ResourceDependency[Secrets]

    def client(self) -> "CanvasClient":
        """Return a client; close it, or use it as a context manager."""
        from ol_canvas.client import CanvasClient

        return CanvasClient(self.url, self.secrets.get(SecretRef.parse(self.access_token)))


def canvas_api(environment: Environment) -> CanvasApiClientFactory:
    """Build the `canvas_api` resource of an environment."""
    canvas = environment.canvas[0]
    return CanvasApiClientFactory(
        url=str(canvas.url),
        account_id=canvas.account_id,
        access_token=str(canvas.access_token),
        secrets=secrets_resource(environment),
    )


def secret_references(environment: Environment) -> Iterable[SecretRef]:
    """Yield the access token of each Canvas."""
    return (canvas.access_token for canvas in environment.canvas)
