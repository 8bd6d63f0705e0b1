"""Logins of a real OpenBao server."""

from collections.abc import Callable
from typing import Any

import hvac
import pytest
from ol_core.environment import VaultBackend
from ol_devkit.servers.openbao import OpenBao

CANARY = "canary-4711"


@pytest.fixture(scope="session")
def root(openbao_server: OpenBao) -> hvac.Client:
    """An administrator of the shared server; `secret` is a key-value engine of version 2 and holds a canary."""
    client = hvac.Client(url=openbao_server.url, token=openbao_server.root_token)
    client.secrets.kv.v2.create_or_update_secret("openedx/mitx", secret={"client_secret": CANARY})
    client.sys.create_or_update_policy("reader", 'path "secret/data/*" { capabilities = ["read"] }')
    return client


@pytest.fixture
def backend(openbao_server: OpenBao) -> Callable[..., VaultBackend]:
    """What an environment states of the shared server; `auth` is its login."""

    def stated(auth: dict[str, Any] | None = None, **changed: Any) -> VaultBackend:
        mounts = {"mount": "secret", "database_mount": "database"}
        given = {"url": openbao_server.url, **mounts, "namespace": "", "ca_file": "", **changed}
        return VaultBackend.model_validate({"kind": "vault", "auth": auth or {"method": "token"}, **given})

    return stated
