"""The Canvas client against a scripted Canvas: exports that finish, fail, get lost and never end."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from canvas_server import BASE, THROTTLED, Answer, FakeTime, ScriptedCanvas, client_of
from ol_canvas.client import CanvasExport
from ol_core.failures import OlError, PermanentFailure, TransientFailure
from ol_core.orchestration.exports import ExportLimits, Submission

A, B, C = "7", "8", "1~23"
ME, SOMEBODY = 40, 41


class Exports(ScriptedCanvas):
    """Accepts exports; those of a course go through its states, one a look, and the last one stays."""

    def __init__(self, states: Mapping[str, Sequence[Answer]], **routes: Answer) -> None:
        self.states = states
        self.submitted: list[str] = []
        self.jobs: list[dict[str, Any]] = []
        self.looks: dict[int, list[Answer]] = {}
        self.most_running = 0
        super().__init__({"GET users/self": {"id": ME}, **routes})

    def job(self, course: str, *, at: float | None = None, user: int = ME, kind: str = "common_cartridge") -> int:
        """Start an export, as a request or somebody else does."""
        number = 50 + len(self.jobs)
        created = datetime.fromtimestamp(time.time() if at is None else at, UTC)
        self.jobs.append(
            {
                "id": number,
                "export_type": kind,
                "user_id": user,
                "workflow_state": "created",
                "created_at": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "progress_url": f"https://alias.canvas.example/api/v1/progress/{number + 1000}",
                "course": course,
            }
        )
        self.looks[number] = list(self.states.get(course, ["exported"]))
        return number

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode().partition("?")[0].removeprefix("/api/v1/")
        if f"{request.method} {path}" not in self.answers:
            self.answers[f"{request.method} {path}"] = self._exports
        return super()._answer(request)

    def _exports(self, request: httpx.Request) -> httpx.Response:
        match request.url.path.removeprefix("/").split("/"):
            case ["api", "v1", "courses", course, "content_exports"] if request.method == "POST":
                self.submitted.append(course)
                number = self.job(course)
                running = [one for one in self.jobs if one["workflow_state"] in {"created", "exporting"}]
                self.most_running = max(self.most_running, len(running))
                return httpx.Response(200, json=self.jobs[number - 50])
            case ["api", "v1", "courses", course, "content_exports"]:
                return httpx.Response(200, json=[_shown(one) for one in reversed(self.jobs) if one["course"] == course])
            case ["api", "v1", "courses", _, "content_exports", number]:
                return self._look(int(number))
            case ["api", "v1", "progress", number]:
                return httpx.Response(200, json={"id": int(number), "workflow_state": "running"})
            case ["files", number, "download"]:
                return httpx.Response(200, content=f"cartridge {number}".encode())
        return httpx.Response(404, json={"errors": [{"message": "no"}]})

    def _look(self, number: int) -> httpx.Response:
        looks, job = self.looks[number], self.jobs[number - 50]
        answer = looks.pop(0) if len(looks) > 1 else looks[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)
        if isinstance(answer, Mapping):
            return httpx.Response(200, json={**job, **answer})
        job["workflow_state"] = answer
        return httpx.Response(200, json=_shown(job))


def _shown(job: Mapping[str, Any]) -> dict[str, Any]:
    file = {"attachment": {"url": f"{BASE}/files/{job['id']}/download?verifier=s3cr3t"}}
    return {**(file if job["workflow_state"] == "exported" else {}), **job}


def exports_of(canvas: Exports, tmp_path: Path, *courses: str, **bounds: Any) -> dict[str, CanvasExport | OlError]:
    limits = ExportLimits(bounds.pop("in_flight", 20), bounds.pop("deadline", 3600))
    client = client_of(canvas, bounds.pop("clock", None))
    return dict(client.export_courses(dict.fromkeys(courses, "1"), tmp_path, limits=limits, **bounds))


def test_cartridges_are_collected_as_each_export_finishes(tmp_path: Path) -> None:
    canvas = Exports(
        {
            A: ["created", "waiting_for_external_tool", "exporting", "some_new_state", None, "exported"],
            B: ["exported"],
            C: ["exporting", "exported"],
        }
    )
    results = exports_of(canvas, tmp_path, A, B, C)
    assert list(results) == [B, C, A]
    for course, export in results.items():
        content = f"cartridge {50 + [A, B, C].index(course)}".encode()
        assert isinstance(export, CanvasExport)
        assert export.path.read_bytes() == content
        assert (export.size_bytes, export.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert export.path.parent == tmp_path
    posts = [one for one in canvas.requests if one.method == "POST"]
    assert {json.loads(one.content)["skip_notifications"] for one in posts} == {True}
    assert {json.loads(one.content)["export_type"] for one in posts} == {"common_cartridge"}
    downloads = [one for one in canvas.requests if one.url.path.startswith("/files/")]
    assert len(downloads) == 3
    assert all("authorization" not in one.headers for one in downloads)


def test_looks_start_early_and_grow_rare(tmp_path: Path) -> None:
    clock = FakeTime()
    canvas = Exports({A: ["exporting"] * 60 + ["exported"]})
    assert isinstance(exports_of(canvas, tmp_path, A, clock=clock)[A], CanvasExport)
    assert clock.slept[0] == pytest.approx(0.2)
    assert clock.slept == pytest.approx(sorted(clock.slept))
    assert clock.slept[-1] == pytest.approx(30)


@pytest.mark.parametrize(
    ("looks", "kind", "text"),
    [
        (["exporting", "failed"], PermanentFailure, "export 50 is failed"),
        (["deleted"], PermanentFailure, "is deleted"),
        ([{"workflow_state": "exported"}], TransientFailure, "lost"),
        ([{"workflow_state": "exported", "attachment": None}], TransientFailure, "lost"),
        ([{"workflow_state": "exported", "attachment": {"url": ""}}], TransientFailure, "lost"),
        ([{"workflow_state": "exported_for_course_copy"}], TransientFailure, "lost"),
        ([httpx.Response(404, json={"errors": [{"message": "no"}]})], TransientFailure, "lost"),
        (["exporting"], TransientFailure, "still exporting at its deadline"),
        (["a state of next year"], TransientFailure, "still a state of next year"),
        ([None], TransientFailure, "still in no state"),
        ([httpx.Response(500)], TransientFailure, "unknown"),
        ([httpx.Response(403, json={"errors": []})], TransientFailure, "still unknown"),
        ([httpx.Response(200, json={"state": "exported"})], TransientFailure, "another shape"),
    ],
)
def test_an_export_that_ends_badly_costs_the_others_nothing(
    tmp_path: Path, looks: list[Answer], kind: type[OlError], text: str
) -> None:
    clock = FakeTime()
    canvas = Exports({A: looks, B: ["exporting", "exported"]})
    results = exports_of(canvas, tmp_path, A, B, deadline=600, clock=clock)
    assert type(results[A]) is kind
    assert text in str(results[A])
    collected = results[B]
    assert isinstance(collected, CanvasExport)
    assert clock.now <= 600
    assert list(tmp_path.iterdir()) == [collected.path]


@pytest.mark.parametrize(
    "looks",
    [
        [httpx.Response(404), "created", httpx.Response(404), "exported"],
        [httpx.Response(500), httpx.ReadTimeout("slow"), httpx.Response(502), "exported"],
        [httpx.Response(403, text=THROTTLED), httpx.Response(429, headers={"Retry-After": "300"}), "exported"],
        [*[{"workflow_state": "exported"}] * 9, "exported"],
        [{"workflow_state": 5}, {"attachment": {"url": None}}, {"created_at": "?"}, httpx.Response(401), "exported"],
    ],
    ids=["not visible yet", "broken", "throttled", "file not visible yet", "strange"],
)
def test_trouble_with_a_look_does_not_end_the_wait(tmp_path: Path, looks: list[Answer]) -> None:
    assert isinstance(exports_of(Exports({A: looks}), tmp_path, A)[A], CanvasExport)


@pytest.mark.parametrize("state", ["created", "exporting", "a state of next year"])
def test_an_export_whose_job_died_is_not_waited_for(tmp_path: Path, state: str) -> None:
    clock = FakeTime()
    canvas = Exports({A: [state]}, **{"GET progress/1050": {"id": 1050, "workflow_state": "failed"}})
    (error,) = exports_of(canvas, tmp_path, A, clock=clock).values()
    assert type(error) is PermanentFailure
    assert f"{state}, and the job that makes it has failed" in str(error)
    assert clock.now < 1


@pytest.mark.parametrize(
    "answer", [*(httpx.Response(status, json={}) for status in (401, 403, 404)), httpx.Response(200), {"id": 1}]
)
def test_a_job_that_says_nothing_decides_nothing(tmp_path: Path, answer: Answer) -> None:
    canvas = Exports({A: ["exporting", "exported"]}, **{"GET progress/1050": answer})
    assert isinstance(exports_of(canvas, tmp_path, A)[A], CanvasExport)


def test_no_more_exports_run_at_once_than_allowed(tmp_path: Path) -> None:
    courses = [str(number) for number in range(50)]
    canvas = Exports({course: ["exporting"] * (int(course) % 7) + ["exported"] for course in courses})
    results = exports_of(canvas, tmp_path, *courses, in_flight=4)
    assert all(isinstance(one, CanvasExport) for one in results.values())
    assert set(results) == set(courses)
    assert canvas.most_running == 4
    assert sorted(canvas.submitted) == sorted(courses)


def test_a_refused_export_says_why_and_costs_the_others_nothing(tmp_path: Path) -> None:
    refused = httpx.Response(400, json={"message": "invalid export_type"})
    canvas = Exports({}, **{f"POST courses/{A}/content_exports": refused})
    results = exports_of(canvas, tmp_path, A, B)
    assert type(results[A]) is PermanentFailure
    assert "invalid export_type" in str(results[A])
    assert isinstance(results[B], CanvasExport)
    assert len([one for one in canvas.asked if one == f"POST courses/{A}/content_exports"]) == 1


def test_a_file_on_another_host_gets_no_token(tmp_path: Path) -> None:
    signed = "https://s3.example/bucket/50?X-Amz-Signature=s3cr3t"
    canvas = Exports({}, **{"GET /files/50/download": httpx.Response(302, headers={"Location": signed})})
    canvas.answers["GET /bucket/50"] = httpx.Response(200, content=b"cartridge")
    assert isinstance(exports_of(canvas, tmp_path, A)[A], CanvasExport)
    assert canvas.requests[-1].url.host == "s3.example"
    assert all("authorization" not in one.headers for one in canvas.requests[-2:])


def test_a_file_that_is_refused_is_told_without_its_verifier(tmp_path: Path) -> None:
    canvas = Exports({}, **{"GET /files/50/download": httpx.Response(403, text="expired")})
    error = exports_of(canvas, tmp_path, A)[A]
    assert type(error) is PermanentFailure
    assert "/files/50/download" in str(error)
    assert "s3cr3t" not in str(error)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_goes_before_it_is_fetched_is_worth_another_export(tmp_path: Path) -> None:
    canvas = Exports({A: ["exported", "deleted"]})
    error = exports_of(canvas, tmp_path, A)[A]
    assert type(error) is TransientFailure
    assert "is gone" in str(error)


# exports that are there already


def test_an_export_that_a_killed_process_submitted_is_taken_up(tmp_path: Path) -> None:
    canvas = Exports({A: ["exporting", "exported"], B: ["exported"]})
    kept: list[Submission] = []
    limits = ExportLimits(2, 3600)
    killed = client_of(canvas).export_courses({A: "1", B: "1"}, tmp_path, limits=limits, on_submitted=kept.extend)
    next(killed)  # B is done, A is on its way
    del killed

    resume = {one.remote_id: one for one in kept if one.partition == A}
    (result,) = client_of(canvas).export_courses({A: "1"}, tmp_path, limits=limits, resume=resume)
    assert isinstance(result[1], CanvasExport)
    assert canvas.submitted == [A, B]


def test_an_export_of_an_older_version_is_not_taken_up(tmp_path: Path) -> None:
    canvas = Exports({})
    old = Submission(A, "1", str(canvas.job(A)), "", time.time())
    (result,) = client_of(canvas).export_courses({A: "2"}, tmp_path, limits=ExportLimits(), resume={"old": old})
    assert isinstance(result[1], CanvasExport)
    assert result[1].export_id == "51"
    assert canvas.submitted == [A]


def test_an_export_is_found_among_strange_ones(tmp_path: Path) -> None:
    canvas = Exports({})
    canvas.job(A)
    canvas.job(A)
    canvas.jobs[1] |= {"created_at": "some day", "workflow_state": 5, "attachment": {"url": None}}
    result = exports_of(canvas, tmp_path, A, wanted_since={A: time.time() - 30})[A]
    assert isinstance(result, CanvasExport)
    assert (result.export_id, canvas.submitted) == ("50", [])


@pytest.mark.parametrize("lost", [httpx.ReadTimeout("slow"), httpx.Response(504), httpx.Response(500)])
def test_a_submission_whose_answer_is_lost_is_found_and_not_repeated(tmp_path: Path, lost: Answer) -> None:
    canvas = Exports({A: ["exporting", "exported"]})

    def submit(_: httpx.Request) -> httpx.Response:
        canvas.submitted.append(A)
        canvas.job(A)
        if isinstance(lost, Exception):
            raise lost
        assert isinstance(lost, httpx.Response)
        return httpx.Response(lost.status_code)

    canvas.answers[f"POST courses/{A}/content_exports"] = submit
    assert isinstance(exports_of(canvas, tmp_path, A)[A], CanvasExport)
    assert canvas.submitted == [A]


def test_a_submission_that_canvas_did_not_take_fails_for_the_time_being(tmp_path: Path) -> None:
    canvas = Exports({}, **{f"POST courses/{A}/content_exports": httpx.Response(504)})
    canvas.job(A, at=time.time() - 60)  # an older one is not mistaken for it
    assert isinstance(exports_of(canvas, tmp_path, A)[A], TransientFailure)
    assert canvas.asked.count(f"POST courses/{A}/content_exports") == 1


@pytest.mark.parametrize(
    ("export", "state", "is_taken_up"),
    [
        ({}, {"workflow_state": "created"}, True),
        ({}, {"workflow_state": "exported"}, True),
        ({}, {"workflow_state": "failed"}, False),
        ({}, {"workflow_state": "exported", "attachment": None}, False),
        ({"at": time.time() - 120}, {}, False),
        ({"user": SOMEBODY}, {}, False),
        ({"kind": "zip"}, {}, False),
    ],
    ids=["unfinished", "finished", "failed", "without a file", "older", "somebody else's", "of another kind"],
)
def test_an_export_of_this_version_that_nobody_kept_is_taken_up(
    tmp_path: Path, export: dict[str, Any], state: dict[str, Any], *, is_taken_up: bool
) -> None:
    canvas = Exports({})
    canvas.job(A, **export)
    canvas.jobs[0] |= state
    result = exports_of(canvas, tmp_path, A, wanted_since={A: time.time() - 30})[A]
    assert isinstance(result, CanvasExport)
    assert (result.export_id == "50") == is_taken_up
    assert canvas.submitted == ([] if is_taken_up else [A])
