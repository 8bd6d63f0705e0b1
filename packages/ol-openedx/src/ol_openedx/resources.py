"""The `openedx_api` resource: clients of the environment's Open edX deployments."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import dagster as dg
from ol_core.environment import Environment, SecretRef
from ol_core.failures import PermanentFailure
from ol_core.secrets import Secrets, secrets_resource
from pydantic import Field

if TYPE_CHECKING:
    from ol_core.http import HttpPolicy

    from ol_openedx.client import OpenEdxClient


class Deployment(dg.Config):
    """An Open edX deployment, as it stands in the resource's configuration."""

    name: str = Field(description="Name of the deployment.")
    lms_url: str = Field(description="Address of its LMS.")
    studio_url: str = Field(description="Address of its Studio.")
    client_id: str = Field(description="Where the OAuth2 client id is, as path#key.")
    client_secret: str = Field(description="Where the OAuth2 client secret is, as path#key.")


class OpenEdxApiClientFactory(dg.ConfigurableResource[Any]):
    """Makes a client for a deployment; credentials are read when a client is made."""

    deployments: list[Deployment] = Field(description="The environment's Open edX deployments.")
    secrets: dg.ResourceDependency[Secrets]

    def client(self, deployment: str, *, policy: "HttpPolicy | None" = None) -> "OpenEdxClient":
        """Return a client; close it, or use it as a context manager.

        Args:
            deployment: Name of the deployment.
            policy: How it treats its servers; None for the usual patience of a run.

        Raises:
            PermanentFailure: the environment has no such deployment.
        """
        from ol_openedx.client import OpenEdxClient

        for one in self.deployments:
            if one.name == deployment:
                return OpenEdxClient(
                    lms_url=one.lms_url,
                    studio_url=one.studio_url,
                    client_id=self.secrets.get(SecretRef.parse(one.client_id)),
                    client_secret=self.secrets.get(SecretRef.parse(one.client_secret)),
                    policy=policy,
                )
        valid = ", ".join(one.name for one in self.deployments)
        raise PermanentFailure(f"no Open edX deployment is called {deployment!r}; the environment has {valid}")


def openedx_api(environment: Environment) -> OpenEdxApiClientFactory:
    """Build the `openedx_api` resource of an environment."""
    deployments = [
        Deployment(
            name=one.name,
            lms_url=str(one.lms_url),
            studio_url=str(one.studio_url),
            client_id=str(one.client_id),
            client_secret=str(one.client_secret),
        )
        for one in environment.openedx
    ]
    return OpenEdxApiClientFactory(deployments=deployments, secrets=secrets_resource(environment))


def secret_references(environment: Environment) -> Iterable[SecretRef]:
    """Yield the OAuth2 client of each deployment."""
    for deployment in environment.openedx:
        yield deployment.client_id
        yield deployment.client_secret
