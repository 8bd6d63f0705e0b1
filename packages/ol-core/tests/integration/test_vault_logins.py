"""Every method of logging in that OpenBao has, against a real server; AWS's by its contract."""

import base64
import json
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import hvac
import pytest
import requests
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID
from ol_core.cli import main
from ol_core.environment import SecretRef, VaultBackend
from ol_core.failures import PermanentFailure
from ol_core.secrets import VaultClient
from ol_core.secrets.callback import Browser
from ol_devkit.servers.process import free_ports

REF = SecretRef(path="openedx/mitx", key="client_secret")
SERVICE_ACCOUNT = {
    "iss": "https://kubernetes.default.svc.cluster.local",
    "sub": "system:serviceaccount:data:dagster",
    "kubernetes.io/serviceaccount/namespace": "data",
    "kubernetes.io/serviceaccount/service-account.name": "dagster",
    "kubernetes.io/serviceaccount/service-account.uid": "1",
}
Backend = Callable[..., VaultBackend]
CANARY = "canary-4711"


@dataclass
class Key:
    """A key that signs JSON web tokens."""

    private: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))

    @property
    def public_pem(self) -> str:
        kind = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.private.public_key().public_bytes(serialization.Encoding.PEM, kind).decode()

    @property
    def certificate_pem(self) -> str:
        name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cluster")]), datetime.now(UTC)
        builder = x509.CertificateBuilder(name, name, self.private.public_key(), 1, now, now + timedelta(days=1))
        return builder.sign(self.private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def token(self, **claims: object) -> str:
        parts = [_encoded(json.dumps(one).encode()) for one in ({"alg": "RS256", "typ": "JWT"}, claims)]
        signature = self.private.sign(".".join(parts).encode(), padding.PKCS1v15(), hashes.SHA256())
        return ".".join([*parts, _encoded(signature)])


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def read(backend: VaultBackend, **variables: str) -> str:
    return VaultClient(backend, variables={"HOME": "/nowhere", **variables}).read(REF)


def enable(root: hvac.Client, method: str, mount: str) -> None:
    if f"{mount}/" not in root.sys.list_auth_methods()["data"]:
        root.sys.enable_auth_method(method, path=mount)


@pytest.fixture
def kubernetes() -> Iterator[str]:
    """The one call of the Kubernetes API that a login needs: it vouches for the service account."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            user = {"username": SERVICE_ACCOUNT["sub"], "uid": "1", "groups": ["system:serviceaccounts"]}
            good = asked["spec"]["token"].count(".") == 2
            body = json.dumps({**asked, "status": {"authenticated": good, "user": user if good else {}}}).encode()
            self.send_response(201)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_token_comes_from_the_variable_or_the_file(root: hvac.Client, backend: Backend, tmp_path: Path) -> None:
    token = root.auth.token.create(policies=["reader"])["auth"]["client_token"]
    assert read(backend(), VAULT_TOKEN=token) == CANARY

    (tmp_path / ".vault-token").write_text(token + "\n")
    assert read(backend(), HOME=str(tmp_path)) == CANARY

    with pytest.raises(PermanentFailure, match=r"there is no token: set VAULT_TOKEN, or log in so that /nowhere/"):
        read(backend())


def test_a_token_is_bare(root: hvac.Client, backend: Backend) -> None:
    assert read(backend(), VAULT_TOKEN=f"{root.token}\n") == CANARY
    with pytest.raises(PermanentFailure, match=r"no header can carry; store the bare token") as caught:
        read(backend(), VAULT_TOKEN="canary\u20ac 1")
    assert "canary" not in str(caught.value)


def test_a_pod_logs_in_with_its_service_account(
    root: hvac.Client, backend: Backend, kubernetes: str, tmp_path: Path
) -> None:
    enable(root, "kubernetes", "cluster")
    root.auth.kubernetes.configure(
        kubernetes,
        token_reviewer_jwt=Key().token(**SERVICE_ACCOUNT),
        mount_point="cluster",
        disable_local_ca_jwt=True,
        kubernetes_ca_cert=Key().certificate_pem,
    )
    root.auth.kubernetes.create_role("dagster", ["dagster"], ["data"], policies=["reader"], mount_point="cluster")
    file = tmp_path / "token"
    file.write_text(Key().token(**SERVICE_ACCOUNT))
    auth = {"method": "kubernetes", "role": "dagster", "mount": "cluster", "token_file": str(file)}
    assert read(backend(auth)) == CANARY

    with pytest.raises(
        PermanentFailure,
        match=r"refuses the login by kubernetes \(mount cluster, role nobody\): .*that the role exists",
    ):
        read(backend({**auth, "role": "nobody"}))
    with pytest.raises(PermanentFailure, match=r"refuses the login by kubernetes \(mount nowhere, .*mount is enabled"):
        read(backend({**auth, "mount": "nowhere"}))
    with pytest.raises(PermanentFailure, match=r"cannot read the pod's service account token: .*none: No such file"):
        read(backend({**auth, "token_file": str(tmp_path / "none")}))


def test_a_job_logs_in_with_a_token_that_its_platform_signed(
    root: hvac.Client, backend: Backend, tmp_path: Path
) -> None:
    key = Key()
    enable(root, "jwt", "jwt")
    root.auth.jwt.configure(jwt_validation_pubkeys=[key.public_pem], path="jwt")
    root.auth.jwt.create_role(
        "ci", "sub", [], role_type="jwt", bound_audiences=["vault"], token_policies=["reader"], path="jwt"
    )
    token = key.token(sub="job", aud="vault", exp=int(time.time()) + 60)
    file = tmp_path / "token"
    file.write_text(token)
    auth = {"method": "jwt", "role": "ci", "mount": "jwt", "token_file": "", "token_variable": "CI_JWT"}

    assert read(backend(auth), CI_JWT=token) == CANARY
    assert read(backend({**auth, "token_file": str(file), "token_variable": ""})) == CANARY
    with pytest.raises(PermanentFailure, match="CI_JWT, which holds the token of the JWT login, is not set"):
        read(backend(auth))
    forged = Key().token(sub="job", aud="vault", exp=int(time.time()) + 60)
    with pytest.raises(PermanentFailure, match=r"refuses the login by jwt \(mount jwt, role ci\)") as caught:
        read(backend(auth), CI_JWT=forged)
    assert forged not in str(caught.value)


def test_a_role_that_was_not_made_is_named(root: hvac.Client, backend: Backend, tmp_path: Path) -> None:
    enable(root, "approle", "approle")
    file = tmp_path / "secret_id"
    file.write_text("not-a-secret-id")
    auth = {"method": "approle", "role_id": "nobody", "secret_id_file": str(file), "mount": "approle"}

    with pytest.raises(
        PermanentFailure, match=r"refuses the login by approle \(mount approle, role nobody\)"
    ) as caught:
        read(backend(auth))
    assert "not-a-secret-id" not in str(caught.value)


@pytest.fixture(scope="module")
def people(root: hvac.Client) -> tuple[str, int]:
    """The server as an OpenID provider of itself; return the token of a person, and the port of the callback."""
    (port,) = free_ports(1)
    redirect = f"http://localhost:{port}/oidc/callback"
    root.sys.enable_auth_method("userpass")
    root.adapter.post("/v1/auth/userpass/users/ada", json={"password": "engine", "token_policies": ["default"]})
    person = root.auth.userpass.login("ada", "engine", use_token=False)["auth"]
    root.adapter.post("/v1/identity/oidc/assignment/all", json={"entity_ids": [person["entity_id"]]})
    root.adapter.post("/v1/identity/oidc/key/login", json={"allowed_client_ids": ["*"]})
    root.adapter.post(
        "/v1/identity/oidc/client/ol",
        json={"redirect_uris": [redirect], "assignments": ["all"], "key": "login"},
    )
    client: dict[str, str] = root.adapter.get("/v1/identity/oidc/client/ol")["data"]
    root.adapter.post("/v1/identity/oidc/provider/campus", json={"allowed_client_ids": [client["client_id"]]})
    enable(root, "oidc", "oidc")
    root.auth.jwt.configure(
        oidc_discovery_url=f"{root.url}/v1/identity/oidc/provider/campus",
        oidc_client_id=client["client_id"],
        oidc_client_secret=client["client_secret"],
        default_role="people",
        path="oidc",
    )
    root.auth.jwt.create_role("people", "sub", [redirect], role_type="oidc", token_policies=["reader"], path="oidc")
    return str(person["client_token"]), port


class Person:
    """Opens the address as a person would who is logged in to the provider already."""

    def __init__(self, provider: str, token: str, *, refuse: bool = False) -> None:
        self.provider, self.token, self.refuse = provider, token, refuse

    def open(self, address: str) -> None:
        Thread(target=self._open, args=(address,), daemon=True).start()

    def _open(self, address: str) -> None:
        asked = {key: values[0] for key, values in parse_qs(urlsplit(address).query).items()}
        back = {"error": "access_denied", "state": asked["state"]}
        if not self.refuse:
            url = f"{self.provider}/v1/identity/oidc/provider/campus/authorize"
            back = requests.get(url, params=asked, headers={"X-Vault-Token": self.token}, timeout=10).json()
        redirect = asked["redirect_uri"].replace("localhost", "127.0.0.1")
        requests.get(redirect.rpartition("/")[0] + "/favicon.ico", timeout=10)
        requests.get(redirect, params=back, timeout=10)


def test_a_person_logs_in_through_the_browser(
    root: hvac.Client, backend: Backend, people: tuple[str, int], tmp_path: Path
) -> None:
    token, port = people
    stated = backend({"method": "oidc", "role": "people", "mount": "oidc"})
    with pytest.raises(PermanentFailure, match=r"nobody is logged in to .*; run `ol secrets login`"):
        read(stated, XDG_CACHE_HOME=str(tmp_path))

    client = VaultClient(stated, variables={"XDG_CACHE_HOME": str(tmp_path)})
    file = client.log_in_person(Browser(Person(root.url, token).open, port, 20))

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one.name for one in file.parent.iterdir()] == [file.name]
    assert read(stated, XDG_CACHE_HOME=str(tmp_path)) == CANARY
    kept = json.loads(file.read_text())
    file.write_text(json.dumps({**kept, "expires_at": time.time() - 1}))
    with pytest.raises(PermanentFailure, match="has expired; run `ol secrets login`"):
        read(stated, XDG_CACHE_HOME=str(tmp_path))
    client = VaultClient(stated, variables={"XDG_CACHE_HOME": str(file)})
    with pytest.raises(PermanentFailure, match=r"the token cannot be kept in .*: Not a directory; set XDG_CACHE_HOME"):
        client.log_in_person(Browser(Person(root.url, token).open, port, 20))


def test_a_person_who_is_refused_or_does_not_come_is_told(
    root: hvac.Client, backend: Backend, people: tuple[str, int]
) -> None:
    client = VaultClient(backend({"method": "oidc", "role": "people", "mount": "oidc"}))

    with pytest.raises(PermanentFailure, match="the provider refused: access_denied"):
        client.log_in_person(Browser(Person(root.url, "", refuse=True).open, people[1], 20))
    with pytest.raises(PermanentFailure, match="nobody logged in within 0 s"):
        client.log_in_person(Browser(lambda _: None, people[1], 0.3))
    with pytest.raises(PermanentFailure, match=r"login by token .* needs no person"):
        VaultClient(backend()).log_in_person(Browser(lambda _: None, people[1]))


def test_aws_logs_in_with_a_signed_request_for_its_identity(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The contract: https://developer.hashicorp.com/vault/api-docs/auth/aws#login."""
    asked: list[tuple[str, dict[str, str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self._answer({"auth": {"client_token": "of-aws", "lease_duration": 600, "renewable": True}})

        def do_GET(self) -> None:
            assert self.headers["X-Vault-Token"] == "of-aws"
            data: dict[str, object] = {REF.key: CANARY}
            if "mounts" in self.path:
                data = {"options": {"version": "1"}}
            self._answer({"data": data})

        def _answer(self, content: object) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-aws")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        auth = {"method": "aws", "role": "dagster", "mount": "aws", "region": "eu-west-1"}
        url = f"http://127.0.0.1:{server.server_port}"
        assert read(backend(auth, url=url)) == CANARY
        server.shutdown()

    ((path, body),) = asked
    headers = json.loads(base64.b64decode(body["iam_request_headers"]))
    assert path == "/v1/auth/aws/login"
    assert (body["role"], body["iam_http_request_method"]) == ("dagster", "POST")
    assert base64.b64decode(body["iam_request_url"]).decode().startswith("https://sts")
    assert base64.b64decode(body["iam_request_body"]) == b"Action=GetCallerIdentity&Version=2011-06-15"
    assert "/eu-west-1/sts/aws4_request" in str(headers["Authorization"])
    assert "canary-aws" not in json.dumps(body) + str(headers)


def test_aws_credentials_that_cannot_be_had_are_told(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stated = backend({"method": "aws", "role": "dagster", "mount": "aws", "region": "eu-west-1"})
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(PermanentFailure, match=r"the AWS login gets no credentials: .*nobody.* could not be found"):
        read(stated)

    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/dagster")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "none"))
    with pytest.raises(PermanentFailure, match=r"the AWS login gets no credentials: .*No such file"):
        read(stated)


@pytest.fixture
def environment_file(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[dict[str, str]], None]:
    """State an environment `ci` whose secrets are those of the server."""

    def write(auth: dict[str, str]) -> None:
        deployment = Path(__file__).parents[4] / "deployments" / "ci" / "environment.toml"
        stated = deployment.read_text().replace("http://127.0.0.1:8200", str(backend().url))
        entries = ", ".join(f'{key} = "{value}"' for key, value in auth.items())
        file = tmp_path / "environment.toml"
        file.write_text(stated.replace('auth = { method = "token" }', f"auth = {{ {entries} }}"))
        monkeypatch.setenv("DAGSTER_ENV", "ci")
        monkeypatch.setenv("OL_ENVIRONMENT_FILE", str(file))

    return write


def test_the_command_says_which_secrets_are_there(
    root: hvac.Client, environment_file: Callable[[dict[str, str]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = (
        'path "secret/data/learn" { capabilities = ["read"] }\npath "secret/data/catalog" { capabilities = ["read"] }'
    )
    root.sys.create_or_update_policy("some", policy)
    root.secrets.kv.v2.create_or_update_secret("learn", secret={"webhook_secret": CANARY})
    environment_file({"method": "token"})
    monkeypatch.setenv("VAULT_TOKEN", root.auth.token.create(policies=["some"])["auth"]["client_token"])

    done = CliRunner().invoke(main, ["secrets", "check", "--json"])
    rows = {row["secret"]: row for row in json.loads(done.stdout)}

    assert done.exit_code == 1
    assert {secret: row["state"] for secret, row in rows.items() if row["package"] == "ol-core"} == {
        "learn#webhook_secret": "found",
        "catalog#credential": "missing",
    }
    assert all(row["state"] == "forbidden" for row in rows.values() if row["package"] != "ol-core")
    assert CANARY not in done.output
