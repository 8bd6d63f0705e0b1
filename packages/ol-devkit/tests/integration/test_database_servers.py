"""Launchers of PostgreSQL and MariaDB: what they leave running, and what they leave behind."""

import socket
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from ol_devkit.pytest_plugin import skipped_where_missing
from ol_devkit.servers.mariadb import MariaDbServer, mariadb, mariadb_command
from ol_devkit.servers.postgres import PostgresServer, postgres, postgres_command
from ol_devkit.servers.process import ServerUnavailable, find_command

Start = Callable[..., AbstractContextManager[PostgresServer | MariaDbServer]]


@pytest.fixture(params=[postgres, mariadb], ids=["postgres", "mariadb"])
def start(request: pytest.FixtureRequest) -> Start:
    with skipped_where_missing():
        postgres_command("initdb") if request.param is postgres else mariadb_command("mariadbd")
    started: Start = request.param
    return started


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_server_keeps_its_port_and_its_data_when_it_is_restarted(start: Start) -> None:
    with start() as server:
        first, second = server.create_database(), server.create_database()
        assert first != second
        server.execute("CREATE TABLE kept (id INT); INSERT INTO kept VALUES (7)", database=name_of(first))
        server.stop()
        assert not listens(server.port)
        server.start()
        server.restart()
        assert server.execute("SELECT id FROM kept", database=name_of(first)) == "7"
        assert server.ca_file is None
    assert not listens(server.port)


def name_of(database: object) -> str:
    return str(getattr(database, "name", database))


def test_nothing_is_left_behind(start: Start) -> None:
    with start(tls=True) as server:
        assert server.ca_file is not None
        folder = server.ca_file.parent
        assert b"BEGIN CERTIFICATE" in server.ca_file.read_bytes()
    assert not folder.exists()


def test_a_statement_that_fails_says_so(start: Start) -> None:
    with start() as server, pytest.raises(subprocess.CalledProcessError) as caught:
        server.execute("SELECT nothing FROM nowhere")
    assert "nowhere" in caught.value.stderr


def test_a_database_of_postgres_is_reached_by_its_url(postgres_server: PostgresServer) -> None:
    database = postgres_server.create_database()
    command = [postgres_command("psql"), "-X", "-A", "-t", "-c", "SELECT current_database()", database.url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == database.name
    assert database.password not in repr(database)


def test_a_command_that_is_not_installed_is_named_with_what_brings_it(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("")
    (tmp_path / "there").chmod(0o755)

    assert find_command("there", package="a package", elsewhere=[tmp_path]) == str(tmp_path / "there")
    with pytest.raises(ServerUnavailable, match="not-there is not installed; a package brings it"):
        find_command("not-there", package="a package", elsewhere=[tmp_path])
