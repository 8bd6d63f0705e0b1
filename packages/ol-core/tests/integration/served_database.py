"""A database of a real server, whichever it is, for tests that hold for both."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any

from ol_core.databases import DatabaseResource, MySQLResource, PostgresResource
from ol_core.secrets import LocalSecrets
from ol_devkit.servers.mariadb import MariaDbServer
from ol_devkit.servers.postgres import PostgresServer

CANARY = "canary-8123"


@dataclass
class ServedDatabase:
    """A database of its own on a running server, and resources that read it.

    Attributes:
        folder: Where the secrets are.
        numbers: A query of so many rows (id, text), which no table holds.
        kill: A statement that ends all connections of `{user}`.
    """

    server: PostgresServer | MariaDbServer
    kind: type[DatabaseResource]
    name: str
    folder: Path
    numbers: Callable[[int], str]
    kill: str
    _open: list[DatabaseResource] = field(default_factory=list)

    def resource(self, **changed: Any) -> DatabaseResource:
        """Return a resource of the administrator, or of the account `reader`."""
        stated = {
            "host": "localhost",
            "port": self.server.port,
            "database": self.name,
            "user": "db#user",
            "password": "db#password",
            "ca_file": str(self.server.ca_file or ""),
            "secrets": self.secrets(),
        }
        if changed.get("tls", "verify-full") in {"require", "disable"}:
            del stated["ca_file"]
        made = self.kind(**{**stated, **changed})
        self._open.append(made)
        return made

    def secrets(self, user: str = "", password: str = "") -> LocalSecrets:
        """Return secrets that hold an account under `db`."""
        user = user or self.server.user
        file = self.folder / f"{token_hex(4)}.toml"
        file.write_text(f'[db]\nuser = "{user}"\npassword = "{password or self.server.password}"\n')
        file.chmod(0o600)
        return LocalSecrets(file=str(file))

    def reader(self, *, may_read: bool = False) -> LocalSecrets:
        """Make an account that may connect, and read at most; return its secrets."""
        name = f"reader_{self.name}"
        if isinstance(self.server, PostgresServer):
            self.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{CANARY}'")
        else:
            granted = "*" if may_read else "common"  # without any grant, not even the database is there for it
            self.execute(f"CREATE TABLE common (id INT); CREATE USER {name}@'%' IDENTIFIED BY '{CANARY}'")
            self.execute(f"GRANT SELECT ON {self.name}.{granted} TO {name}@'%'")
        return self.secrets(name, CANARY)

    def execute(self, sql: str) -> str:
        """Run statements as the administrator, past the resources."""
        return self.server.execute(sql, database=self.name)

    def close(self) -> None:
        """Close what was made."""
        for one in self._open:
            one.close()


def postgres_database(server: PostgresServer, folder: Path) -> ServedDatabase:
    """Make a database on a PostgreSQL server."""
    return ServedDatabase(
        server,
        PostgresResource,
        server.create_database().name,
        folder,
        numbers=lambda count: f"SELECT n AS id, repeat('x', 100) AS text FROM generate_series(1, {count}) AS n",
        kill="SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{user}'",
    )


def mariadb_database(server: MariaDbServer, folder: Path) -> ServedDatabase:
    """Make a database on a MariaDB server."""
    return ServedDatabase(
        server,
        MySQLResource,
        server.create_database(),
        folder,
        numbers=lambda count: f"SELECT CAST(seq AS SIGNED) AS id, repeat('x', 100) AS text FROM seq_1_to_{count}",
        kill="KILL CONNECTION USER {user}",
    )


def sessions_end(server: PostgresServer, database: str) -> bool:
    """Whether no session of ol-core is left in a database; one ends a moment after its client has closed it."""
    for _ in range(300):
        counted = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ol-core' AND datname = "
        if server.execute(f"{counted}'{database}'") == "0":
            return True
        time.sleep(0.1)
    return False
