"""Instances of Dagster for simulations, and how big their databases are."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from sqlalchemy import URL, Engine, create_engine, event, make_url, text

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
    """Give an instance on PostgreSQL, as deployments have it; the database should be empty."""
    address = make_url(url)
    storage = {
        "postgres": {
            "postgres_url": address.set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)
        }
    }
    engine = create_engine(address.set(drivername="postgresql+psycopg2"))

    def size() -> int:
        with engine.connect() as connection:
            return int(connection.execute(text("select pg_database_size(current_database())")).scalar_one())

    with dg.DagsterInstance.local_temp(str(folder), overrides={**_QUIET, "storage": storage}) as instance:
        yield Storage("postgres", instance, engine.url, size)
    engine.dispose()
