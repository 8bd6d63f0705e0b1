"""The Canvas client against recorded answers and the published description of Canvas's API."""

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ol_canvas.client import CanvasClient, CanvasExport
from ol_core.orchestration.exports import ExportLimits

pytestmark = pytest.mark.samples


@pytest.fixture(scope="module")
def samples() -> Path:
    candidates = [Path(given)] if (given := os.environ.get("OL_SAMPLES_DIR")) else list(_siblings())
    found = next((path for path in candidates if path.is_dir()), None)
    if found is None:
        pytest.skip("no folder of samples: set OL_SAMPLES_DIR")
    return found


def _siblings() -> Iterator[Path]:
    return (parent / "shared" / "samples" for parent in Path(__file__).resolve().parents)


def client_of(answer: Callable[[httpx.Request], httpx.Response], *, account_id: int) -> CanvasClient:
    transport = httpx.MockTransport(answer)
    return CanvasClient(
        "https://example.com", "token", account_id=account_id, transport=transport, sleep=lambda _: None
    )


def recorded(samples: Path) -> Callable[[httpx.Request], httpx.Response]:
    """Answer with the recordings; their pages have numbers, and pages 2 have endpoints of their own."""
    answers: dict[tuple[str, str], dict[str, Any]] = {}
    for name in ("account", "course", "module"):
        text = (samples / f"canvasapi-fixtures/tests/fixtures/{name}.json").read_text(encoding="utf-8")
        for one in json.loads(text).values():
            if one["method"] == "GET" and isinstance(one.get("data"), list):
                path, _, query = one["endpoint"].partition("?")
                answers.setdefault((path, httpx.QueryParams(query).get("page", "1")), one)

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v1/")
        if path == "courses/1/pages":  # these recordings are of no page's shape
            return httpx.Response(404, json={"message": "That page has been disabled for this course"})
        if re.fullmatch(r"courses/1/modules/[^1]\d*/items", path):  # only those of module 1 are recorded
            return httpx.Response(200, json=[])
        one = answers[path, request.url.params.get("page", "1")]
        return httpx.Response(one.get("status_code", 200), json=one["data"], headers=one.get("headers"))

    return answer


def test_recorded_answers_are_read(samples: Path) -> None:
    client = client_of(recorded(samples), account_id=1)
    courses = list(client.courses())
    assert len(courses) == 4
    assert all(course.course_id and course.name and course.account_id == "1" for course in courses)
    metadata = client.course_metadata("1")
    assert metadata.unavailable == ("pages",)
    assert len(metadata.files) == 4
    assert len(metadata.assignments) == 4
    assert all(file.display_name and file.size_bytes for file in metadata.files)
    assert all(module.name and module.position for module in metadata.modules)


def test_every_call_is_described(samples: Path, tmp_path: Path) -> None:
    operations: dict[tuple[str, str], set[str]] = {}
    for file in (samples / "canvas-swagger-1.2" / "api").glob("*.json"):
        for api in json.loads(file.read_text(encoding="utf-8")).get("apis", []):
            for one in api.get("operations", []):
                path = re.sub(r"\{\w+\}", "7", api["path"])
                operations[one["method"], path] = {parameter["name"] for parameter in one["parameters"]}
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        finished = {"id": 7, "workflow_state": "exported", "attachment": {"url": "https://example.com/files/7"}}
        listings = {"files": [{"id": 1}], "modules": [{"id": 7}], "content_exports": {**finished, "workflow_state": ""}}
        path = request.url.path
        content = finished if path.endswith("/7") else listings.get(path.rpartition("/")[2], [])
        return httpx.Response(200, stream=httpx.ByteStream(json.dumps(content).encode()))

    client = client_of(answer, account_id=7)
    assert list(client.courses()) == []
    client.course_metadata("7")
    limits = ExportLimits(deadline_seconds=60)
    (export,) = client.export_courses({"7": "1"}, tmp_path, limits=limits)
    assert isinstance(export[1], CanvasExport)
    *calls, download = requests
    assert download.url.path == "/files/7"
    assert len(calls) == 10
    for call in calls:
        described = operations[call.method, call.url.path.removeprefix("/api")]
        given = {name.removesuffix("[]") for name in call.url.params} | set(json.loads(call.content or b"{}"))
        assert given - {"per_page"} <= described
