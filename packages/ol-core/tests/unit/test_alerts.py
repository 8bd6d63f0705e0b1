"""Failures are told once, with what they have in common, on a real instance and to a real receiver."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import time_machine
from ol_core.environment import Environment, development
from ol_core.failures import OlError, PermanentFailure, Quarantined, TransientFailure, UpstreamMissing
from ol_core.orchestration.alerts import (
    LAG_CHECK,
    Alert,
    AlertPlan,
    WebhookSink,
    alert_definitions,
    alert_sink,
    alert_tick,
)
from ol_core.orchestration.desired_state import Step, failed_attempt, succeeded
from ol_core.orchestration.retirement import bury
from ol_core.webhooks import sign
from ol_devkit.servers.scripted import Asked, Say, scripted_server

KEY, OTHER = dg.AssetKey("exports"), dg.AssetKey("elsewhere")
PLAN = AlertPlan("openedx", "qa", [Step("export", KEY, "op")], window_seconds=300)
NOON = datetime(2026, 9, 1, 12, 0, tzinfo=UTC)


@dataclass
class Sink:
    error: Exception | None = None
    told: list[Alert] = field(default_factory=list)

    def tell(self, alert: Alert, log: Any) -> None:
        del log
        if self.error is not None:
            raise self.error
        self.told.append(alert)


class World:
    """A sensor whose clock is moved by hand."""

    def __init__(self, instance: dg.DagsterInstance, clock: time_machine.Traveller) -> None:
        self.instance, self.clock, self.sink = instance, clock, Sink()
        self.cursor: str | None = None

    def fail(self, partition: str, error: OlError, *, asset_key: dg.AssetKey = KEY) -> None:
        event = failed_attempt(asset_key, partition, "1", error, tags={"ol/run_id": f"run-of-{partition}"})
        self.instance.report_runless_asset_event(event)

    def tick(self, *, minutes: float = 0) -> dg.SensorResult:
        self.clock.shift(60 * minutes)
        result = alert_tick(dg.build_sensor_context(self.instance, cursor=self.cursor), PLAN, self.sink)
        self.cursor = result.cursor
        for event in result.asset_events:
            self.instance.report_runless_asset_event(event)
        return result


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with (
        time_machine.travel(NOON, tick=False) as clock,
        dg.DagsterInstance.ephemeral(tempdir=str(tmp_path)) as instance,
    ):
        made = World(instance, clock)
        made.tick()
        yield made


def test_failures_of_a_kind_are_one_message_once_their_window_has_closed(world: World) -> None:
    for number in range(30):
        world.fail(f"c{number}", TransientFailure("down"))
        world.clock.shift(1)
    world.fail("bad", PermanentFailure("corrupt"))
    world.tick(minutes=2)
    assert world.sink.told == []
    world.tick(minutes=3)
    transient, permanent = sorted(world.sink.told, key=lambda alert: alert.error, reverse=True)
    assert (transient.error, transient.count) == ("TransientFailure", 30)
    assert (transient.first_at, transient.last_at) == (int(NOON.timestamp()), int(NOON.timestamp()) + 29)
    assert transient.partitions == ("c29", "c28", "c27", "c26", "c25")
    assert transient.run_ids[0] == "run-of-c29"
    assert (transient.location, transient.step, transient.environment) == ("openedx", "export", "qa")
    assert (permanent.error, permanent.count, permanent.partitions) == ("PermanentFailure", 1, ("bad",))


def test_each_kind_of_failure_is_told_apart(world: World) -> None:
    kinds = [TransientFailure("a"), PermanentFailure("b"), UpstreamMissing("c"), Quarantined("d")]
    for error in kinds:
        world.fail("c", error)
    world.tick(minutes=6)
    assert {alert.error for alert in world.sink.told} == {type(error).__name__ for error in kinds}


def test_only_failures_of_the_location_count(world: World) -> None:
    world.fail("c", TransientFailure("down"), asset_key=OTHER)
    world.instance.report_runless_asset_event(succeeded(KEY, "d", "1"))
    world.fail("e", PermanentFailure("corrupt"))
    bury(world.instance, KEY, ["e"], "gone")
    world.tick(minutes=6)
    (alert,) = world.sink.told
    assert (alert.error, alert.count) == ("PermanentFailure", 1)


def test_a_message_is_told_once_however_often_the_sensor_looks(world: World) -> None:
    world.fail("c", TransientFailure("down"))
    for _ in range(30):
        world.tick(minutes=1)
    assert len(world.sink.told) == 1


def test_a_quiet_tick_writes_nothing(world: World) -> None:
    for _ in range(10):
        assert world.tick(minutes=1).asset_events == []
    assert world.instance.fetch_observations(PLAN.asset_key, limit=1).records == []


def test_each_window_has_its_message(world: World) -> None:
    for _ in range(3):
        world.fail("c", TransientFailure("down"))
        world.clock.shift(300)
    world.tick(minutes=1)
    starts = [alert.window_start for alert in world.sink.told]
    assert [start - starts[0] for start in starts] == [0, 300, 600]
    assert len({alert.delivery_id for alert in world.sink.told}) == 3


def test_a_lost_cursor_tells_nothing_twice(world: World) -> None:
    world.fail("c", TransientFailure("down"))
    world.tick(minutes=6)
    world.cursor = None
    world.tick(minutes=20)
    assert len(world.sink.told) == 1


def test_a_process_that_is_killed_while_it_tells_tells_nothing_twice(world: World) -> None:
    world.fail("c", TransientFailure("down"))
    world.sink.error = KeyboardInterrupt()  # type: ignore[assignment]  # what ends a process is not an Exception
    with pytest.raises(KeyboardInterrupt):
        world.tick(minutes=6)
    world.sink.error = None
    world.tick(minutes=1)
    assert world.sink.told == []
    (written,) = world.instance.fetch_observations(PLAN.asset_key, limit=9).records
    assert "1 x TransientFailure" in str(written.asset_observation and written.asset_observation.description)


def test_what_was_not_taken_is_told_again_with_the_same_id_and_its_lag_fails_the_check(world: World) -> None:
    world.fail("c", TransientFailure("down"))
    world.sink.error = TransientFailure("the receiver is down")
    results = [world.tick(minutes=3) for _ in range(8)]
    said = [event for result in results for event in result.asset_events if isinstance(event, dg.AssetCheckEvaluation)]
    assert [(event.check_name, event.passed) for event in said] == [(LAG_CHECK, False)]
    assert int(said[0].metadata["untold"].value) == 1  # type: ignore[arg-type]  # an int
    world.sink.error = None
    (passed,) = world.tick(minutes=5).asset_events
    assert isinstance(passed, dg.AssetCheckEvaluation)
    assert passed.passed
    written = world.instance.fetch_observations(PLAN.asset_key, limit=50).records
    assert len(written) < len(results)
    ids = {record.asset_observation.tags["ol/delivery_id"] for record in written if record.asset_observation}
    assert [alert.delivery_id for alert in world.sink.told] == list(ids)
    assert world.tick(minutes=60).asset_events == []
    assert len(world.sink.told) == 1


def test_the_check_can_be_run_by_hand_where_the_sensor_is_off(world: World) -> None:
    world.fail("c", TransientFailure("down"))
    world.clock.shift(1800)
    definitions = alert_definitions("openedx", environment(), PLAN.steps)
    (check,) = definitions.asset_checks or []
    result = check(dg.build_asset_check_context(instance=world.instance))
    assert isinstance(result, dg.AssetCheckResult)
    assert not result.passed
    assert "oldest failure is 1800 s old" in str(result.description)


def test_a_failed_run_of_a_step_whose_attempts_are_runs_is_told_once(world: World) -> None:
    plan = AlertPlan("lakehouse", "qa", [], 300, whole_runs=[Step("build", OTHER)])
    run = world.instance.add_run(
        dg.DagsterRun(job_name="build", tags={"ol/wanted_version": "f" * 64}, status=dg.DagsterRunStatus.FAILURE)
    )
    sink, cursor = Sink(), None
    for _ in range(12):
        tick = alert_tick(dg.build_sensor_context(world.instance, cursor=cursor), plan, sink)
        cursor = tick.cursor
        world.clock.shift(60)
    (alert,) = sink.told
    assert (alert.step, alert.count, alert.run_ids) == ("build", 1, (run.run_id,))


def test_a_message_survives_being_written_and_holds_no_link() -> None:
    alert = Alert("qa", "openedx", "export", "a/b", "TransientFailure", 0, 300, 2, 1, 2, ("c",), ("r",))
    assert Alert(**json.loads(json.dumps(alert.fields))) == alert
    assert b"http" not in alert.body
    assert json.loads(alert.body)["delivery_id"] == alert.delivery_id


def environment(**alerts: object) -> Environment:
    stated = development(data_dir=Path("nowhere"), campus_url="http://127.0.0.1:1").model_dump(mode="json")
    stated["alerts"] = {"kind": "log", "window_seconds": 300, **alerts}
    return Environment.model_validate(stated)


def webhook(url: str, secrets_file: Path, *, writable: bool = True) -> WebhookSink:
    secrets_file.write_text('[alerts]\nsecret = "shared"\n')
    secrets_file.chmod(0o600)
    ref = {"path": "alerts", "key": "secret"}
    stated = environment(kind="webhook", url=url, secret=ref, writable=writable).model_dump(mode="json")
    stated["secrets"] = {"kind": "local", "file": str(secrets_file)}
    sink = alert_sink(Environment.model_validate(stated))
    assert isinstance(sink, WebhookSink)
    return sink


ALERT = Alert("qa", "openedx", "export", "a/b", "TransientFailure", 0, 300, 2, 1, 2, ("c",), ("r",))


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, *_: object) -> None: ...

    def log(self, level: int, message: str, *arguments: object) -> None:
        self.lines.append(f"{level} {message % arguments}")


def test_the_log_says_what_failed_in_a_line() -> None:
    log = Log()
    sink = alert_sink(environment())
    sink.tell(ALERT, log)
    (line,) = log.lines
    assert line == (
        "40 qa: export of openedx: 2 x TransientFailure from 1970-01-01 00:00:01 UTC to 1970-01-01 00:00:02 UTC, "
        "such as c"
    )


def test_the_receiver_gets_a_signed_message_with_a_deterministic_id(tmp_path: Path) -> None:
    asked: list[Asked] = []

    def script(request: Asked) -> Say:
        asked.append(request)
        return Say(status=204)

    with scripted_server(script) as server:
        sink = webhook(f"{server.url}/dagster", tmp_path / "secrets.toml")
        sink.tell(ALERT, Log())
        sink.tell(ALERT, Log())
    first, second = asked
    assert first.target == "/dagster"
    assert first.body == second.body == ALERT.body
    assert first.headers["x-delivery-id"] == second.headers["x-delivery-id"] == ALERT.delivery_id
    assert first.headers["x-mitlearn-signature"] == sign(ALERT.body, "shared")


def test_a_receiver_that_rejects_or_is_not_writable_is_said_so(tmp_path: Path) -> None:
    with scripted_server(lambda _: Say(status=422)) as server:
        with pytest.raises(PermanentFailure, match=r"rejected message .* with status 422"):
            webhook(f"{server.url}/dagster", tmp_path / "secrets.toml").tell(ALERT, Log())
        with pytest.raises(PermanentFailure, match=r"does not declare .* writable"):
            webhook(f"{server.url}/dagster", tmp_path / "secrets.toml", writable=False).tell(ALERT, Log())
