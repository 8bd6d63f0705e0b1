"""What reaches Dagster's databases: counted, and refused to a worker that is dead."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExecutionContext

from ol_devkit.simulator.world import WorkerKilled

_ASSET_EVENTS = frozenset({"ASSET_MATERIALIZATION", "ASSET_OBSERVATION", "ASSET_CHECK_EVALUATION"})
_EVENT = re.compile(r"insert into event_logs\b", re.IGNORECASE)
_TYPE = re.compile(r"dagster_event_type(_m\d+)?")
_TABLES = re.compile(r"iceberg_|table_namespace", re.IGNORECASE)


class Watch:
    """Counts queries and events from its entry to its exit.

    Attributes:
        queries: Statements by their first word; those of tables' catalogs are left out.
        events: Events by type: every row of the event log once, also where SQLite keeps it twice.
        materialized: Materializations by asset, as Dagster writes its key.
    """

    def __init__(self) -> None:
        self.queries: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.materialized: Counter[str] = Counter()
        self._is_dead = False

    def __enter__(self) -> Self:
        event.listen(Engine, "before_cursor_execute", self._before)
        return self

    def __exit__(self, *_: object) -> None:
        event.remove(Engine, "before_cursor_execute", self._before)

    def clear(self) -> None:
        """Forget what was counted."""
        self.queries.clear()
        self.events.clear()
        self.materialized.clear()

    @property
    def asset_events(self) -> int:
        """Materializations, observations and evaluations of checks."""
        return sum(self.events[kind] for kind in _ASSET_EVENTS)

    @contextmanager
    def worker(self) -> Iterator[None]:
        """Execute a run; once it is killed, nothing that its process still tries reaches a database.

        Raises:
            WorkerKilled: it was killed; the run stays as it was.
        """
        try:
            yield
        except BaseException as error:
            if not self._is_dead:
                raise
            raise WorkerKilled from error  # whatever came of being cut off
        else:
            if self._is_dead:
                raise WorkerKilled
        finally:
            self._is_dead = False

    def kill(self) -> None:
        """Cut the worker off."""
        self._is_dead = True

    def _before(
        self,
        conn: Connection,
        _cursor: object,
        statement: str,
        _parameters: object,
        context: ExecutionContext,
        _many: object,
    ) -> None:
        if _TABLES.search(statement):
            return
        if self._is_dead:
            raise WorkerKilled
        self.queries[statement.split(maxsplit=1)[0].lower()] += 1
        if _EVENT.match(statement) and not str(conn.engine.url.database).endswith("index.db"):
            for row in getattr(context, "compiled_parameters", ()):  # not in its interface
                for name, kind in row.items():
                    if found := _TYPE.fullmatch(name):
                        self._count(str(kind), str(row.get(f"asset_key{found[1] or ''}")))

    def _count(self, kind: str, asset_key: str) -> None:
        self.events[kind] += 1
        if kind == "ASSET_MATERIALIZATION":
            self.materialized[asset_key] += 1
