"""Instances of Dagster for simulations, and how big their databases are."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from ol_core.failures import PermanentFailure
from sqlalchemy import URL, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

_QUIET = {"telemetry": {"enabled": False}}


@dataclass(frozen=True, slots=True)
class Storage:
    """An instance and its databases.

    Attributes:
        kind: `sqlite`, `postgres` or `memory`.
        instance: The instance.
        events: Address of the database in which events are looked for; None where it lives in the process only.
        size: Reads how many bytes the databases take.
    """

    kind: str
    instance: dg.DagsterInstance
    events: URL | None
    size: Callable[[], int]


@contextmanager
def sqlite(folder: Path) -> Iterator[Storage]:
    """Give an instance as `dagster dev` has it: SQLite below a folder."""

    def size() -> int:
        return sum(file.stat().st_size for file in folder.rglob("*.db*"))

    event.listen(Engine, "connect", _without_fsync)
    try:
        with dg.DagsterInstance.local_temp(str(folder), overrides=_QUIET) as instance:
            index = folder / "history" / "runs" / "index.db"
            yield Storage("sqlite", instance, URL.create("sqlite", database=str(index)), size)
    finally:
        event.remove(Engine, "connect", _without_fsync)


def _without_fsync(connection: object, _record: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("pragma synchronous = off")  # a simulation need not survive the machine


@contextmanager
def memory(folder: Path) -> Iterator[Storage]:
    """Give an instance that lives in this process only: no file, a fifth of the CPU time of each event."""
    with dg.DagsterInstance.ephemeral(tempdir=str(folder)) as instance:
        yield Storage("memory", instance, None, lambda: 0)


@contextmanager
def postgres(folder: Path, url: str) -> Iterator[Storage]:
    """Give an instance on PostgreSQL, as deployments have it.

    Raises:
        PermanentFailure: there is no such database, or it is not empty: what is simulated would stand among the rest.
    """
    address = _empty(url)
    storage = {"postgres": {"postgres_url": address.render_as_string(hide_password=False)}}
    engine = create_engine(address)

    def size() -> int:
        with engine.connect() as connection:
            return int(connection.execute(text("select pg_database_size(current_database())")).scalar_one())

    with dg.DagsterInstance.local_temp(str(folder), overrides={**_QUIET, "storage": storage}) as instance:
        yield Storage("postgres", instance, engine.url, size)
    engine.dispose()


def _empty(url: str) -> URL:
    """Return the address of an empty database."""
    valid = "state an empty PostgreSQL database as postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
    try:
        address = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise PermanentFailure(f"the address of the database cannot be read; {valid}") from error
    if address.get_backend_name() != "postgresql":
        raise PermanentFailure(f"{address} is not PostgreSQL; {valid}")
    address = address.set(drivername="postgresql+psycopg2")
    try:
        engine = create_engine(address)
    except ModuleNotFoundError as error:
        raise PermanentFailure(f"{error.name} is not installed; install ol-devkit[postgres]") from error
    try:
        with engine.connect() as connection:
            tables = connection.execute(text("select count(*) from pg_tables where schemaname = current_schema()"))
            if found := tables.scalar_one():
                raise PermanentFailure(f"{address} has {found} tables, and a simulation would write into them; {valid}")
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", error)).strip()
        raise PermanentFailure(f"{address} cannot be reached: {reason}; {valid}") from error
    finally:
        engine.dispose()
    return address
