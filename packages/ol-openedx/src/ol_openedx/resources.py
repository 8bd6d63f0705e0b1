"""The `openedx_api` resource: clients of the environment's Open edX deployments."""

from typing import TYPE_CHECKING, Any

import dagster as dg
from ol_core.environment import Environment, OpenEdxDeployment
from ol_core.failures import PermanentFailure
from ol_core.secrets import Secrets, secrets_resource
from pydantic import Field

if TYPE_CHECKING:
    from ol_openedx.client import OpenEdxClient


class OpenEdxApiClientFactory(dg.ConfigurableResource[Any]):
    """Makes a client for a deployment; credentials are read when a client is made."""

    deployments: list[OpenEdxDeployment] = Field(description="Open edX deployments: LMS, Studio, secret references.")
    secrets: dg.ResourceDependency[Secrets]

    def client(self, deployment: str) -> "OpenEdxClient":
        """Return a client; close it, or use it as a context manager.

        Raises:
            PermanentFailure: the environment has no such deployment.
        """
        from ol_openedx.client import OpenEdxClient

        for one in self.deployments:
            if one.name == deployment:
                return OpenEdxClient(
                    lms_url=str(one.lms_url),
                    studio_url=str(one.studio_url),
                    client_id=self.secrets.get(one.client_id),
                    client_secret=self.secrets.get(one.client_secret),
                )
        valid = ", ".join(one.name for one in self.deployments)
        raise PermanentFailure(f"no Open edX deployment is called {deployment!r}; the environment has {valid}")


def openedx_api(environment: Environment) -> OpenEdxApiClientFactory:
    """Build the `openedx_api` resource of an environment."""
    return OpenEdxApiClientFactory(deployments=list(environment.openedx), secrets=secrets_resource(environment))
