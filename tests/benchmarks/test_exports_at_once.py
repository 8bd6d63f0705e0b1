"""Many exports wanted at once: CPU seconds, events and queries a course, with a Studio in memory and tiny archives."""

import io
import json
import os
import sys
import tarfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import pytest
from ol_core.desired_state import AttemptPolicy, outcomes
from ol_core.environment import development
from ol_core.exports import ExportLimits
from ol_core.http import HttpPolicy
from ol_core.resources import shared_resources
from ol_core.retirement import ShrinkGuard
from ol_openedx.assets import DeploymentAssets, deployment_assets
from ol_openedx.client import OpenEdxClient
from ol_openedx.resources import OpenEdxApiClientFactory
from ol_openedx.sensors import follow_plan, follow_sensor, sweep_sensor
from sqlalchemy import Engine, event

N = int(os.environ.get("OL_BENCHMARK_EXPORTS", "200"))
IN_FLIGHT = 20
BAR_CPU_SECONDS = 0.3
"""Orchestration's share of a course, beside the remote system's own time."""

KEYS = DeploymentAssets("mitx")
COURSES = [f"course-v1:Org+C{number}+R" for number in range(N)]


class Studio(httpx.MockTransport):
    """Exports each course after two looks; time passes only where somebody sleeps."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.calls: Counter[str] = Counter()
        self.looks: Counter[str] = Counter()
        self.running: set[str] = set()
        self.most_running = 0
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def _answer(self, request: httpx.Request) -> httpx.Response:  # noqa: PLR0911 - one an endpoint
        path = request.url.path
        if path.endswith("/access_token"):
            return httpx.Response(200, json={"access_token": "jwt", "expires_in": 36000})
        if path.endswith("/api/courses/v1/courses/"):
            self.calls["list"] += 1
            page, last = int(request.url.params.get("page", 1)), -(-N // 100)
            some = [{"id": course} for course in COURSES[(page - 1) * 100 : page * 100]]
            following = f"https://lms/api/courses/v1/courses/?page={page + 1}" if page < last else None
            return httpx.Response(200, json={"results": some, "pagination": {"next": following}})
        if path.endswith("/versions/"):
            self.calls["versions"] += 1
            asked = json.loads(request.content)["courses"]
            return httpx.Response(200, json={"versions": {one: {"published_version": "1"} for one in asked}})
        if request.method == "POST":
            self.calls["submit"] += 1
            asked = json.loads(request.content)["courses"]
            self.running |= set(asked)
            self.most_running = max(self.most_running, len(self.running))
            urls = {one: f"https://bucket/{one}.tar.gz" for one in asked}
            return httpx.Response(200, json={"upload_urls": urls, "upload_task_ids": {one: one for one in asked}})
        if "task_id" in request.url.params:
            self.calls["look"] += 1
            course = request.url.params["task_id"]
            self.looks[course] += 1
            if self.looks[course] < 2:
                return httpx.Response(200, json={"state": "In Progress"})
            self.running.discard(course)
            return httpx.Response(200, json={"state": "Succeeded"})
        self.calls["collect"] += 1
        return httpx.Response(200, stream=httpx.ByteStream(archive_of(path)))


def archive_of(name: str) -> bytes:
    files = {
        "course/course.xml": f'<course url_name="R" org="Org" course="{name.split("+")[1]}"/>',
        "course/course/R.xml": "<course/>",
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, text in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


STUDIO = Studio()


class Factory(OpenEdxApiClientFactory):
    def client(self, deployment: str, *, policy: HttpPolicy | None = None) -> OpenEdxClient:
        del deployment
        clock: dict[str, Any] = {"sleep": STUDIO.sleep, "clock": lambda: STUDIO.now}
        return OpenEdxClient("https://lms", "https://studio", "id", "s3cr3t", policy=policy, transport=STUDIO, **clock)


@contextmanager
def counted_queries() -> Iterator[Counter[str]]:
    queries: Counter[str] = Counter()

    def count(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        queries[statement.split(" ", 1)[0].lower()] += 1

    event.listen(Engine, "before_cursor_execute", count)
    try:
        yield queries
    finally:
        event.remove(Engine, "before_cursor_execute", count)


def definitions_in(folder: Path) -> dg.Definitions:
    environment = development(data_dir=folder, campus_url="http://127.0.0.1:1")
    policy = AttemptPolicy.of(environment)
    steps = deployment_assets(KEYS, webhook_source="x", policy=policy, limits=ExportLimits(IN_FLIGHT, 4200))
    jobs = {
        name: dg.define_asset_job(KEYS.name(name), selection=dg.AssetSelection.assets(*one.keys))
        for name, one in steps.items()
    }
    plan = follow_plan(KEYS, policy=policy, exports_in_flight=IN_FLIGHT, announces=True)
    resources = shared_resources(environment)
    return dg.Definitions(
        assets=list(steps.values()),
        jobs=list(jobs.values()),
        sensors=[
            sweep_sensor(KEYS, jobs, plan, rotation_seconds=3600, guard=ShrinkGuard()),
            follow_sensor(KEYS, jobs, plan, seconds=60),
        ],
        resources={**resources, "openedx_api": Factory(deployments=[], secrets=resources["secrets"])},
        executor=dg.in_process_executor,
    )


class Loop:
    """Ticks sensors and runs what they request, as the daemon does, and adds up the CPU seconds of each."""

    def __init__(self, instance: dg.DagsterInstance, definitions: dg.Definitions) -> None:
        self.instance, self.definitions = instance, definitions
        self.cpu: defaultdict[str, float] = defaultdict(float)
        self.runs: Counter[str] = Counter()
        self.cursor: str | None = None

    def until_quiet(self, sensor_name: str) -> None:
        while self._round(sensor_name):
            pass

    def _round(self, sensor_name: str) -> bool:
        definitions = self.definitions
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            sensor_name=sensor_name,
            definitions=definitions,
            resources=definitions.resources,
        )
        started = time.process_time()
        with context:
            tick = definitions.resolve_sensor_def(sensor_name).evaluate_tick(context)
        self.cursor = tick.cursor
        for change in tick.dynamic_partitions_requests or []:
            self.instance.add_dynamic_partitions(change.partitions_def_name, list(change.partition_keys))
        self.cpu[f"ticks of {sensor_name}"] += time.process_time() - started
        requests = [one for one in tick.run_requests or [] if not str(one.job_name).endswith("webhook")]
        for request in requests:
            started = time.process_time()
            quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
            result = definitions.resolve_job_def(str(request.job_name)).execute_in_process(
                instance=self.instance, tags=dict(request.tags), run_config={**request.run_config, **quiet}
            )
            assert result.success
            self.runs[str(request.job_name)] += 1
            self.cpu[str(request.job_name)] += time.process_time() - started
        return bool(requests)


@pytest.mark.benchmark
def test_exports_wanted_at_once(tmp_path: Path) -> None:
    definitions = definitions_in(tmp_path)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance, counted_queries() as queries:
        loop = Loop(instance, definitions)
        loop.until_quiet(KEYS.name("sweep"))
        exporting, asked = sum(loop.cpu.values()) / N, sum(queries.values()) / N
        loop.cursor = None
        loop.until_quiet(KEYS.name("follow"))
        done = outcomes(instance, KEYS.course_xml)
    lines = [
        f"{N} exports wanted at once; most in flight {STUDIO.most_running}; source calls {dict(STUDIO.calls)}",
        *(f"{name}: {loop.runs[name]} runs, {seconds / N:.4f} CPU s a course" for name, seconds in loop.cpu.items()),
        f"exporting: {exporting:.3f} CPU s and {asked:.1f} queries a course; bar {BAR_CPU_SECONDS} s",
        f"all steps: {sum(loop.cpu.values()) / N:.3f} CPU s and {sum(queries.values()) / N:.1f} queries a course",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    assert len(done) == N
    assert STUDIO.most_running <= IN_FLIGHT
    assert exporting <= BAR_CPU_SECONDS
    assert sum(loop.cpu.values()) / N <= BAR_CPU_SECONDS
