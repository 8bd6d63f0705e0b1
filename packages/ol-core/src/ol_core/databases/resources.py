"""The resources: one database each, whose connections live as long as the step that uses them."""

from abc import ABC, abstractmethod
from threading import RLock
from typing import TYPE_CHECKING, Any, Self

import dagster as dg
from pydantic import ConfigDict, Field, PrivateAttr, model_validator

from ol_core.databases.client import DatabaseClient
from ol_core.databases.credentials import Credentials, LeasedCredentials, StatedCredentials
from ol_core.databases.driver import VERIFIED, Driver, Parameters, Target, Tls
from ol_core.environment import SecretRef
from ol_core.secrets import Secrets

if TYPE_CHECKING:
    import pyarrow as pa


class DatabaseResource(dg.ConfigurableResource[Any], ABC):
    """A database to read from; needs the `databases` extra of ol-core.

    Nothing is asked before the first query. Either `user` and `password` say where an account is, or `vault_role`
    leases one when the first connection is opened.
    """

    model_config = ConfigDict(hide_input_in_errors=True)  # someone may take `password` for the place of one

    host: str = Field(description="Host name of the server; with tls=verify-full, one that its certificate names.")
    port: int = Field(description="Port of the server.")
    database: str = Field(description="Name of the database.")
    user: str = Field(default="", description="Where the account's name is, as path#key; empty where Vault leases one.")
    password: str = Field(default="", description="Where its password is, as path#key; empty where Vault leases one.")
    vault_role: str = Field(default="", description="Role of Vault's database engine that leases an account.")
    tls: Tls = Field(
        default="verify-full",
        description="verify-full: `ca_file` vouches for the server, and its certificate names `host`; verify-ca: any "
        "host that `ca_file` vouches for; require: encrypted, to whoever answers; disable: not encrypted.",
    )
    ca_file: str = Field(default="", description="Certificates that vouch for the server; empty unless it is verified.")
    read_only: bool = Field(
        default=True,
        description="Whether the server is to refuse whatever writes. A statement can lift that for itself, never for "
        "the next one; an account that must never write gets no grant to.",
    )
    statement_timeout_seconds: float = Field(
        default=900.0,
        ge=0.001,
        le=2_147_483,
        description="How long the server may work on a statement. PostgreSQL counts until a stream begins, then for "
        "each of its batches; MySQL counts until its last row is read.",
    )
    connect_timeout_seconds: int = Field(default=10, ge=2, description="How long opening a connection may take.")
    max_connections: int = Field(default=4, ge=1, description="Connections that a process opens at a time.")
    pool_timeout_seconds: float = Field(default=30.0, description="How long a query waits for one of them.")
    secrets: dg.ResourceDependency[Secrets]
    _client: DatabaseClient | None = PrivateAttr(default=None)
    _lock: RLock = PrivateAttr(default_factory=RLock)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if bool(self.vault_role) == bool(self.user and self.password):
            raise ValueError("state either user and password, both as path#key, or vault_role")
        for name in ("user", "password"):
            if getattr(self, name) and not all(getattr(self, name).rpartition("#")):
                raise ValueError(f"{name} is where the secret is, as path#key, never the secret")
        if (self.tls in VERIFIED) != bool(self.ca_file):
            raise ValueError(f"tls={self.tls}: state ca_file with verify-full and verify-ca, and with these alone")
        return self

    def stream(self, sql: str, parameters: Parameters = None, *, batch_rows: int = 10_000) -> "pa.RecordBatchReader":
        """Run a query; return its rows as Arrow record batches, as they come; see `DatabaseClient.stream`.

        Args:
            sql: One SELECT, with `%(name)s` or `%s` for parameters; without parameters, a `%` is a `%`.
            parameters: Their values.
            batch_rows: Rows of a batch; no more are held at a time.

        Raises:
            UpstreamMissing: the database, a relation or a column does not exist.
            PermanentFailure: login, grant, certificate or statement are refused, or a value fits no Arrow type.
            TransientFailure: the server is away or busy, ended the connection or took too long; also while reading.
        """
        if batch_rows < 1:
            raise ValueError(f"batch_rows is {batch_rows}; a batch has one row or more")
        return self.client.stream(sql, parameters, batch_rows=batch_rows)

    def execute(self, sql: str, parameters: Parameters = None) -> int:
        """Run a statement in a transaction of its own; return how many rows it changed.

        Raises:
            OlError: as `stream`; where the resource is read only, the server refuses what writes.
        """
        return self.client.execute(sql, parameters)

    @property
    def client(self) -> DatabaseClient:
        """The pool of this resource."""
        with self._lock:
            if self._client is None:
                self._client = DatabaseClient(
                    self._driver(self._target()),
                    self._credentials(),
                    max_connections=self.max_connections,
                    pool_timeout_seconds=self.pool_timeout_seconds,
                )
            return self._client

    def close(self) -> None:
        """Close the connections and give back what was leased; the next query connects anew."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Close the connections when the step is over."""
        del context
        self.close()

    @abstractmethod
    def _driver(self, target: Target) -> Driver: ...

    def _target(self) -> Target:
        return Target(
            host=self.host,
            port=self.port,
            database=self.database,
            tls=self.tls,
            ca_file=self.ca_file,
            read_only=self.read_only,
            statement_timeout_seconds=self.statement_timeout_seconds,
            connect_timeout_seconds=self.connect_timeout_seconds,
        )

    def _credentials(self) -> Credentials:
        if self.vault_role:
            return LeasedCredentials(self.secrets, self.vault_role)
        user, password = SecretRef.parse(self.user), SecretRef.parse(self.password)
        return StatedCredentials(self.secrets, user=user, password=password)


class PostgresResource(DatabaseResource):
    """A PostgreSQL database; columns become Arrow's as `ol_core.databases.postgres_types` says."""

    port: int = Field(default=5432, description="Port of the server.")

    def _driver(self, target: Target) -> Driver:
        from ol_core.databases.postgres import PostgresDriver

        return PostgresDriver(target)


class MySQLResource(DatabaseResource):
    """A MySQL or MariaDB database; columns become Arrow's as `ol_core.databases.mysql_types` says."""

    port: int = Field(default=3306, description="Port of the server.")

    def _driver(self, target: Target) -> Driver:
        from ol_core.databases.mysql import MySqlDriver

        return MySqlDriver(target)
