"""The `canvas_api` resource: clients of the environment's Canvas instances."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import dagster as dg
from ol_core.environment import Environment, SecretRef
from ol_core.failures import PermanentFailure
from ol_core.secrets import Secrets, secrets_resource
from pydantic import Field

if TYPE_CHECKING:
    from ol_core.http import HttpPolicy

    from ol_canvas.client import CanvasClient


class Instance(dg.Config):
    """A Canvas instance, as it stands in the resource's configuration."""

    name: str = Field(description="Name of the instance.")
    url: str = Field(description="Its address.")
    account_id: int = Field(description="Account whose courses are read.")
    access_token: str = Field(description="Where the access token is, as path#key.")


class CanvasApiClientFactory(dg.ConfigurableResource[Any]):
    """Makes a client of an instance; its token is read when a client is made."""

    instances: list[Instance] = Field(description="The environment's Canvas instances.")
    secrets: dg.ResourceDependency[Secrets]

    def client(self, instance: str, *, policy: "HttpPolicy | None" = None) -> "CanvasClient":
        """Return a client; close it, or use it as a context manager.

        Args:
            instance: Name of the instance.
            policy: How it treats its server; None for the usual patience of a run.

        Raises:
            PermanentFailure: the environment has no such instance.
        """
        from ol_canvas.client import CanvasClient

        for one in self.instances:
            if one.name == instance:
                token = self.secrets.get(SecretRef.parse(one.access_token))
                return CanvasClient(one.url, token, account_id=one.account_id, policy=policy)
        valid = ", ".join(one.name for one in self.instances) or "none"
        raise PermanentFailure(f"no Canvas instance is called {instance!r}; the environment has {valid}")


def canvas_api(environment: Environment) -> CanvasApiClientFactory:
    """Build the `canvas_api` resource of an environment."""
    instances = [
        Instance(name=one.name, url=str(one.url), account_id=one.account_id, access_token=str(one.access_token))
        for one in environment.canvas
    ]
    return CanvasApiClientFactory(instances=instances, secrets=secrets_resource(environment))


def secret_references(environment: Environment) -> Iterable[SecretRef]:
    """Yield the access token of each instance."""
    return (canvas.access_token for canvas in environment.canvas)
