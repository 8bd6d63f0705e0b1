"""MySQL and MariaDB through PyMySQL: unbuffered cursors, session settings, and what an error's number means."""

import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ol_core.databases.columns import Column
from ol_core.databases.credentials import Account
from ol_core.databases.driver import (
    CANNOT,
    LATER,
    VERIFIED,
    Connection,
    Cursor,
    Driver,
    LoginRefused,
    Meaning,
    Parameters,
)
from ol_core.databases.mysql_types import columns_of
from ol_core.failures import PermanentFailure, TransientFailure, UpstreamMissing

if TYPE_CHECKING:
    import pymysql.cursors

_BATCH_SECONDS = 3600
"""How long a batch may be worked on before the server gives the connection up; its own default is a minute."""

_ANSWER_SECONDS = 30
"""How long an answer may take beyond the statement's own time."""

_LOGIN = Meaning(LoginRefused, "check {origin}")
_GRANT = Meaning(PermanentFailure, "grant it to {grantee}")
_MISSING = Meaning(UpstreamMissing, "name what it has")
_READ_ONLY = Meaning(PermanentFailure, "the resource is read only; set read_only=False where it may write")
_TOO_MANY = Meaning(TransientFailure, "lower max_connections, or raise the server's")
_TIMEOUT = Meaning(
    TransientFailure,
    "it took longer than statement_timeout_seconds={statement_timeout_seconds:g}, its rows included: "
    "ask for less, or allow more",
)
_CERTIFICATE = Meaning(PermanentFailure, "give the ca_file that vouches for it (now {ca_file}), and the host it names")

_NUMBERS = {
    1040: _TOO_MANY,
    1044: _GRANT,
    1045: _LOGIN,
    1049: _MISSING,
    1054: _MISSING,
    1130: Meaning(PermanentFailure, "let its accounts admit {user} from this host"),
    1142: _GRANT,
    1143: _GRANT,
    1146: _MISSING,
    1203: _TOO_MANY,
    1226: _TOO_MANY,
    1227: _GRANT,
    1290: _READ_ONLY,
    1317: Meaning(TransientFailure, "it was cancelled; try again later"),
    1698: _LOGIN,
    1792: _READ_ONLY,
    1969: _TIMEOUT,
    2026: Meaning(PermanentFailure, "switch TLS on there; it is off only with tls=disable here"),
    3024: _TIMEOUT,
} | dict.fromkeys(
    # out of memory or disk, shutdown, network, locks, a killed connection, a server that is away
    (1021, 1037, 1038, 1041, 1053, 1129, 1152, 1158, 1159, 1160, 1161, 1205, 1213, 1927, 2003, 2006, 2013, 2055, 4031),
    LATER,
)
"""By https://mariadb.com/kb/en/mariadb-error-code-reference/ and https://dev.mysql.com/doc/mysql-errors/8.4/en/."""


class MySqlDriver(Driver):
    """Speaks to MySQL or MariaDB."""

    product = "MySQL"
    scheme = "mysql+pymysql"

    def connect(self, account: Account) -> Connection:
        """See `Driver.connect`."""
        import pymysql
        from pymysql.converters import encoders

        target = self.target
        patience = target.statement_timeout_seconds + _ANSWER_SECONDS
        conversions: dict[Any, Any] = {**encoders, datetime: _in_session_zone}
        connection: Connection = pymysql.connect(
            host=target.host,
            port=target.port,
            database=target.database,
            user=account.user,
            password=account.password.encode(),
            charset="utf8mb4",
            conv=conversions,  # and no decoders: Arrow reads what the server writes
            ssl=self._tls(),
            ssl_disabled=target.tls == "disable",
            connect_timeout=target.connect_timeout_seconds,
            read_timeout=patience,
            write_timeout=patience,
        )
        return connection

    def prepare(self, connection: Connection) -> None:
        """See `Driver.prepare`."""
        target = self.target
        milliseconds, mariadb = target.statement_timeout_seconds * 1000, "MariaDB" in connection.server_version
        timeout = f"max_statement_time={milliseconds / 1000:g}" if mariadb else f"max_execution_time={milliseconds:.0f}"
        with connection.cursor() as cursor:
            cursor.execute(f"SET SESSION time_zone='+00:00', net_write_timeout={_BATCH_SECONDS}, {timeout}")
            cursor.execute(f"SET SESSION TRANSACTION READ {'ONLY' if target.read_only else 'WRITE'}")

    def open(self, connection: Connection, sql: str, parameters: Parameters) -> "pymysql.cursors.SSCursor":
        """See `Driver.open`."""
        from pymysql.cursors import SSCursor

        cursor: SSCursor = connection.cursor(SSCursor)
        self.run(cursor, sql, parameters)
        return cursor

    def columns(self, cursor: Cursor) -> list[Column]:
        """See `Driver.columns`."""
        if cursor.description is None:
            return []
        return columns_of(cursor._result.fields)  # noqa: SLF001 - nothing else tells unsigned and binary columns

    def abandon(self, cursor: Cursor) -> None:
        """See `Driver.abandon`; PyMySQL would read all rows that are left."""
        if cursor._result is not None:  # noqa: SLF001 - nothing else stops it
            cursor._result.unbuffered_active = False  # noqa: SLF001 - nothing else stops it

    def meaning(self, error: Exception) -> tuple[Meaning, str]:
        """See `Driver.meaning`."""
        number, said = (*error.args, "", "")[:2]
        if isinstance(getattr(error, "original_exception", None), ssl.SSLError):
            return _CERTIFICATE, str(said)
        return _NUMBERS.get(number, CANNOT), str(said or error)

    def _tls(self) -> ssl.SSLContext | None:
        if self.target.tls == "disable":
            return None
        verified, ca_file = self.target.tls in VERIFIED, self.target.ca_file
        try:
            context = ssl.create_default_context(cafile=ca_file if verified else None)
        except OSError as error:
            raise PermanentFailure(
                f"{self.product} {self.target.database}: no certificates can be read from the ca_file {ca_file} "
                f"({error.strerror}); write those there that vouch for {self.target.host}"
            ) from error
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # MySQL makes authorities that are not as strict
        context.check_hostname = self.target.tls == "verify-full"
        context.verify_mode = ssl.CERT_REQUIRED if verified else ssl.CERT_NONE
        return context


def _in_session_zone(value: datetime, _: object) -> str:
    """Write a time of any zone as UTC; MySQL has no other way to tell it."""
    from pymysql.converters import escape_datetime

    return escape_datetime(value.astimezone(UTC) if value.tzinfo else value)
