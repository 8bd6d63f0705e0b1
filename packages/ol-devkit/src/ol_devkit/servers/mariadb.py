"""MariaDB, from the Debian packages of its server and its client, or whatever brings `mariadbd`."""

import secrets
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ol_devkit.servers.certificates import certificates
from ol_devkit.servers.process import Restartable, ServerUnavailable, find_command, free_ports, running
from ol_devkit.servers.unprivileged import hand_over, unprivileged

_PACKAGE = "the Debian package mariadb-server"
_ACCOUNT = "mysql"
_FOLDERS = (Path("/usr/sbin"), Path("/usr/local/sbin"))


class MariaDbServer(Restartable):
    """A server on a loopback port.

    Attributes:
        host: Its address.
        port: Its port; the same after a restart.
        user: Its administrator, from any host.
        password: The administrator's password.
        ca_file: What vouches for its certificate, which is that of `localhost` alone; None where it has no TLS.
    """

    def __init__(self, folder: Path, *, tls: bool) -> None:
        self.host, self.port = "127.0.0.1", free_ports(1)[0]
        self.user, self.password = "admin", secrets.token_hex(8)
        made = certificates(folder, "localhost") if tls else None
        self.ca_file = made.ca_file if made else None
        self._socket = folder / "socket"
        hand_over(folder, _ACCOUNT)
        place = ["--no-defaults", f"--datadir={folder / 'data'}", f"--tmpdir={folder}"]
        self._make(place)
        command = [
            *unprivileged(_ACCOUNT),
            mariadb_command("mariadbd"),
            *place,
            f"--bind-address={self.host}",
            f"--port={self.port}",
        ]
        command += [f"--socket={self._socket}", "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0"]
        if made:
            command += [f"--ssl-cert={made.certificate_file}", f"--ssl-key={made.key_file}", f"--ssl-ca={made.ca_file}"]
        else:
            command.append("--skip-ssl")
        super().__init__(
            lambda: running(command, log=folder / "mariadb.log", ready=self._answers), stop_signal=signal.SIGTERM
        )

    def execute(self, sql: str, *, database: str = "mysql") -> str:
        """Run statements over the server's socket as root; return what they answer, tab-separated without headers.

        Raises:
            subprocess.CalledProcessError: a statement failed; `stderr` says why.
        """
        return self._run(sql, f"--database={database}", check=True).stdout.strip()

    def create_database(self) -> str:
        """Create an empty database; return its name."""
        name = f"db_{secrets.token_hex(4)}"
        self.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        return name

    def _answers(self) -> bool:
        return self._run("SELECT 1", check=False).returncode == 0

    def _run(self, sql: str, *options: str, check: bool) -> "subprocess.CompletedProcess[str]":
        place = [f"--socket={self._socket}", "--user=root", *options]
        command = [mariadb_command("mariadb"), "--no-defaults", "--batch", "--skip-column-names", *place]
        return subprocess.run(command, input=sql, capture_output=True, text=True, check=check)  # noqa: S603

    @staticmethod
    def _make(place: list[str]) -> None:
        options = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        command = [*unprivileged(_ACCOUNT), mariadb_command("mariadb-install-db"), *place, *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own server
        if done.returncode:
            raise ServerUnavailable(f"mariadb-install-db failed:\n{done.stdout}{done.stderr}")


@contextmanager
def mariadb(*, tls: bool = False) -> Iterator[MariaDbServer]:
    """Run a server until the block ends, with its data in a temporary folder: the path of a socket must be short.

    Raises:
        ServerUnavailable: it is not installed, or did not start.
    """
    mariadb_command("mariadbd")
    with tempfile.TemporaryDirectory(prefix="ol-mariadb-") as folder, MariaDbServer(Path(folder), tls=tls) as server:
        account = f"{server.user}@'%' IDENTIFIED BY '{server.password}'"
        server.execute(f"GRANT ALL ON *.* TO {account} WITH GRANT OPTION")
        yield server


def mariadb_command(name: str) -> str:
    """Return the path of a command of MariaDB.

    Raises:
        ServerUnavailable: it is not installed.
    """
    return find_command(name, package=_PACKAGE, elsewhere=_FOLDERS)
