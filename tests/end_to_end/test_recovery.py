"""What fails for good stands in the inventory with the command that recovers it; that command does."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import time_machine
from ol_core.code_locations import installed, load
from ol_core.dagster_storage import latest_check
from ol_core.orchestration.alerts import LAG_CHECK
from ol_core.orchestration.inventory import INVENTORY_CHECK
from ol_core.orchestration.retirement import RETIREMENT_CHECK
from ol_core.orchestration.sweep_tick import COVERAGE_CHECK
from ol_devkit.campus import Campus, CampusContent, Scripted
from ol_devkit.daemon import FailedTick, FinishedRun, run_until_quiet
from ol_devkit.sandbox import sandbox

XML = dg.AssetKey(["mitx", "openedx", "raw_data", "course_xml"])
BLOCKS = dg.AssetKey(["ol_warehouse_raw_data", "raw__mitx__openedx__course_blocks"])


@dataclass(frozen=True)
class Platform:
    campus: Campus
    instance: dg.DagsterInstance

    def settle(self, name: str = "openedx") -> list[FinishedRun | FailedTick]:
        return list(run_until_quiet(self.instance, load(installed((name,))), lambda _location, _job: None))

    def inventory(self, asset_key: dg.AssetKey) -> dg.AssetCheckEvaluation:
        evaluation = latest_check(self.instance, asset_key, INVENTORY_CHECK)
        assert evaluation is not None
        return evaluation


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    before = dict(os.environ)
    deployments = ("mitx", "mitxonline", "xpro")
    content = CampusContent.generated(seed=7, openedx_courses=6, canvas_courses=1, deployments=deployments)
    try:
        with sandbox(tmp_path, content) as campus, dg.DagsterInstance.get() as instance:
            yield Platform(campus, instance)
    finally:
        os.environ.clear()
        os.environ.update(before)


def ol(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [str(Path(sys.executable).parent / "ol"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_what_fails_for_good_is_recovered_by_the_command_of_its_inventory(platform: Platform) -> None:
    refused = [Scripted(status=400, body=b"{}")]
    script = platform.campus.script(("POST", "/mitx/studio/api/courses/v0/export/"), refused)
    platform.settle()
    assert script.remaining == 0

    inventory = platform.inventory(XML)
    assert not inventory.passed
    assert inventory.metadata["failed"].value == 2
    command = str(inventory.metadata["recover"].value)
    assert command == "ol recover mitx/openedx/raw_data/course_xml --failed"
    assert command in str(inventory.description)
    assert "PermanentFailure" in str(inventory.metadata["sample"].value)
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=10), tick=True):  # its window has closed
        assert platform.settle() == []
    (told,) = platform.instance.fetch_observations(dg.AssetKey(["alerts", "openedx"]), limit=10).records
    assert "mitx_openedx_course_xml of openedx: 2 x PermanentFailure" in str(told.asset_observation)

    rehearsed = json.loads(ol(*shlex.split(command)[1:], "--dry-run", "--json").stdout)
    assert [row["state"] for row in rehearsed["partitions"]] == ["failed"] * 2
    assert platform.settle() == []

    said = ol(*shlex.split(command)[1:])
    assert said.returncode == 0, said.stderr
    assert "2 of mitx/openedx/raw_data/course_xml are tried again" in said.stdout
    assert "next tick" in said.stdout

    runs = [outcome for outcome in platform.settle() if isinstance(outcome, FinishedRun)]
    assert runs[0].job == "mitx_openedx_course_xml"
    assert all(run.success for run in runs)
    for asset_key in (XML, BLOCKS):
        assert platform.inventory(asset_key).passed
        assert platform.inventory(asset_key).metadata["never_built"].value == 0
    assert platform.settle() == []


def test_every_partitioned_asset_has_an_inventory_on_its_page(platform: Platform) -> None:
    platform.settle()
    platform.settle("canvas")
    for definitions in load(installed(("openedx", "canvas"))).values():
        graph = definitions.resolve_asset_graph()
        partitioned = {key for key in graph.materializable_asset_keys if graph.get(key).partitions_def}
        checks = {key.asset_key for key in graph.asset_check_keys if key.name == INVENTORY_CHECK}
        assert partitioned == checks
        names = {key.name for key in graph.asset_check_keys}
        assert names == {INVENTORY_CHECK, COVERAGE_CHECK, RETIREMENT_CHECK, LAG_CHECK}
        told = {key for key in partitioned if latest_check(platform.instance, key, INVENTORY_CHECK) is not None}
        assert told == partitioned


def test_a_shrink_is_acknowledged_by_name(platform: Platform) -> None:
    platform.settle()
    courses = ("GET", "/mitx/lms/api/courses/v1/courses/")
    empty = json.dumps({"results": [], "pagination": {"next": None, "num_pages": 1, "count": 0}}).encode()
    platform.campus.script(courses, [Scripted(status=200, body=empty)])
    platform.settle()

    (shrink,) = json.loads(ol("retire", "show", "--json").stdout)
    assert (shrink["asset"], shrink["known"], len(shrink["gone"])) == ("mitx/openedx/raw_data/course_xml", 2, 2)
    refused = ol("retire", "acknowledge", shrink["asset"], "0123456789ab", "--yes")
    assert refused.returncode == 1
    assert f"the one that does is {shrink['shrink']}" in refused.stderr

    done = ol("retire", "acknowledge", shrink["asset"], shrink["shrink"], "--yes")
    assert done.returncode == 0, done.stderr
    assert "2 partitions of mitx/openedx/raw_data/course_xml are retired" in done.stdout
    assert json.loads(ol("retire", "show", "--json").stdout) == []


def test_a_wrong_name_is_answered_with_the_right_ones(platform: Platform) -> None:
    platform.settle("canvas")
    wrong = ol("recover", "canvas/course_contents", "--failed")
    assert wrong.returncode == 1
    assert "canvas/course_content\n" in wrong.stderr
    (course,) = platform.instance.get_dynamic_partitions("canvas_courses")
    near = ol("recover", "canvas/course_content", f"{course}1")
    assert near.returncode == 1
    assert f"did you mean {course}?" in near.stderr
    assert ol("recover", "canvas/course_content").returncode == 2
