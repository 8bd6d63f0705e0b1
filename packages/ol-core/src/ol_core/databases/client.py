"""A pool of connections to one database, and queries whose rows stream through them."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ol_core.databases.columns import Column, record_batch, schema_of
from ol_core.databases.credentials import Account, Credentials
from ol_core.databases.driver import Connection, Cursor, Driver, LoginRefused, Parameters
from ol_core.failures import TransientFailure

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

_log = logging.getLogger(__name__)

_PROGRESS_SECONDS = 10.0
_RECYCLE_SECONDS = 1800


class DatabaseClient:
    """Runs queries on connections of a pool; connects when first asked.

    When a connection is taken from the pool it gets the target's settings, whatever was done to them; one that the
    server ended meanwhile, or whose account is no longer current, is replaced. One that failed, or whose stream was
    left before its end, does not go back to it.
    """

    def __init__(
        self, driver: Driver, credentials: Credentials, *, max_connections: int, pool_timeout_seconds: float
    ) -> None:
        from sqlalchemy import event
        from sqlalchemy.pool import QueuePool

        self._driver, self._credentials = driver, credentials
        self._max_connections, self._pool_timeout_seconds = max_connections, pool_timeout_seconds
        self._pool = QueuePool(
            self._connect,
            pool_size=max_connections,
            max_overflow=0,
            timeout=pool_timeout_seconds,
            recycle=_RECYCLE_SECONDS,
            pre_ping=True,
            dialect=driver.dialect,
        )
        event.listen(self._pool, "checkout", self._make_ready)

    def stream(self, sql: str, parameters: Parameters, *, batch_rows: int) -> "pa.RecordBatchReader":
        """Run a query; return its rows as they come, in batches. The schema is known even where there is no row.

        The connection is held until the last row is read, or nothing refers to the reader any more; to close the reader
        is not enough, since Arrow does not pass that on.

        Args:
            sql: A query, with `%(name)s` or `%s` for parameters; without parameters, a `%` is a `%`.
            parameters: Their values.
            batch_rows: Rows of a batch; this process holds one batch, and what its reader keeps.

        Raises:
            OlError: as `Driver.translated`; also while the rows are read.
            TransientFailure: all connections of the pool are in use.
            PermanentFailure: two columns have one name, or a value fits no Arrow type of its column.
        """
        import pyarrow as pa

        batches = self._batches(sql, parameters, batch_rows)
        return pa.RecordBatchReader.from_batches(next(batches), batches)

    def execute(self, sql: str, parameters: Parameters) -> int:
        """Run a statement in a transaction of its own; return how many rows it changed.

        Raises:
            OlError: as `stream`; where the target is read only, the server refuses what writes.
        """
        with self._connection() as (connection, account), self._driver.translated(account):
            with connection.cursor() as cursor:
                self._driver.run(cursor, sql, parameters)
                changed: int = max(0, cursor.rowcount)
            connection.commit()
        return changed

    def close(self) -> None:
        """Close the connections that are not in use, and give back what was leased."""
        self._pool.dispose()
        self._credentials.close()

    def _batches(self, sql: str, parameters: Parameters, batch_rows: int) -> Iterator[Any]:
        """Yield the schema of a result, then its batches."""
        with self._connection() as (connection, account):
            with self._driver.translated(account):
                cursor = self._driver.open(connection, sql, parameters)
                columns = self._driver.columns(cursor)
            try:
                yield schema_of(columns)
                yield from self._fetched(cursor, columns, batch_rows, account)
            except BaseException:
                self._driver.abandon(cursor)
                raise

    def _fetched(
        self, cursor: Cursor, columns: list[Column], batch_rows: int, account: Account
    ) -> Iterator["pa.RecordBatch"]:
        """Yield what is left of a result; keep the account, and say every ten seconds how far it is."""
        count, said_at = 0, time.monotonic()
        while (batch := record_batch(columns, self._fetch(cursor, batch_rows, account))).num_rows:
            count += batch.num_rows
            yield batch
            self._credentials.keep(account)
            if time.monotonic() - said_at >= _PROGRESS_SECONDS:
                _log.info("%s: %d rows so far", self._driver.named(account), count)
                said_at = time.monotonic()
        with self._driver.translated(account):
            cursor.close()

    def _fetch(self, cursor: Cursor, batch_rows: int, account: Account) -> Sequence[tuple[Any, ...]]:
        with self._driver.translated(account):
            rows: Sequence[tuple[Any, ...]] = cursor.fetchmany(batch_rows)
            return rows

    @contextmanager
    def _connection(self) -> Iterator[tuple[Connection, Account]]:
        """Take a connection; it goes back to the pool where the block ends well, and is closed where it does not."""
        from sqlalchemy.exc import TimeoutError as PoolExhausted

        try:
            taken = self._pool.connect()
        except PoolExhausted as error:
            raise TransientFailure(
                f"{self._driver.product} {self._driver.target.database}: all {self._max_connections} connections of "
                f"this process were in use for {self._pool_timeout_seconds:g} s; read streams to their end, drop the "
                f"readers of those that you leave, or raise max_connections"
            ) from error
        try:
            yield taken.dbapi_connection, taken.info["account"]
        except BaseException:
            taken.invalidate()
            raise
        taken.close()

    def _connect(self, rec: "ConnectionPoolEntry") -> Connection:
        self._driver.require_ca_file()
        account = self._credentials.account()
        try:
            connection = self._connected(account)
        except LoginRefused:
            if not self._credentials.replace(account):
                raise
            account = self._credentials.account()
            connection = self._connected(account)
        rec.info["account"] = account
        return connection

    def _connected(self, account: Account) -> Connection:
        with self._driver.translated(account):
            return self._driver.connect(account)

    def _make_ready(self, connection: Connection, record: "ConnectionPoolEntry", __: "PoolProxiedConnection") -> None:
        from sqlalchemy.exc import DisconnectionError

        account = record.info["account"]
        if not self._credentials.is_current(account):
            raise DisconnectionError("its account is no longer current")
        with self._driver.translated(account):
            self._driver.prepare(connection)
