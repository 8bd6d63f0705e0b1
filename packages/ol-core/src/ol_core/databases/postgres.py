"""PostgreSQL through psycopg: named cursors, session settings, and what an SQLSTATE means."""

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from ol_core.databases.columns import Column
from ol_core.databases.credentials import Account
from ol_core.databases.driver import (
    CANNOT,
    LATER,
    UNFIT,
    VERIFIED,
    Connection,
    Cursor,
    Driver,
    LoginRefused,
    Meaning,
    Parameters,
)
from ol_core.databases.postgres_types import columns_of, load_the_rest_as_text
from ol_core.failures import PermanentFailure, TransientFailure, UpstreamMissing

if TYPE_CHECKING:
    import psycopg

_CERTIFICATE = Meaning(PermanentFailure, "give the ca_file that vouches for it (now {ca_file}), and the host it names")

_STATES = {
    "25006": Meaning(PermanentFailure, "the resource is read only; set read_only=False where it may write"),
    "25P03": Meaning(TransientFailure, "a batch was worked on for too long; take smaller batch_rows"),
    "3F000": Meaning(UpstreamMissing, "name a schema that it has"),
    "42501": Meaning(PermanentFailure, "grant SELECT on {relation} to {grantee}"),
    "42601": Meaning(PermanentFailure, "`stream` takes one SELECT; `execute` takes the others"),
    "42703": Meaning(UpstreamMissing, "name the columns that it has"),
    "42P01": Meaning(UpstreamMissing, "name one that it has, with its schema"),
    "53300": Meaning(TransientFailure, "lower max_connections, or raise the server's"),
    "57014": Meaning(
        TransientFailure,
        "it was cancelled, or took longer than statement_timeout_seconds={statement_timeout_seconds:g}: "
        "ask for less, or allow more",
    ),
}
_CLASSES = {
    "08": LATER, "28": Meaning(LoginRefused, "check {origin}"), "40": LATER, "53": LATER, "55": LATER, "57": LATER,
    "58": LATER,
}  # fmt: skip

_CONNECTING = (
    (
        "password authentication failed|role .* (does not exist|is not permitted to log in)",
        Meaning(LoginRefused, "check {origin}"),
    ),
    ("database .* does not exist", Meaning(UpstreamMissing, "name one that it has")),
    ("permission denied for database", Meaning(PermanentFailure, "grant CONNECT on {relation} to {grantee}")),
    ("no pg_hba.conf entry", Meaning(PermanentFailure, "let its pg_hba.conf admit {user} from this host, over TLS")),
    ("does not support SSL", Meaning(PermanentFailure, "switch TLS on there; it is off only with tls=disable here")),
    ("certificate", _CERTIFICATE),
    ("too many (connections|clients)|connection slots", _STATES["53300"]),
)
"""libpq gives no SQLSTATE for a connection that failed; what matches none of these is taken for the network."""


class PostgresDriver(Driver):
    """Speaks to PostgreSQL."""

    product = "PostgreSQL"
    scheme = "postgresql+psycopg"

    def connect(self, account: Account) -> Connection:
        """See `Driver.connect`."""
        import psycopg

        target = self.target
        connection = psycopg.connect(
            host=target.host,
            port=target.port,
            dbname=target.database,
            user=account.user,
            password=account.password,
            sslmode=target.tls,
            sslrootcert=target.ca_file if target.tls in VERIFIED else "",
            connect_timeout=target.connect_timeout_seconds,
            client_encoding="utf8",
            application_name="ol-core",
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
        )
        load_the_rest_as_text(connection)
        return connection

    def prepare(self, connection: Connection) -> None:
        """See `Driver.prepare`; the settings hold for the session, so that a proxy need not know options."""
        target = self.target
        settings = {
            "cursor_tuple_fraction": "1",  # plans are made for all rows, not for the first ones
            "statement_timeout": f"{target.statement_timeout_seconds * 1000:.0f}",
            "default_transaction_read_only": "on" if target.read_only else "off",
            "timezone": "UTC",
            "datestyle": "ISO",
            "intervalstyle": "postgres",
            "extra_float_digits": "3",
        }
        asked = ", ".join(["set_config(%s, %s, false)"] * len(settings))
        stated = [word for setting in settings.items() for word in setting]
        connection.autocommit = True
        connection.execute(f"SELECT {asked}".encode(), stated, prepare=False)  # a proxy may not know such either
        connection.autocommit = False

    def open(self, connection: Connection, sql: str, parameters: Parameters) -> "psycopg.ServerCursor":
        """See `Driver.open`."""
        import psycopg

        cursor: psycopg.ServerCursor = connection.cursor(name="ol_stream")
        try:
            self.run(cursor, sql, parameters)
        except (psycopg.Error, PermanentFailure):
            self.abandon(cursor)
            raise
        return cursor

    def columns(self, cursor: Cursor) -> list[Column]:
        """See `Driver.columns`."""
        return columns_of(cursor.description or [], cursor.adapters.types)

    def abandon(self, cursor: Cursor) -> None:
        """See `Driver.abandon`; psycopg warns of one that is left open."""
        import psycopg

        with suppress(psycopg.Error):
            cursor.close()

    def meaning(self, error: Exception) -> tuple[Meaning, str]:
        """See `Driver.meaning`."""
        import psycopg

        assert isinstance(error, psycopg.Error)  # noqa: S101 - for the type checker
        said = error.diag.message_primary or str(error).strip().partition("\n")[0]
        if state := error.sqlstate:
            return _STATES.get(state) or _CLASSES.get(state[:2], CANNOT), said
        if isinstance(error, psycopg.OperationalError):
            return next((meaning for words, meaning in _CONNECTING if re.search(words, str(error))), LATER), said
        if isinstance(error, psycopg.ProgrammingError):
            return UNFIT, said
        return Meaning(PermanentFailure, "cast the column in the query, such as to text"), said

    def relation(self, said: str) -> str:
        """See `Driver.relation`."""
        found = re.search(r"permission denied for (?:relation )?(\S+ \S+)", said)
        return found[1] if found else "it"
