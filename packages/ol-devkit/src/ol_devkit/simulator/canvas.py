"""The `canvas` code location, as installed, with one instance that is the world."""

import io
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import dagster as dg
import httpx
from ol_canvas.assets import InstanceAssets
from ol_canvas.assets.content import LAST_KIND, READER_VERSION
from ol_canvas.client import CanvasClient
from ol_canvas.resources import CanvasApiClientFactory
from ol_canvas.sweep import list_version
from ol_canvas.tables import COURSE_KINDS
from ol_core.environment import development
from ol_core.http import HttpPolicy
from ol_core.orchestration.desired_state import (
    DATA_VERSION_TAG,
    WANTED_VERSION_TAG,
    AttemptPolicy,
    as_version,
    succeeded,
)

from ol_devkit.simulator.clock import FakeClock
from ol_devkit.simulator.http import WorldTransport, located
from ol_devkit.simulator.subject import Event, Subject, given_up_by_outcome, held_by_outcome, sensors_of
from ol_devkit.simulator.world import World

KEYS = InstanceAssets("canvas")
_CARTRIDGE = "seeded"
"""Version of the cartridges that are held at the beginning."""

_CALLS_PER_VERSION = 4
"""Files, pages, assignments and modules; folders are asked for only where there are files, and here are none."""

_MANIFEST = """<manifest identifier="m" xmlns="http://www.imsglobal.org/xsd/imsccv1p1/imscp_v1p1">
<metadata><schema>IMS Common Cartridge</schema><schemaversion>1.1.0</schemaversion></metadata><organizations/>
<resources><resource identifier="r" type="webcontent" href="f.txt"><file href="f.txt"/></resource></resources>
</manifest>"""


class Canvas(WorldTransport):
    """A Canvas with one account; a page of each course says its version."""

    def kind(self, request: httpx.Request) -> str:
        """Return `list`, `versions` (several per course), `submit`, `find`, `look`, `user` or `collect`."""
        match request.url.path.strip("/").split("/"):
            case ["api", "v1", "accounts", _, "courses"]:
                return "list"
            case ["api", "v1", "courses", _, "content_exports"]:
                return "submit" if request.method == "POST" else "find"
            case ["api", "v1", "courses", _, "content_exports", _]:
                return "look"
            case ["api", "v1", "courses", _, _]:
                return "versions"
            case ["api", "v1", "users", "self"]:
                return "user"
            case _:
                return "collect"

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer as Canvas does."""
        match [unquote(part) for part in request.url.path.strip("/").split("/")]:
            case ["api", "v1", "accounts", *_]:
                return self._list(request)
            case ["api", "v1", "users", *_]:
                return httpx.Response(200, json={"id": 1})
            case ["api", "v1", "courses", course, "content_exports", *export]:
                return self._exports(course, *export, is_new=request.method == "POST")
            case ["api", "v1", "courses", course, what]:
                return self._part(course, what)
            case [*_, file]:
                return self._collect(file.removesuffix(".imscc"))
            case _:
                return httpx.Response(404)

    def _exports(self, course: str, number: str = "", *, is_new: bool = False) -> httpx.Response:
        if is_new:
            return httpx.Response(200, json=self._export(self.world.begin(course)))
        mine = [one for one in self.world.ready_at if one.rpartition("/")[0] == course]
        if not number:
            return httpx.Response(200, json=[self._export(one) for one in reversed(mine)])
        export = f"{course}/{number}"
        return httpx.Response(200, json=self._export(export)) if export in mine else httpx.Response(404)

    def _list(self, request: httpx.Request) -> httpx.Response:
        page = self.page(request)
        if page is None:
            return httpx.Response(500)
        address = f"<https://canvas/api/v1/accounts/1/courses?page={page[1]}&per_page=100>"
        headers = {"Link": f'{address}; rel="next"'} if page[1] else {}
        return httpx.Response(200, json=[{"id": course} for course in page[0]], headers=headers)

    def _part(self, course: str, what: str) -> httpx.Response:
        if course not in self.world.versions:
            return httpx.Response(404)
        if what != "pages":
            return httpx.Response(200, json=[])
        return httpx.Response(200, json=[{"page_id": 1, "url": "front", "title": self.world.version(course)}])

    def _export(self, export: str) -> dict[str, object]:
        course, _, number = export.rpartition("/")
        begun = self.world.begun[int(number) - 1]
        states = {"ready": "exported", "failed": "failed", "waiting": "exporting", "missing": "deleted"}
        state = states[self.world.state(export)]
        address = {"attachment": {"url": f"https://files/{course}.imscc"}} if state == "exported" else {}
        created = datetime.fromtimestamp(self.world.clock.began_at + begun.at, UTC)
        return {
            "id": int(number),
            "export_type": "common_cartridge",
            "workflow_state": state,
            "user_id": 1,
            "created_at": created.isoformat(),
            **address,
        }

    def _collect(self, course: str) -> httpx.Response:
        if self.world.faults.get(course) == "transient":
            return httpx.Response(503)
        return httpx.Response(200, stream=httpx.ByteStream(_cartridge(self.world.versions[course])))


def canvas(world: World, folder: Path) -> Subject:
    """Build the subject: what is exported of one instance, and what follows from it."""
    transport = Canvas(world)

    class Simulated(CanvasApiClientFactory):  # Dagster makes it anew for each use, so only its class can know the world
        def client(self, instance: str, *, policy: HttpPolicy | None = None) -> CanvasClient:
            del instance
            return _client(transport, policy)

    definitions = located("canvas", folder, {"canvas_api": Simulated})
    policy = AttemptPolicy.of(development(data_dir=folder, campus_url="http://127.0.0.1:1"))
    return Subject(
        name="canvas",
        definitions=definitions,
        asset_key=KEYS.course_content,
        job=KEYS.name("course_export"),
        partitions=str(KEYS.partitions.name),
        tickers=sensors_of(definitions, [KEYS.name("sweep"), KEYS.name("follow")]),
        wanted=_wanted,
        seeds=_seeds,
        held=held_by_outcome(KEYS.course_content),
        given_up=given_up_by_outcome(KEYS.course_content, policy),
        listed=lambda: _listed(transport),
        calls_per_version=_CALLS_PER_VERSION,
    )


def _client(transport: WorldTransport, policy: HttpPolicy | None = None) -> CanvasClient:
    clock = transport.world.clock
    return CanvasClient(
        "https://canvas", "s3cr3t", account_id=1, policy=policy, transport=transport, sleep=clock.advance, clock=clock
    )


@cache
def _wanted(course: str, version: str) -> str:
    """Return what the sweep makes of a version, by asking the client itself."""
    with _client(Canvas(World(FakeClock(), {course: version}))) as client:
        return as_version(client.course_metadata(course).digest)


def _seeds(course: str, version: str) -> Iterator[Event]:
    """Say that a course's cartridge, and all that is made of it, is held."""
    raw = f"{_CARTRIDGE}.{READER_VERSION}"
    for key in (KEYS.course_content, KEYS.course_metadata, KEYS.webhook, *map(KEYS.raw, COURSE_KINDS)):
        yield dg.AssetMaterialization(key, partition=course, tags={DATA_VERSION_TAG: _CARTRIDGE})
    yield succeeded(KEYS.course_content, course, version)
    yield succeeded(KEYS.raw(LAST_KIND), course, raw)
    yield succeeded(KEYS.webhook, course, _CARTRIDGE)


def _listed(transport: WorldTransport) -> Iterator[Event]:
    with _client(transport) as client:
        version = list_version(list(client.courses()))
    yield dg.AssetMaterialization(KEYS.courses, tags={WANTED_VERSION_TAG: version})


def _cartridge(version: str) -> bytes:
    """Return the smallest cartridge that there is."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("imsmanifest.xml", _MANIFEST)
        archive.writestr("f.txt", version)
    return buffer.getvalue()
