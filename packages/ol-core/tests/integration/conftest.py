"""Logins of a real OpenBao server, databases of real servers; what stands beside the tests can be imported."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hvac
import pytest
from ol_core.environment import VaultBackend
from ol_devkit.servers.openbao import OpenBao

sys.path.insert(0, str(Path(__file__).parent))

from served_database import ServedDatabase, mariadb_database, postgres_database

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


@pytest.fixture(params=["postgres", "mariadb"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServedDatabase]:
    """An empty database of each server."""
    server = request.getfixturevalue(f"{request.param}_server")
    made = postgres_database(server, tmp_path) if request.param == "postgres" else mariadb_database(server, tmp_path)
    yield made
    made.close()
