"""What real servers serve: logins, databases, catalogs; what stands beside the tests can be imported."""

import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hvac
import pytest
from ol_core.environment import VaultBackend
from ol_core.tables import RawTableIOManager
from ol_devkit.servers.openbao import OpenBao
from ol_devkit.servers.seaweedfs import SeaweedFS

sys.path.insert(0, str(Path(__file__).parent))

from served_catalog import rest
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


@pytest.fixture(params=["sql", "rest"])
def tables(request: pytest.FixtureRequest, tmp_path: Path) -> RawTableIOManager:
    """Raw tables in a SQLite catalog of their own, and in the REST catalog that a session's tests share."""
    if request.param == "rest":
        server: SeaweedFS = request.getfixturevalue("seaweedfs_server")
        monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
        for name, value in server.aws_variables.items():
            monkeypatch.setenv(name, value)
        return rest(server, server.iceberg_url, tmp_path)
    root = tmp_path / "tables"
    return RawTableIOManager(kind="sql", uri=f"sqlite:///{root}/catalog.db", warehouse=str(root), writable=True)


@pytest.fixture
def name() -> str:
    """A name for a table that no other test has."""
    return f"t_{uuid.uuid4().hex}"
