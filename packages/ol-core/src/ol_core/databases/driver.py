"""What differs between database servers: how to connect, how to stream a result, what their errors mean."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from ol_core.databases.columns import Column
from ol_core.databases.credentials import Account
from ol_core.failures import OlError, PermanentFailure, TransientFailure

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

Tls: TypeAlias = Literal["verify-full", "verify-ca", "require", "disable"]
Parameters: TypeAlias = Mapping[str, object] | Sequence[object] | None
Connection: TypeAlias = Any
Cursor: TypeAlias = Any
"""Connections and cursors are those of a DB-API driver, whose types agree on nothing."""

VERIFIED = frozenset({"verify-full", "verify-ca"})


class LoginRefused(PermanentFailure):
    """The server does not know the account, or its password."""


@dataclass(frozen=True, slots=True)
class Target:
    """Which database, and how it is spoken to; the fields are those of `DatabaseResource`."""

    host: str
    port: int
    database: str
    tls: Tls
    ca_file: str
    read_only: bool
    statement_timeout_seconds: float
    connect_timeout_seconds: int


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an error of a server means.

    Attributes:
        failure: Of which kind it is.
        advice: What to do next; `{user}`, `{grantee}`, `{origin}`, `{relation}`, `{ca_file}` and
            `{statement_timeout_seconds}` are filled in.
    """

    failure: type[OlError]
    advice: str


LATER = Meaning(TransientFailure, "try again later")
CANNOT = Meaning(PermanentFailure, "correct the statement")
UNFIT = Meaning(PermanentFailure, "give each %(name)s or %s its value, and write %% for a percent sign")


class Driver(ABC):
    """Speaks to one database through a DB-API driver.

    Attributes:
        product: What messages call the server.
        scheme: What SQLAlchemy calls it and its driver.
    """

    product: ClassVar[str]
    scheme: ClassVar[str]

    def __init__(self, target: Target) -> None:
        self.target = target

    @cached_property
    def dialect(self) -> "Dialect":
        """What SQLAlchemy's pool needs to know of the driver: how to ping, and which error is a lost connection."""
        from sqlalchemy import make_url

        kind: Any = make_url(f"{self.scheme}://").get_dialect()
        dialect: Dialect = kind(dbapi=kind.import_dbapi())
        return dialect

    @abstractmethod
    def connect(self, account: Account) -> Connection:
        """Open a connection; raises the driver's errors."""

    @abstractmethod
    def prepare(self, connection: Connection) -> None:
        """Make the target's settings, which the last statement may have changed; raises the driver's errors."""

    @abstractmethod
    def open(self, connection: Connection, sql: str, parameters: Parameters) -> Cursor:
        """Run a query; return a cursor that fetches its rows from the server as they are asked for."""

    def run(self, cursor: Cursor, sql: str, parameters: Parameters) -> None:
        """Run a statement; an empty set of parameters is none. Raises the driver's errors.

        Raises:
            PermanentFailure: the statement and its parameters do not fit.
        """
        try:
            cursor.execute(sql, parameters or None)
        except (LookupError, TypeError, ValueError) as error:
            problem = f"the statement does not fit its parameters ({type(error).__name__}: {error})"
            raise UNFIT.failure(f"{self.product} {self.target.database}: {problem}; {UNFIT.advice}") from error

    @abstractmethod
    def columns(self, cursor: Cursor) -> list[Column]:
        """Return the columns of a result, also of one without rows; empty where a statement has no result."""

    @abstractmethod
    def meaning(self, error: Exception) -> tuple[Meaning, str]:
        """Return what an error means, and what the server said, without its details."""

    def relation(self, said: str) -> str:
        """Return the relation that the server's words name."""
        del said
        return "it"

    def abandon(self, cursor: Cursor) -> None:  # noqa: B027 - closing the connection is mostly enough
        """Let go of a cursor whose rows nobody reads any more; its connection is closed next."""

    @contextmanager
    def translated(self, account: Account) -> Iterator[None]:
        """Translate what the driver raises.

        Raises:
            UpstreamMissing: the database, or a relation or column of it, does not exist.
            LoginRefused: the server does not accept the account.
            PermanentFailure: it lacks a grant, the statement writes or is wrong, or the server's certificate is.
            TransientFailure: the server is away or busy, ended the connection, or took too long.
        """
        try:
            yield
        except self.dialect.loaded_dbapi.Error as error:
            meaning, said = self.meaning(error)
            advice = meaning.advice.format(
                user=account.user,
                grantee=account.grantee,
                origin=account.origin,
                relation=self.relation(said),
                ca_file=self.target.ca_file,
                statement_timeout_seconds=self.target.statement_timeout_seconds,
            )
            raise meaning.failure(f"{self.named(account)}: {said}; {advice}") from error

    def named(self, account: Account) -> str:
        """Return how messages call the database."""
        at = f"{self.target.host}:{self.target.port}"
        return f"{self.product} {self.target.database} at {at} as {account.user} ({account.origin})"

    def require_ca_file(self) -> None:
        """Check that what is to vouch for the server can be read.

        Raises:
            PermanentFailure: there is no such file.
        """
        if self.target.tls in VERIFIED and not Path(self.target.ca_file).is_file():
            raise PermanentFailure(
                f"{self.product} {self.target.database}: there is no ca_file {self.target.ca_file}; write the "
                f"certificates there that vouch for {self.target.host}"
            )
