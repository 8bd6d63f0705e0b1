"""The `openedx` code location, as installed, with one deployment whose LMS and Studio are the world."""

import io
import json
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import dagster as dg
import httpx
from ol_core.environment import development
from ol_core.http import HttpPolicy
from ol_core.orchestration.desired_state import (
    DATA_VERSION_TAG,
    WANTED_VERSION_TAG,
    AttemptPolicy,
    as_version,
    succeeded,
)
from ol_openedx.archive import TABLE_KINDS
from ol_openedx.assets import DeploymentAssets
from ol_openedx.assets.content import LAST_KIND, READER_VERSION
from ol_openedx.client import OpenEdxClient
from ol_openedx.resources import OpenEdxApiClientFactory
from ol_openedx.sweep import list_version

from ol_devkit.simulator.clock import FakeClock
from ol_devkit.simulator.http import WorldTransport, located
from ol_devkit.simulator.subject import Event, Subject, given_up_by_outcome, held_by_outcome, sensors_of
from ol_devkit.simulator.world import World

KEYS = DeploymentAssets("mitx")
_ARCHIVE = "seeded"
"""Version of the archives that are held at the beginning."""


class OpenEdx(WorldTransport):
    """An LMS, a Studio with the export plugin, and its bucket."""

    def kind(self, request: httpx.Request) -> str:
        """Return `token`, `list`, `versions`, `submit`, `look` or `collect`."""
        path = request.url.path
        if path.endswith("/access_token"):
            return "token"
        if path.endswith("/api/courses/v1/courses/"):
            return "list"
        if path.endswith("/versions/"):
            return "versions"
        if request.method == "POST":
            return "submit"
        return "look" if "task_id" in request.url.params else "collect"

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer as the plugin's version 0.4.1 does."""
        match self.kind(request):
            case "token":
                return httpx.Response(200, json={"access_token": "jwt", "expires_in": 36000})
            case "list":
                return self._list(request)
            case "versions":
                return self._versions(_courses(request))
            case "submit":
                return self._submit(_courses(request))
            case "look":
                return self._look(request.url.params["task_id"])
            case _:
                return self._collect(unquote(request.url.path).removeprefix("/").removesuffix(".tar.gz"))

    def _list(self, request: httpx.Request) -> httpx.Response:
        page = self.page(request)
        if page is None:
            return httpx.Response(500)
        following = f"https://lms/api/courses/v1/courses/?page={page[1]}" if page[1] else None
        return httpx.Response(
            200, json={"results": [{"id": course} for course in page[0]], "pagination": {"next": following}}
        )

    def _versions(self, courses: list[str]) -> httpx.Response:
        found = {course: self.world.version(course) for course in courses}
        versions = {course: {"published_version": version} for course, version in found.items() if version}
        return httpx.Response(200, json={"versions": versions, "missing": sorted(found.keys() - versions.keys())})

    def _submit(self, courses: list[str]) -> httpx.Response:
        tasks = {course: self.world.begin(course) for course in courses if course in self.world.versions}
        refused = {course: "Course does not exist" for course in courses if course not in tasks}
        urls = {course: f"https://bucket/{course}.tar.gz" for course in tasks}
        answer = {"upload_urls": urls, "upload_task_ids": tasks, "failed_uploads": refused}
        return httpx.Response(400 if refused else 200, json=answer)

    def _look(self, task: str) -> httpx.Response:
        match self.world.state(task):
            case "missing":
                return httpx.Response(404, json={"detail": "Task not found"})
            case "waiting":
                return httpx.Response(200, json={"state": "In Progress"})
            case "failed":
                return httpx.Response(200, json={"state": "Failed"})
            case "ready":
                return httpx.Response(200, json={"state": "Succeeded"})

    def _collect(self, course: str) -> httpx.Response:
        if self.world.faults.get(course) == "transient":
            return httpx.Response(503)
        return httpx.Response(200, stream=httpx.ByteStream(archive(course, self.world.versions[course])))


def openedx(world: World, folder: Path) -> Subject:
    """Build the subject: what is exported of one deployment, and what follows from it."""
    transport = OpenEdx(world)

    class Simulated(
        OpenEdxApiClientFactory
    ):  # Dagster makes it anew for each use, so only its class can know the world
        def client(self, deployment: str, *, policy: HttpPolicy | None = None) -> OpenEdxClient:
            del deployment
            return _client(transport, policy)

    definitions = located("openedx", folder, {"openedx_api": Simulated})
    policy = AttemptPolicy.of(development(data_dir=folder, campus_url="http://127.0.0.1:1"))
    return Subject(
        name="openedx",
        definitions=definitions,
        asset_key=KEYS.course_xml,
        job=KEYS.name("course_xml"),
        partitions=str(KEYS.partitions.name),
        tickers=sensors_of(definitions, [KEYS.name("sweep"), KEYS.name("follow")]),
        wanted=lambda _course, version: _wanted(version),
        seeds=_seeds,
        held=held_by_outcome(KEYS.course_xml),
        given_up=given_up_by_outcome(KEYS.course_xml, policy),
        listed=lambda: _listed(transport),
    )


def _client(transport: WorldTransport, policy: HttpPolicy | None = None) -> OpenEdxClient:
    clock = transport.world.clock
    return OpenEdxClient(
        "https://lms",
        "https://studio",
        "id",
        "s3cr3t",
        policy=policy,
        transport=transport,
        sleep=clock.advance,
        clock=clock,
    )


@cache
def _wanted(version: str) -> str:
    """Return what the sweep makes of a version, by asking the client itself."""
    with _client(OpenEdx(World(FakeClock(), {"course": version}))) as client:
        return as_version(str(client.export_versions(["course"])["course"]))


def _seeds(course: str, version: str) -> Iterator[Event]:
    """Say that a course run's archive, and all that is made of it, is held."""
    processed = f"{_ARCHIVE}.{READER_VERSION}"
    for key in (KEYS.course_xml, KEYS.webhook, *map(KEYS.processed, TABLE_KINDS), *map(KEYS.raw, TABLE_KINDS)):
        yield dg.AssetMaterialization(key, partition=course, tags={DATA_VERSION_TAG: _ARCHIVE})
    yield succeeded(KEYS.course_xml, course, version)
    yield succeeded(KEYS.processed(LAST_KIND), course, processed)
    yield succeeded(KEYS.raw(LAST_KIND), course, processed)
    yield succeeded(KEYS.webhook, course, _ARCHIVE)


def _listed(transport: WorldTransport) -> Iterator[Event]:
    with _client(transport) as client:
        version = list_version(list(client.course_runs()))
    yield dg.AssetMaterialization(KEYS.course_runs, tags={WANTED_VERSION_TAG: version})


def _courses(request: httpx.Request) -> list[str]:
    return list(json.loads(request.content)["courses"])


def archive(course: str, version: str) -> bytes:
    """Return the smallest archive that there is of a course run."""
    number = course.split("+")[1]
    files = {
        "course/course.xml": f'<course url_name="R" org="Org" course="{number}"/>',
        "course/course/R.xml": f'<course display_name="{version}"/>',
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as packed:
        for path, text in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(text)
            packed.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()
