"""What the installed locations request when the world moves, driven through their sensors on a real instance."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import time_machine
from ol_core.code_locations import installed, load
from ol_core.environment import load_environment
from ol_core.orchestration.desired_state import MAX_ATTEMPTS
from ol_devkit.campus import Campus, CampusContent, Scripted
from ol_devkit.daemon import FailedTick, FinishedRun, run_until_quiet
from ol_devkit.sandbox import sandbox
from ol_openedx.definitions import location


@dataclass(frozen=True)
class Platform:
    campus: Campus
    instance: dg.DagsterInstance

    def settle(self, *names: str) -> list[FinishedRun | FailedTick]:
        locations = load(installed(names or ("openedx",)))
        return list(run_until_quiet(self.instance, locations, lambda _location, _job: None))

    def settled(self, *names: str) -> dict[str, int]:
        """Materializations for each asset until everything is quiet; every run must succeed."""
        counts: dict[str, int] = {}
        for outcome in self.settle(*names):
            assert isinstance(outcome, FinishedRun), outcome
            assert outcome.success, outcome.error
            for key, count in outcome.materialized.items():
                counts[key] = counts.get(key, 0) + count
        return counts


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    before = dict(os.environ)
    content = CampusContent.generated(
        seed=7, openedx_courses=3, canvas_courses=2, deployments=("mitx", "mitxonline", "xpro")
    )
    try:
        with sandbox(tmp_path, content) as campus, dg.DagsterInstance.get() as instance:
            yield Platform(campus, instance)
    finally:
        os.environ.clear()
        os.environ.update(before)


def partition(platform: Platform, name: str) -> str:
    return str(platform.instance.get_dynamic_partitions(name)[0])


def test_a_quiet_world_requests_nothing_and_what_is_republished_moves_alone(platform: Platform) -> None:
    both = ("canvas", "openedx")
    first = platform.settled(*both)
    assert first["canvas/course_content"] == 2
    assert first["mitx/openedx/raw_data/course_xml"] == 1
    assert platform.settle(*both) == []

    delivered = len(platform.campus.deliveries)
    platform.campus.republish(partition(platform, "mitx_openedx_course_runs"))
    again = platform.settled(*both)

    assert again["mitx/openedx/raw_data/course_xml"] == 1
    assert again["ol_warehouse_raw_data/raw__mitx__openedx__course_blocks"] == 1
    assert again["mitx/openedx/course_content_webhook"] == 1
    assert len(platform.campus.deliveries) == delivered + 1
    assert [key for key in again if key.startswith(("canvas", "xpro", "mitxonline"))] == []
    assert platform.settle() == []


def test_a_list_that_cannot_be_read_retires_nothing_and_hides_no_update(platform: Platform) -> None:
    platform.settled()
    platform.campus.script(("GET", "/mitx/lms/api/courses/v1/courses/"), [Scripted(status=400, body=b"{}")] * 20)
    platform.campus.republish(partition(platform, "mitx_openedx_course_runs"))

    runs = [outcome for outcome in platform.settle() if isinstance(outcome, FinishedRun)]

    assert "mitx_openedx_course_xml" in {run.job for run in runs}
    assert all(run.success for run in runs)
    assert len(platform.instance.get_dynamic_partitions("mitx_openedx_course_runs")) == 1


def test_a_deployment_that_is_down_fails_its_tick_and_costs_the_others_nothing(platform: Platform) -> None:
    platform.settled()
    down = [Scripted(status=400, body=b"{}")] * 20
    platform.campus.script(("GET", "/mitx/lms/api/courses/v1/courses/"), down)
    platform.campus.script(("POST", "/mitx/studio/api/courses/v0/export/versions/"), down)
    platform.campus.republish(partition(platform, "xpro_openedx_course_runs"))

    outcomes = platform.settle()

    failed = [outcome for outcome in outcomes if isinstance(outcome, FailedTick)]
    assert {tick.sensor for tick in failed} == {"mitx_openedx_sweep"}
    runs = [outcome for outcome in outcomes if isinstance(outcome, FinishedRun)]
    assert {run.location for run in runs} == {"openedx"}
    assert all(run.success and run.job.startswith("xpro") for run in runs)
    assert len(platform.instance.get_dynamic_partitions("mitx_openedx_course_runs")) == 1


def test_a_failing_export_is_tried_a_bounded_number_of_times_and_not_at_once(platform: Platform) -> None:
    refused = [Scripted(status=500, body=b"{}")] * 1000
    platform.campus.script(("POST", "/mitx/studio/api/courses/v0/export/"), refused)

    stated = load_environment()
    patient = stated.orchestration.model_copy(update={"backoff_seconds": 900.0})  # longer than a slow machine takes
    openedx = location(stated.model_copy(update={"orchestration": patient}))

    exports: list[FinishedRun] = []
    for hours in range(2 * MAX_ATTEMPTS):
        with time_machine.travel(datetime.now(UTC) + timedelta(hours=hours), tick=True):
            outcomes = list(run_until_quiet(platform.instance, {"openedx": openedx}, lambda _location, _job: None))
        runs = [one for one in outcomes if isinstance(one, FinishedRun) and one.job == "mitx_openedx_course_xml"]
        assert len(runs) == (1 if hours < MAX_ATTEMPTS else 0)
        exports += runs

    assert [run.success for run in exports] == [False] * MAX_ATTEMPTS
