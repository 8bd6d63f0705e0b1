"""`VaultClient` against a real OpenBao server: what it reads, how long, and what it says when it cannot."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import hvac
import pytest
import requests
from ol_core.environment import SecretRef, VaultBackend
from ol_core.failures import OlError, PermanentFailure, TransientFailure, UpstreamMissing
from ol_core.secrets import AccessRefused, Vault, VaultClient
from ol_devkit.servers.openbao import OpenBao, openbao, openbao_on_disk
from ol_devkit.servers.postgres import PostgresServer
from ol_devkit.servers.process import free_ports

REF = SecretRef(path="openedx/mitx", key="client_secret")
CANARY = "canary-4711"
Backend = Callable[..., VaultBackend]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Recorder:
    """Counts what a server is asked, by path."""

    def __init__(self, client: VaultClient) -> None:
        self.paths: list[str] = []
        make = client._new_client

        def watched() -> hvac.Client:
            made = make()
            made.session.hooks["response"].append(lambda answer, **_: self.paths.append(answer.request.path_url))
            return made

        client._new_client = watched  # type: ignore[method-assign]

    def count(self, path: str) -> int:
        return sum(path in one for one in self.paths)


def enable_kv(admin: hvac.Client, mount: str, version: str) -> None:
    """Enable a key-value engine and wait until it is of this version: version 2 is an upgrade in the background."""
    admin.sys.enable_secrets_engine("kv", mount, options={"version": version})
    kv = admin.secrets.kv.v1 if version == "1" else admin.secrets.kv.v2
    for _ in range(300):
        with suppress(hvac.exceptions.InvalidRequest):
            kv.create_or_update_secret("enabled", secret={"a": "1"}, mount_point=mount)
            return
        time.sleep(0.1)
    raise AssertionError(f"the engine at {mount} is not ready")


def token_of(root: hvac.Client, **options: Any) -> str:
    made = root.auth.token.create(policies=["reader"], no_default_policy=False, **options)
    return str(made["auth"]["client_token"])


def client_of(backend: VaultBackend, token: str = "root", **options: Any) -> VaultClient:
    return VaultClient(backend, variables={"VAULT_TOKEN": token, "HOME": "/nowhere"}, **options)


def test_a_secret_is_read_and_kept_for_a_while(root: hvac.Client, backend: Backend) -> None:
    clock = Clock()
    client = client_of(backend(), clock=clock)
    asked = Recorder(client)
    assert client.read(REF) == CANARY
    root.secrets.kv.v2.create_or_update_secret("rotated", secret={"a": "1"})
    ref = SecretRef(path="rotated", key="a")
    assert client.read(ref) == "1"
    root.secrets.kv.v2.create_or_update_secret("rotated", secret={"a": "2"})

    clock.now += 299
    assert client.read(ref) == "1"
    clock.now += 2
    assert client.read(ref) == "2"
    assert asked.count("/sys/internal/ui/mounts/") == 1
    assert asked.count("/secret/data/rotated") == 2


def test_nothing_is_asked_before_the_first_secret() -> None:
    Vault(url="http://127.0.0.1:9")


def test_all_copies_of_the_resource_share_the_client_of_the_process() -> None:
    one, two = (Vault(url="http://127.0.0.1:9", auth={"method": "token"}) for _ in range(2))

    assert one.client is two.client


@pytest.mark.parametrize("version", ["1", "2"])
def test_both_versions_of_the_key_value_engine_are_told_apart(
    root: hvac.Client, backend: Backend, version: str
) -> None:
    mount = f"kv{version}"
    if f"{mount}/" not in root.sys.list_mounted_secrets_engines()["data"]:
        enable_kv(root, mount, version)
    write = root.secrets.kv.v1 if version == "1" else root.secrets.kv.v2
    write.create_or_update_secret("a/b", secret={"key": "value", "number": 7}, mount_point=mount)
    client = client_of(backend(mount=mount))

    assert client.read(SecretRef(path="a/b", key="key")) == "value"
    with pytest.raises(PermanentFailure, match="the value is a int; write it as text"):
        client.read(SecretRef(path="a/b", key="number"))
    with pytest.raises(UpstreamMissing, match=f"{mount}/a/none does not exist"):
        client.read(SecretRef(path="a/none", key="key"))


@pytest.mark.parametrize("path", ["a%20b", "a b", "a#b", "a?b", "ä/b"])
def test_a_path_is_asked_for_as_it_is_written(root: hvac.Client, backend: Backend, path: str) -> None:
    root.secrets.kv.v2.create_or_update_secret(path, secret={"a": path})

    assert client_of(backend()).read(SecretRef(path=path, key="a")) == path


def test_a_deleted_secret_is_missing(root: hvac.Client, backend: Backend) -> None:
    root.secrets.kv.v2.create_or_update_secret("gone", secret={"a": "1"})
    root.secrets.kv.v2.delete_latest_version_of_secret("gone")

    with pytest.raises(UpstreamMissing, match="secret/gone does not exist"):
        client_of(backend()).read(SecretRef(path="gone", key="a"))


def test_a_missing_key_is_named_with_those_there_are(root: hvac.Client, backend: Backend) -> None:
    del root
    with pytest.raises(UpstreamMissing, match="has no key b; it has client_secret") as caught:
        client_of(backend()).read(SecretRef(path=REF.path, key="b"))
    assert CANARY not in str(caught.value)


def test_a_refusal_says_what_to_grant_to_whom(root: hvac.Client, backend: Backend) -> None:
    token = root.auth.token.create(policies=["default"])["auth"]["client_token"]
    root.secrets.kv.v2.create_or_update_secret("x", secret={"a": "1"})
    root.sys.create_or_update_policy("only-x", 'path "secret/data/x" { capabilities = ["read"] }')
    limited = str(root.auth.token.create(policies=["only-x"])["auth"]["client_token"])

    with pytest.raises(
        AccessRefused, match=r"login by token \(mount the token itself, role -\); grant it `read` on secret/data/"
    ):
        client_of(backend(), token=token).read(REF)
    with pytest.raises(AccessRefused, match="grant it `read` on secret/data/openedx/mitx") as caught:
        client_of(backend(), token=limited).read(REF)
    assert limited not in str(caught.value)
    barred = str(root.auth.token.create(policies=["only-x"], no_default_policy=True)["auth"]["client_token"])
    with pytest.raises(AccessRefused, match="grant it `update` on sys/leases/renew"):
        client_of(backend(), token=barred).renew_lease("database/creds/reader/1")


def test_many_threads_log_in_and_read_once(root: hvac.Client, backend: Backend) -> None:
    client = client_of(backend(), token=token_of(root))
    asked, start = Recorder(client), Barrier(16)

    def read(_: int) -> str:
        start.wait()
        return client.read(REF)

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(read, range(16))) == {CANARY}
    assert asked.count("/auth/token/lookup-self") == 1
    assert asked.count("/secret/data/") == 1


def test_a_login_is_renewed_at_two_thirds_of_its_life(root: hvac.Client, backend: Backend) -> None:
    clock = Clock()
    client = client_of(backend(), token=token_of(root, ttl="600s", renewable=True), clock=clock)
    asked = Recorder(client)
    client.read(REF)
    clock.now = 399
    client.read(REF)
    assert asked.count("renew-self") == 0

    clock.now = 700
    client.read(REF)
    assert asked.count("renew-self") == 1
    assert client._renew_at == pytest.approx(700 + 400, abs=30)


def logged_in(backend: VaultBackend) -> tuple[VaultClient, Clock, Recorder]:
    """A client that has read a secret once, its clock, and what it asks."""
    clock = Clock()
    client = VaultClient(backend, clock=clock)
    asked = Recorder(client)
    client.read(REF)
    return client, clock, asked


def test_a_login_that_cannot_be_renewed_is_made_again(root: hvac.Client, backend: Backend, tmp_path: Path) -> None:
    role = approle(root, "short", token_ttl="4s", token_max_ttl="4s")
    client, clock, asked = logged_in(backend(approle_login(root, role, tmp_path)))
    time.sleep(4.2)
    clock.now = 301

    assert client.read(REF) == CANARY
    assert asked.count("/auth/approle/login") == 2


def test_a_login_is_used_to_its_end_where_none_follows_it(root: hvac.Client, backend: Backend, tmp_path: Path) -> None:
    role = approle(root, "batch", token_ttl="1h", token_type="batch")
    client, clock, asked = logged_in(backend(approle_login(root, role, tmp_path)))
    for file in tmp_path.iterdir():
        file.unlink()

    clock.now = 2500
    assert client.read(REF) == CANARY
    assert asked.count("/auth/approle/login") == 1
    clock.now = 3700
    with pytest.raises(PermanentFailure, match="cannot read the secret id"):
        client.read(REF)


def test_a_revoked_login_is_made_again_once(root: hvac.Client, backend: Backend, tmp_path: Path) -> None:
    role = approle(root, "revoked", token_ttl="1h")
    client, clock, asked = logged_in(backend(approle_login(root, role, tmp_path)))
    assert client._grant is not None
    root.auth.token.revoke(client._grant.token)
    clock.now = 301

    assert client.read(REF) == CANARY
    assert asked.count("/auth/approle/login") == 2


def test_a_login_that_is_refused_for_good_is_tried_once_more_and_no_longer(
    root: hvac.Client, backend: Backend, tmp_path: Path
) -> None:
    root.secrets.kv.v2.create_or_update_secret("x", secret={"a": "1"})
    role = approle(root, "narrow", policy="only-x")
    root.sys.create_or_update_policy("only-x", 'path "secret/data/x" { capabilities = ["read"] }')
    client = VaultClient(backend(approle_login(root, role, tmp_path)))
    asked = Recorder(client)

    with pytest.raises(AccessRefused, match="grant it"):
        client.read(REF)
    assert asked.count("/auth/approle/login") == 2


def test_database_credentials_are_leased_renewed_and_given_back(
    root: hvac.Client, backend: Backend, postgres_server: PostgresServer
) -> None:
    root.sys.enable_secrets_engine("database")
    root.secrets.database.configure(
        "campus",
        plugin_name="postgresql-database-plugin",
        allowed_roles=["reader"],
        connection_url=f"postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{postgres_server.port}/postgres?sslmode=disable",
        username=postgres_server.user,
        password=postgres_server.password,
    )
    statement = "CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'"
    root.secrets.database.create_role("reader", "campus", [statement], default_ttl="20s", max_ttl="60s")
    client = client_of(backend())
    credentials, again = client.database_credentials("reader"), client.database_credentials("reader")

    assert credentials.username != again.username
    assert credentials.lease_seconds == 20
    assert credentials.password not in repr(credentials)
    assert client.renew_lease(credentials.lease_id) == 20
    client.revoke_lease(credentials.lease_id)
    with pytest.raises(OlError):
        client.renew_lease(credentials.lease_id)
    with pytest.raises(OlError, match="database/creds/nobody"):
        client.database_credentials("nobody")


def test_a_server_that_nobody_runs_is_transient() -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    stated = {
        "kind": "vault",
        "url": url,
        "mount": "secret",
        "database_mount": "database",
        "namespace": "",
        "ca_file": "",
        "auth": {"method": "token"},
    }

    with pytest.raises(TransientFailure, match=r"did not answer \(ConnectionError\)"):
        client_of(VaultBackend.model_validate(stated)).read(REF)


@pytest.mark.parametrize("answer", ["<html>Welcome</html>", "[]", "{}", '{"data": null}', '{"auth": {}}'])
def test_what_does_not_answer_as_vault_does_is_told(backend: Backend, tmp_path: Path, answer: str) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer.encode())

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None: ...

    (tmp_path / "id").write_text("secret-id")
    approle = {"method": "approle", "role_id": "r", "secret_id_file": str(tmp_path / "id"), "mount": "approle"}
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        for auth in ({"method": "token"}, approle):
            client = client_of(backend(auth, url=f"http://127.0.0.1:{server.server_port}"))
            with pytest.raises(PermanentFailure, match="does not answer as Vault does; correct"):
                client.read(REF)
            with pytest.raises(PermanentFailure, match="does not answer as Vault does; correct"):
                client.database_credentials("campus")
        server.shutdown()


def test_a_server_that_is_sealed_killed_and_started_again(tmp_path: Path, backend: Backend) -> None:
    port = free_ports(1)[0]

    def serve() -> AbstractContextManager[OpenBao]:
        return openbao_on_disk(tmp_path, port=port)

    clock = Clock()
    with serve() as server:
        admin = hvac.Client(url=server.url)
        made = admin.sys.initialize(1, 1)
        unseal(admin, made["keys"][0])
        admin.token = made["root_token"]
        enable_kv(admin, "secret", "2")
        admin.secrets.kv.v2.create_or_update_secret(REF.path, secret={REF.key: CANARY})
        client = client_of(backend(url=server.url), token=made["root_token"], clock=clock)
        assert client.read(REF) == CANARY

        admin.sys.seal()
        assert client.read(REF) == CANARY  # kept
        clock.now += 301
        with pytest.raises(TransientFailure, match="is sealed or in maintenance; unseal it"):
            client.read(REF)
    with pytest.raises(TransientFailure, match="did not answer"):
        client.read(REF)
    with serve():
        unseal(admin, made["keys"][0])
        assert client.read(REF) == CANARY


def unseal(admin: hvac.Client, key: str) -> None:
    """Unseal a server and wait until it is the active node of its cluster of one."""
    admin.sys.submit_unseal_key(key)
    deadline = time.monotonic() + 30
    while requests.get(f"{admin.url}/v1/sys/health", timeout=5).status_code != 200:
        assert time.monotonic() < deadline, "the server is not active"
        time.sleep(0.2)


def test_a_namespace_is_its_own_server(root: hvac.Client, backend: Backend) -> None:
    root.adapter.post("/v1/sys/namespaces/campus")
    inside = hvac.Client(url=root.url, token=root.token, namespace="campus")
    enable_kv(inside, "secret", "2")
    inside.secrets.kv.v2.create_or_update_secret(REF.path, secret={REF.key: "of the campus"})

    assert client_of(backend(namespace="campus")).read(REF) == "of the campus"
    assert client_of(backend()).read(REF) == CANARY


def test_a_certificate_is_trusted_where_its_authority_is_stated(tmp_path: Path, backend: Backend) -> None:
    with openbao(tmp_path, tls=True) as server:
        authority = str(tmp_path / "vault-ca.pem")
        admin = hvac.Client(url=server.url, token=server.root_token, verify=authority)
        admin.secrets.kv.v2.create_or_update_secret(REF.path, secret={REF.key: CANARY})

        assert client_of(backend(url=server.url, ca_file=authority)).read(REF) == CANARY
        with pytest.raises(PermanentFailure, match=r"the certificate of .* is not trusted; set secrets.ca_file"):
            client_of(backend(url=server.url)).read(REF)
        with pytest.raises(PermanentFailure, match=r"there is no secrets.ca_file .*none.pem"):
            client_of(backend(url=server.url, ca_file=str(tmp_path / "none.pem"))).read(REF)
        (tmp_path / "empty.pem").touch()
        with pytest.raises(PermanentFailure, match=r"secrets\.ca_file"):
            client_of(backend(url=server.url, ca_file=str(tmp_path / "empty.pem"))).read(REF)


def approle(root: hvac.Client, name: str, *, policy: str = "reader", **options: str) -> str:
    if "approle/" not in root.sys.list_auth_methods()["data"]:
        root.sys.enable_auth_method("approle")
    root.auth.approle.create_or_update_approle(name, token_policies=[policy], **options)
    return name


def approle_login(root: hvac.Client, name: str, folder: Path) -> dict[str, str]:
    file = folder / "secret_id"
    file.write_text(root.auth.approle.generate_secret_id(name)["data"]["secret_id"] + "\n")
    role_id = root.auth.approle.read_role_id(name)["data"]["role_id"]
    return {"method": "approle", "role_id": role_id, "secret_id_file": str(file), "mount": "approle"}
