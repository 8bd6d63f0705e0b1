"""PostgreSQL, from the Debian package `postgresql` or whatever brings `initdb`."""

import os
import secrets
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ol_devkit.servers.certificates import certificates
from ol_devkit.servers.process import Restartable, ServerUnavailable, find_command, free_ports, running
from ol_devkit.servers.unprivileged import hand_over, unprivileged

_PACKAGE = "the Debian package postgresql"
_ACCOUNT = "postgres"


@dataclass(frozen=True, slots=True)
class PostgresDatabase:
    """A database of a running server, and its administrator."""

    host: str
    port: int
    name: str
    user: str
    password: str = field(repr=False)

    @property
    def url(self) -> str:
        """Address with the password, as libpq reads it."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{self.name}"


class PostgresServer(Restartable):
    """A server on a loopback port.

    Attributes:
        host: Its address.
        port: Its port; the same after a restart.
        user: Its administrator.
        password: The administrator's password.
        ca_file: What vouches for its certificate, which is that of `localhost` alone; None where it has no TLS.
    """

    def __init__(self, folder: Path, *, tls: bool) -> None:
        self.host, self.port = "127.0.0.1", free_ports(1)[0]
        self.user, self.password = _ACCOUNT, secrets.token_hex(8)
        made = certificates(folder, "localhost") if tls else None
        self.ca_file = made.ca_file if made else None
        settings = {"listen_addresses": self.host, "unix_socket_directories": "", "fsync": "off"}
        if made:
            settings |= {"ssl": "on", "ssl_cert_file": str(made.certificate_file), "ssl_key_file": str(made.key_file)}
        self._make(folder)
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = [
            *unprivileged(_ACCOUNT),
            postgres_command("postgres"),
            "-D",
            str(folder / "data"),
            "-p",
            str(self.port),
            *options,
        ]
        super().__init__(
            lambda: running(command, log=folder / "postgres.log", ready=self._answers),
            stop_signal=signal.SIGINT,  # ends sessions; SIGTERM would wait for them
        )

    def execute(self, sql: str, *, database: str = "postgres") -> str:
        """Run statements as the administrator; return what they answer, unaligned and without headers.

        Raises:
            subprocess.CalledProcessError: a statement failed; `stderr` says why.
        """
        place = ["-h", self.host, "-p", str(self.port), "-U", self.user, "-d", database]
        command = [postgres_command("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *place]
        variables = {"PATH": os.defpath, "PGPASSWORD": self.password}
        done = subprocess.run(command, input=sql, env=variables, capture_output=True, text=True, check=True)  # noqa: S603
        return done.stdout.strip()

    def create_database(self) -> PostgresDatabase:
        """Create an empty database under a name of its own."""
        name = f"db_{secrets.token_hex(4)}"
        self.execute(f"CREATE DATABASE {name}")
        return PostgresDatabase(self.host, self.port, name, self.user, self.password)

    def _answers(self) -> bool:
        command = [postgres_command("pg_isready"), "-q", "-h", self.host, "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0  # noqa: S603 - our own server

    def _make(self, folder: Path) -> None:
        """Make its files, owned by who may run it."""
        secret = folder / "password"
        secret.write_text(self.password)
        hand_over(folder, _ACCOUNT)
        command = [
            *unprivileged(_ACCOUNT),
            postgres_command("initdb"),
            "-D",
            str(folder / "data"),
            "-U",
            self.user,
            "-E",
            "UTF8",
        ]
        command += ["--locale=C.UTF-8", "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            raise ServerUnavailable(f"initdb failed:\n{done.stdout}{done.stderr}")


@contextmanager
def postgres(*, tls: bool = False) -> Iterator[PostgresServer]:
    """Run a server until the block ends, with its data in a temporary folder: root's own it may not enter.

    Raises:
        ServerUnavailable: it is not installed, or did not start.
    """
    postgres_command("initdb")
    with tempfile.TemporaryDirectory(prefix="ol-postgres-") as folder, PostgresServer(Path(folder), tls=tls) as server:
        yield server


def postgres_command(name: str) -> str:
    """Return the path of a command of PostgreSQL; Debian keeps the server's in a folder for each version.

    Raises:
        ServerUnavailable: it is not installed.
    """
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    return find_command(name, package=_PACKAGE, elsewhere=versions)
