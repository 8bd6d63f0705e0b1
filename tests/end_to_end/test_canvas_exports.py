"""Canvas's exports through real runs against the campus: what is killed, lost, refused, moved or never ends."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import time_machine
from ol_canvas.definitions import location
from ol_core.dagster_storage import free_pool_slots
from ol_core.environment import Environment, load_environment
from ol_core.orchestration.desired_state import UNFINISHED, failure_reasons, outcomes
from ol_core.tables import RawTableIOManager
from ol_devkit.campus import Campus, CampusContent, Scripted, canvas_throttled
from ol_devkit.daemon import FailedTick, FinishedRun, apply_changes, evaluate, run_until_quiet
from ol_devkit.sandbox import sandbox

CONTENT = dg.AssetKey(["canvas", "course_content"])
METADATA = dg.AssetKey(["canvas", "course_metadata"])
FIRST, SECOND, THIRD = 4001, 4002, 4003
LAST_TABLE = "raw__canvas__cartridge__course_quarantine"
WORKER = """
import json, sys
import dagster as dg
from ol_canvas.definitions import defs

job, config, tags = json.loads(sys.argv[1])
with dg.DagsterInstance.get() as instance:
    defs().resolve_job_def(job).execute_in_process(instance=instance, run_config=config, tags=tags)
"""


@dataclass
class Platform:
    campus: Campus
    instance: dg.DagsterInstance
    environment: Environment

    def limited(self, **orchestration: float) -> "Platform":
        """Return the same with other limits."""
        stated = self.environment.orchestration.model_copy(update=orchestration)
        return Platform(self.campus, self.instance, self.environment.model_copy(update={"orchestration": stated}))

    @property
    def definitions(self) -> dg.Definitions:
        """What the location makes of this environment."""
        return location(self.environment)

    def settle(self, *, on_start: Callable[[str], None] = lambda _: None) -> list[FinishedRun]:
        """Tick and run until nothing is requested; return the runs."""
        outcomes = run_until_quiet(self.instance, {"canvas": self.definitions}, lambda _, job: on_start(job))
        runs: list[FinishedRun] = []
        for outcome in outcomes:
            assert not isinstance(outcome, FailedTick), outcome
            runs.append(outcome)
        return runs

    def settled(self) -> None:
        """Do the same; every run must succeed."""
        assert [run.error for run in self.settle() if not run.success] == []

    def exports(self, runs: list[FinishedRun]) -> list[FinishedRun]:
        return [run for run in runs if run.job == "canvas_course_export"]

    def requested(self) -> dg.RunRequest:
        """Return the run that the sweep requests for exports."""
        definitions = self.definitions
        tick = evaluate(self.instance, definitions, definitions.resolve_sensor_def("canvas_sweep"))
        apply_changes(self.instance, tick)
        (request,) = [one for one in tick.run_requests or [] if one.job_name == "canvas_course_export"]
        return request

    def killed(self, when: Callable[[], bool]) -> None:
        """Run the exports that are requested in a worker of its own, and kill that where something is so."""
        request = self.requested()
        asked = json.dumps([request.job_name, request.run_config, dict(request.tags)])
        with subprocess.Popen([sys.executable, "-c", WORKER, asked], stderr=subprocess.DEVNULL) as worker:
            try:
                deadline = time.monotonic() + 200
                while not when():
                    assert worker.poll() is None, "the worker ended before it could be killed"
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            finally:
                worker.send_signal(signal.SIGKILL)
        (left,) = self.instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
        self.instance.report_run_failed(left, "its worker is gone")  # as run monitoring does
        free_pool_slots(self.instance)
        assert self.exports(self.settle()) == []  # it is not taken up at once

    @property
    def submitted(self) -> Counter[int]:
        """How often each course's export was submitted."""
        return Counter(job.course.identity.id for job in self.campus.canvas_exports)

    def held(self, key: dg.AssetKey = CONTENT) -> dict[str, str]:
        """How the last attempt at each course ended."""
        return {course: outcome.ending for course, outcome in outcomes(self.instance, key).items()}

    def reason(self, course: int) -> str:
        return failure_reasons(self.instance, CONTENT, [str(course)])[str(course)]


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    before = dict(os.environ)
    content = CampusContent.generated(seed=7, openedx_courses=0, canvas_courses=3)
    try:
        with sandbox(tmp_path, content) as campus, dg.DagsterInstance.get() as instance:
            yield Platform(campus, instance, load_environment())
    finally:
        os.environ.clear()
        os.environ.update(before)


def later(**units: float) -> time_machine.travel:
    return time_machine.travel(datetime.now(UTC) + timedelta(**units), tick=True)


def test_one_run_exports_all_and_then_only_what_moves(platform: Platform) -> None:
    (run,) = platform.exports(platform.settle())
    assert run.materialized == {"canvas/course_content": 3, "canvas/course_metadata": 3}
    assert platform.settle() == []

    platform.campus.republish(SECOND)
    runs = platform.settle()
    assert [run.job for run in runs] == ["canvas_course_export", "canvas_raw_tables", "canvas_course_content_webhook"]
    assert platform.submitted == {FIRST: 1, SECOND: 2, THIRD: 1}
    assert {"canvas/course_content": 1}.items() <= runs[0].materialized.items()
    assert platform.settle() == []


def test_a_killed_worker_resumes_the_same_remote_exports(platform: Platform) -> None:
    platform.campus.behaviour.canvas_default_states = ("exporting",)
    platform.killed(lambda: bool(platform.instance.fetch_observations(CONTENT, limit=1).records))  # they are kept
    platform.campus.behaviour.canvas_default_states = ("exported",)
    with later(minutes=10):
        platform.settled()
    assert platform.submitted == {FIRST: 1, SECOND: 1, THIRD: 1}
    assert set(platform.held().values()) == {"s"}


def test_a_worker_that_is_killed_while_it_submits_leaves_no_export_to_be_repeated(platform: Platform) -> None:
    path = "/canvas/api/v1/courses/.*/content_exports"
    platform.campus.script(("POST", path), [Scripted(), Scripted(delay_seconds=30)])
    platform.killed(lambda: len(platform.campus.canvas_exports) == 1)
    with later(minutes=10):
        platform.settled()
    assert platform.submitted == {FIRST: 1, SECOND: 1, THIRD: 1}


def test_a_submission_whose_answer_is_cut_is_not_repeated(platform: Platform) -> None:
    path = f"/canvas/api/v1/courses/{FIRST}/content_exports"
    platform.campus.script(("POST", path), [Scripted(cut_after_bytes=10)])
    platform.settled()
    assert platform.submitted == {FIRST: 1, SECOND: 1, THIRD: 1}


def test_throttling_costs_time_and_nothing_else(platform: Platform) -> None:
    platform.campus.script(("POST", "/canvas/api/v1/courses/.*/content_exports"), [canvas_throttled()])
    platform.campus.script(("GET", "/canvas/api/v1/courses/.*/content_exports/.*"), [canvas_throttled(429)])
    platform.settled()
    assert platform.submitted == {FIRST: 1, SECOND: 1, THIRD: 1}


def test_exports_that_fail_expire_or_never_end_cost_the_others_nothing(platform: Platform) -> None:
    behaviour = platform.campus.behaviour
    behaviour.canvas_states = {FIRST: ("exporting", "failed"), SECOND: ("waiting_for_external_tool",)}
    short = platform.limited(export_deadline_seconds=3.0)
    (run,) = short.exports(short.settle())
    assert not run.success
    assert platform.held() == {str(FIRST): "p", str(SECOND): "t", str(THIRD): "s"}
    assert "failed" in platform.reason(FIRST)
    assert "still waiting_for_external_tool at its deadline" in platform.reason(SECOND)

    behaviour.canvas_states = {SECOND: ("exported",)}
    behaviour.canvas_no_attachment = {SECOND}
    with later(minutes=10):
        short.settle()
    assert "lost" in platform.reason(SECOND)

    behaviour.canvas_no_attachment = set()
    with later(hours=2):
        short.settle()
        assert short.settle() == []
    assert platform.held() == {str(FIRST): "p", str(SECOND): "s", str(THIRD): "s"}
    assert platform.submitted == {FIRST: 1, SECOND: 3, THIRD: 1}


def test_a_failing_export_is_tried_a_bounded_number_of_times(platform: Platform) -> None:
    platform.campus.behaviour.canvas_no_attachment = {FIRST}
    short = platform.limited(export_deadline_seconds=3.0)
    for hours in range(8):
        with later(hours=hours):
            short.settle()
    attempts = platform.environment.orchestration.attempts
    assert platform.submitted == {FIRST: attempts, SECOND: 1, THIRD: 1}
    assert outcomes(platform.instance, CONTENT)[str(FIRST)].attempts == attempts


def test_a_cartridge_that_cannot_be_read_is_kept_in_quarantine(platform: Platform, tmp_path: Path) -> None:
    platform.campus.script(("GET", "/canvas/storage/.*"), [Scripted(200, body=b"no zip")])
    (run,) = platform.exports(platform.settle())
    assert not run.success
    assert sorted(platform.held().values()) == ["q", "s", "s"]
    (kept,) = (tmp_path / "objects" / "quarantine").rglob("*.imscc")
    assert kept.read_bytes() == b"no zip"
    assert str(kept) in run.error


def test_a_course_that_is_hidden_while_its_run_starts_fails_alone(platform: Platform) -> None:
    def hide(_job: str) -> None:
        platform.campus.behaviour.canvas_no_permission = {FIRST}

    (run,) = platform.exports(platform.settle(on_start=hide))
    assert "shows nothing of it to this token" in run.error
    assert platform.held() == {str(FIRST): "p", str(SECOND): "s", str(THIRD): "s"}


def test_a_version_published_before_its_run_reads_it_is_made_once(platform: Platform) -> None:
    started: list[str] = []

    def republish(job: str) -> None:
        if job == "canvas_course_export" and job not in started:
            platform.campus.republish(FIRST)
        started.append(job)

    platform.settle(on_start=republish)
    assert platform.settle() == []
    assert platform.submitted == {FIRST: 1, SECOND: 1, THIRD: 1}


def test_a_version_published_while_its_export_is_in_flight_is_made_next(platform: Platform) -> None:
    behaviour = platform.campus.behaviour
    behaviour.canvas_default_states = ("exporting",)

    def publish() -> None:
        while len(platform.campus.canvas_exports) < 3:
            time.sleep(0.05)
        platform.campus.republish(FIRST)
        behaviour.canvas_default_states = ("exported",)

    publisher = threading.Thread(target=publish)
    publisher.start()
    platform.settle()
    publisher.join()
    assert platform.settle() == []
    assert platform.submitted == {FIRST: 2, SECOND: 1, THIRD: 1}


def test_exports_in_flight_are_bounded_by_the_environment(platform: Platform) -> None:
    in_flight: set[int] = set()
    most = [0]

    def count() -> None:
        while not done.is_set():
            running = [job for job in platform.campus.canvas_exports if job.state in {"created", "exporting"}]
            most[0] = max(most[0], len(running))
            in_flight.update(job.id for job in running)
            time.sleep(0.01)

    done = threading.Event()
    counter = threading.Thread(target=count)
    counter.start()
    platform.limited(exports_in_flight=1).settle()
    done.set()
    counter.join()
    assert most[0] == 1
    assert in_flight


def test_raw_tables_hold_what_moved_and_tell_no_more(platform: Platform) -> None:
    runs = platform.settle()
    (raw,) = [run for run in runs if run.job == "canvas_raw_tables"]
    assert raw.materialized[f"ol_warehouse_raw_data/{LAST_TABLE}"] == 3
    tables = RawTableIOManager.of(platform.environment)
    items = Counter(tables.read("raw__canvas__cartridge__course_items")["course_id"].to_pylist())
    assert set(items) == {str(course.identity.id) for course in platform.campus.content.canvas}

    platform.campus.republish(FIRST)
    (again,) = [run for run in platform.settle() if run.job == "canvas_raw_tables"]
    assert set(again.materialized.values()) == {1}


def test_every_declared_instance_is_served_under_its_name(platform: Platform) -> None:
    (canvas,) = platform.environment.canvas
    exeter = canvas.model_copy(update={"name": "exeter", "webhook_source": "oll"})
    environment = platform.environment.model_copy(update={"canvas": (canvas, exeter)})
    both = Platform(platform.campus, platform.instance, environment)
    both.settled()
    assert both.settle() == []
    assert platform.submitted == {FIRST: 2, SECOND: 2, THIRD: 2}
    assert platform.held() == both.held(dg.AssetKey(["exeter", "course_content"]))
    tables = RawTableIOManager.of(environment)
    named: list[Any] = [tables.read(f"raw__{name}__api__courses").to_pylist() for name in ("canvas", "exeter")]
    assert named[0] == named[1] != []
    sources = Counter(json.loads(one.body)["source"] for one in platform.campus.deliveries)
    assert sources == {"canvas": 3, "oll": 3}
