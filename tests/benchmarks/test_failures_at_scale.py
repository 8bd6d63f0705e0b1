"""What it costs to count failures and to take inventories where there are many, on SQLite and on PostgreSQL."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from ol_core.failures import PermanentFailure, TransientFailure
from ol_core.orchestration.alerts import Alert, AlertPlan, alert_tick
from ol_core.orchestration.desired_state import DATA_VERSION_TAG, Step, failed_attempt, outcomes, succeeded
from ol_core.orchestration.inventory import news
from ol_devkit.servers.postgres import PostgresServer
from ol_devkit.simulator.storage import Storage, postgres, sqlite
from sqlalchemy import Engine, create_engine, event, text

FAILURES = int(os.environ.get("OL_BENCHMARK_FAILURES", "300000"))
BAR_ALERT_SECONDS = 5.0
"""CPU seconds of this process for a tick with all failures in its window; the daemon waits 60 s."""

KEY = dg.AssetKey(["deployment", "exports"])
STEP = Step("export", KEY, "export_all", makes=[dg.AssetKey(["raw", f"table_{number}"]) for number in range(6)] + [KEY])

pytestmark = pytest.mark.benchmark


@pytest.fixture(params=["sqlite", "postgres"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param == "sqlite":
        with sqlite(tmp_path) as made:
            yield made
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        with postgres(tmp_path, server.create_database().url) as made:
            yield made


def multiply(storage: Storage, made: dg.AssetObservation | dg.AssetMaterialization, count: int, at: int) -> None:
    """Record an event for each of many partitions by copying the rows of one: Dagster writes a hundred a second.

    Their versions say that the attempts ended within 250 seconds from `at` on.
    """
    storage.instance.report_runless_asset_event(made)
    assert storage.events is not None
    engine = create_engine(storage.events)
    numbers = "with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < :count)"
    columns = "run_id, event, dagster_event_type, timestamp, step_key, asset_key"
    events = f"insert into event_logs (id, partition, {columns}) {numbers} select :of + n, 'c' || n, {columns}"
    ending = (made.tags or {}).get(DATA_VERSION_TAG, "")[:-10]
    tags = "insert into asset_event_tags (event_id, asset_key, key, value, event_timestamp)"
    tagged = "select :of + n, asset_key, key, :ending || (:at + n % 250), event_timestamp"
    with engine.begin() as connection:
        of = int(connection.execute(text("select max(id) from event_logs")).scalar_one())
        stated = {"of": of, "count": count, "ending": ending, "at": at}
        connection.execute(text(f"{events} from event_logs, numbers where id = :of"), stated)
        if ending:
            connection.execute(
                text(f"{tags} {numbers} {tagged} from asset_event_tags, numbers where event_id = :of"), stated
            )
        if connection.dialect.name == "postgresql":
            connection.execute(
                text("select setval(pg_get_serial_sequence('event_logs', 'id'), max(id)) from event_logs")
            )
            connection.execute(text("analyze"))
    engine.dispose()


@contextmanager
def queries() -> Iterator[list[str]]:
    seen: list[str] = []

    def keep(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.lower().startswith("select"):
            seen.append(statement)

    event.listen(Engine, "before_cursor_execute", keep)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", keep)


def timed(what: Callable[[], object]) -> tuple[float, float, int]:
    """Return CPU seconds of this process, seconds, and queries."""
    with queries() as seen:
        cpu, wall = time.process_time(), time.perf_counter()
        what()
        return time.process_time() - cpu, time.perf_counter() - wall, len(seen)


class Sink:
    def __init__(self) -> None:
        self.told: list[Alert] = []

    def tell(self, alert: Alert, log: Any) -> None:
        del log
        self.told.append(alert)


@pytest.mark.timeout(900)
def test_failures_of_a_window_are_counted_in_the_database(storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    window = 300
    plan, sink = AlertPlan("openedx", "production", [STEP], window), Sink()
    at = int(time.time()) // window * window - window
    cursor = alert_tick(dg.build_sensor_context(storage.instance), plan, sink).cursor
    multiply(storage, failed_attempt(KEY, "seed", "1", TransientFailure("down")), FAILURES // 2, at)
    multiply(storage, failed_attempt(KEY, "seed", "1", PermanentFailure("corrupt")), FAILURES // 2, at)
    for name, told_from in (("cursor", cursor), ("no cursor", None)):
        sink.told.clear()
        context = dg.build_sensor_context(storage.instance, cursor=_reopened(told_from, at))
        cpu, wall, count = timed(lambda context=context: alert_tick(context, plan, sink))  # type: ignore[misc]  # bound here
        with capsys.disabled():
            print(  # noqa: T201 - the figures
                f"\n{storage.kind}, {FAILURES} failures, {name}: {cpu:.2f} CPU s, {wall:.2f} s, {count} queries, "
                f"{[alert.count for alert in sink.told]}"
            )
        assert cpu < BAR_ALERT_SECONDS
        if name == "cursor":
            assert [alert.count for alert in sink.told] == [FAILURES // 2] * 2


def _reopened(cursor: str | None, at: int) -> str | None:
    return json.dumps({**json.loads(cursor), "since": at}) if cursor else None


@pytest.mark.timeout(900)
@pytest.mark.parametrize("partitions", [5000, 50_000])
def test_an_inventory_costs_queries_an_asset_and_none_a_partition(
    storage: Storage, partitions: int, capsys: pytest.CaptureFixture[str]
) -> None:
    keys, at = [f"c{number + 1}" for number in range(partitions)], int(time.time())
    multiply(storage, succeeded(KEY, "seed", "1"), partitions, at)
    multiply(storage, failed_attempt(KEY, "seed", "1", PermanentFailure("corrupt")), partitions // 10, at)
    for asset_key in STEP.assets:
        multiply(storage, dg.AssetMaterialization(asset_key, partition="seed"), partitions, at)
    live, wanted, reported = set(keys), dict.fromkeys(keys, "1"), dict[str, str]()

    def tick() -> list[dg.AssetCheckEvaluation]:
        nonlocal reported
        said, reported = news(storage.instance, STEP, live, wanted, at_rest=True, reported=reported)
        return said

    lines = []
    for name, expected in (("all is new", 7), ("nothing is new", 0)):
        said: list[dg.AssetCheckEvaluation] = []
        cpu, wall, count = timed(lambda said=said: said.extend(tick()))  # type: ignore[misc]  # bound here
        lines.append(f"{name}: {cpu:.2f} CPU s, {wall:.2f} s, {count} queries")
        assert len(said) == expected
        assert count < 40
    cpu, wall, count = timed(lambda: outcomes(storage.instance, KEY))
    lines.append(f"outcomes alone: {cpu:.2f} CPU s, {wall:.2f} s, {count} queries")
    with capsys.disabled():
        print(f"\n{storage.kind}, {partitions} partitions, 7 assets: " + "; ".join(lines))  # noqa: T201 - the figures
    assert sum(one.metadata["failed"].value == partitions // 10 for one in _again(storage, live, wanted)) == 7


def _again(storage: Storage, live: set[str], wanted: dict[str, str]) -> list[dg.AssetCheckEvaluation]:
    return news(storage.instance, STEP, live, wanted, at_rest=True, reported={})[0]
