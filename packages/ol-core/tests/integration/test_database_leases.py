"""Accounts of databases that a real OpenBao server leases: taken, renewed, replaced, revoked, given back."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hvac
import pytest
from ol_core.databases import DatabaseResource
from ol_core.databases.credentials import LeasedCredentials
from ol_core.failures import PermanentFailure, TransientFailure
from ol_core.secrets import Vault
from ol_devkit.servers.openbao import OpenBao, openbao
from ol_devkit.servers.postgres import PostgresServer
from served_database import ServedDatabase, postgres_database

MOUNT = "leases"
WHO = "SELECT current_user AS who"


@pytest.fixture
def vault(openbao_server: OpenBao, monkeypatch: pytest.MonkeyPatch) -> Vault:
    monkeypatch.setenv("VAULT_TOKEN", openbao_server.root_token)
    return Vault(url=openbao_server.url, database_mount=MOUNT, auth={"method": "token"})


@pytest.fixture
def role(root: hvac.Client, served: ServedDatabase) -> Callable[..., str]:
    """Make a role of the engine that leases accounts of the database; return its name."""
    enable(root)
    return lambda seconds, most: make_role(root, served, seconds, most)


def enable(root: hvac.Client) -> None:
    if f"{MOUNT}/" not in root.sys.list_mounted_secrets_engines()["data"]:
        root.sys.enable_secrets_engine("database", path=MOUNT)


def make_role(root: hvac.Client, served: ServedDatabase, seconds: int, most: int) -> str:
    at = f"127.0.0.1:{served.server.port}"
    if isinstance(served.server, PostgresServer):
        plugin, url = "postgresql", f"postgresql://{{{{username}}}}:{{{{password}}}}@{at}/{served.name}?sslmode=disable"
        statements = ["CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'"]
    else:
        plugin, url = "mysql", f"{{{{username}}}}:{{{{password}}}}@tcp({at})/"
        statements = ["CREATE USER '{{name}}'@'%' IDENTIFIED BY '{{password}}'"]
        statements += [f"GRANT SELECT ON {served.name}.* TO '{{{{name}}}}'@'%'"]
    root.secrets.database.configure(
        served.name,
        plugin_name=f"{plugin}-database-plugin",
        allowed_roles=[served.name],
        connection_url=url,
        username=served.server.user,
        password=served.server.password,
        mount_point=MOUNT,
    )
    root.secrets.database.create_role(
        served.name, served.name, statements, default_ttl=f"{seconds}s", max_ttl=f"{most}s", mount_point=MOUNT
    )
    return served.name


def leased(served: ServedDatabase, vault: Vault, role: str) -> DatabaseResource:
    return served.resource(user="", password="", vault_role=role, secrets=vault)


def who(resource: DatabaseResource) -> str:
    (name,) = resource.stream(WHO).read_all()["who"].to_pylist()
    return str(name).partition("@")[0]


def exists(served: ServedDatabase, account: str) -> bool:
    if isinstance(served.server, PostgresServer):
        return served.execute(f"SELECT count(*) FROM pg_roles WHERE rolname = '{account}'") == "1"
    return served.execute(f"SELECT count(*) FROM mysql.user WHERE user = '{account}'") == "1"


def test_an_account_is_leased_for_all_connections_and_given_back(
    served: ServedDatabase, vault: Vault, role: Callable[..., str]
) -> None:
    resource = leased(served, vault, role(60, 120))
    reader = resource.stream(served.numbers(10))
    first = who(resource)

    assert first.startswith("v-")
    assert who(resource) == first
    assert reader.read_all().num_rows == 10
    resource.close()
    assert not exists(served, first)
    second = who(resource)
    assert second != first


def test_a_lease_is_renewed_while_it_is_used(served: ServedDatabase, vault: Vault, role: Callable[..., str]) -> None:
    """Four seconds at a time: after six, an account that was not renewed is gone."""
    resource = leased(served, vault, role(4, 600))
    reader = resource.stream(served.numbers(2_000), batch_rows=1)
    first, began = who(resource), time.monotonic()
    while time.monotonic() - began < 6:
        next(reader)
        time.sleep(0.05)
    assert who(resource) == first
    assert exists(served, first)
    assert reader.read_all().num_rows > 0


def test_a_lease_that_ends_for_good_is_replaced_before(
    served: ServedDatabase, vault: Vault, role: Callable[..., str]
) -> None:
    """Six seconds at most, whatever is renewed."""
    resource = leased(served, vault, role(3, 6))
    first, began = who(resource), time.monotonic()
    while (now := who(resource)) == first:
        assert time.monotonic() - began < 60, "the lease outlives what the role allows"
        time.sleep(0.1)
    assert exists(served, now)


def test_a_lease_that_was_revoked_is_replaced_once(
    served: ServedDatabase, vault: Vault, role: Callable[..., str], root: hvac.Client
) -> None:
    resource = leased(served, vault, role(600, 1200))
    first = who(resource)
    held = resource.stream(served.numbers(10))
    root.sys.revoke_prefix(f"{MOUNT}/creds/{served.name}")
    assert not exists(served, first)
    others = [resource.stream(served.numbers(10)) for _ in range(3)]

    assert {one.read_all().num_rows for one in (held, *others)} == {10}
    assert who(leased(served, vault, served.name)) != first


def test_a_role_that_is_missing_is_named(served: ServedDatabase, vault: Vault, role: Callable[..., str]) -> None:
    role(60, 120)
    with pytest.raises(PermanentFailure, match=f"credentials of {MOUNT}/creds/nobody: .*unknown role"):
        leased(served, vault, "nobody").stream(WHO)


def test_what_a_leased_account_lacks_is_to_be_granted_to_all_of_its_role(
    on_postgres: ServedDatabase, vault: Vault, root: hvac.Client
) -> None:
    enable(root)
    on_postgres.execute("CREATE TABLE grades (id INT)")
    name = make_role(root, on_postgres, 60, 120)

    with pytest.raises(PermanentFailure, match=f"SELECT on table grades to its accounts, .* of Vault's role {name}$"):
        leased(on_postgres, vault, name).stream("SELECT * FROM grades")


def test_accounts_that_the_server_refuses_are_taken_twice_and_no_more(
    served: ServedDatabase, vault: Vault, role: Callable[..., str], root: hvac.Client
) -> None:
    name = role(60, 120)
    if isinstance(served.server, PostgresServer):
        refused = "CREATE ROLE \"{{name}}\" NOLOGIN PASSWORD '{{password}}'"
    else:
        refused = "CREATE USER '{{name}}'@'10.1.1.1' IDENTIFIED BY '{{password}}'"
    root.secrets.database.create_role(name, name, [refused], mount_point=MOUNT)

    with pytest.raises(PermanentFailure, match=f"check the role {name} of Vault"):
        leased(served, vault, name).stream(WHO)
    leases: Any = root.list(f"sys/leases/lookup/{MOUNT}/creds/{name}")
    assert len(leases["data"]["keys"]) == 2


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def on_postgres(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[ServedDatabase]:
    database = postgres_database(postgres_server, tmp_path)
    yield database
    database.close()


def counted(asked: list[str], renew: Callable[[Vault, str], float]) -> Callable[[Vault, str], float]:
    def _renew(vault: Vault, lease_id: str) -> float:
        asked.append(lease_id)
        return renew(vault, lease_id)

    return _renew


def test_a_lease_that_cannot_be_renewed_yet_is_used_until_it_ends(
    on_postgres: ServedDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    with openbao(tmp_path) as server:
        monkeypatch.setenv("VAULT_TOKEN", server.root_token)
        root: Any = hvac.Client(url=server.url, token=server.root_token)
        root.sys.enable_secrets_engine("database", path=MOUNT)
        vault = Vault(url=server.url, database_mount=MOUNT, auth={"method": "token"})
        credentials = LeasedCredentials(vault, make_role(root, on_postgres, 90, 900), clock=clock)
        account = credentials.account()
        clock.now = 61
        assert credentials.is_current(account)
        clock.now = 61 + 59
        assert credentials.is_current(account)

    asked: list[str] = []
    monkeypatch.setattr(Vault, "renew_lease", counted(asked, Vault.renew_lease))
    clock.now = 61 + 61
    for _ in range(3):  # a stream's batches
        assert credentials.is_current(account)
    assert len(asked) == 1
    clock.now = 61 + 91
    assert not credentials.is_current(account)
    with pytest.raises(TransientFailure):
        credentials.account()
    credentials.close()
