"""The Open edX client against a scripted Studio: exports that finish, fail, get lost and never end."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from ol_core.failures import OlError, PermanentFailure, TransientFailure, UpstreamMissing
from ol_core.orchestration.exports import ExportLimits, Submission
from ol_openedx.client import CourseExport
from openedx_server import STUDIO, Answer, OpenEdxServer, client_of

EXPORT = f"{STUDIO}/api/courses/v0/export/"
BUCKET = "https://my.dotted.bucket.s3.amazonaws.com"
A, B, C = "course-v1:O+A+R", "course-v1:O+B+R", "Old/Style/Run"
TASK_NOT_FOUND = httpx.Response(404, json={"detail": "Task not found"})
COURSE_GONE = httpx.Response(404, json={"error_code": "course_does_not_exist"})
MAINTENANCE = httpx.Response(200, text="<html>", headers={"Content-Type": "text/html"})


class Studio(OpenEdxServer):
    """Accepts exports; each course goes through its states, one per look."""

    def __init__(self, states: Mapping[str, Sequence[Answer]], *, refused: dict[str, str] | None = None) -> None:
        super().__init__()
        self.refused = refused or {}
        self.submitted: list[list[str]] = []
        self.running: set[str] = set()
        self.most_running = 0
        self.on("POST", EXPORT, self._submit)
        for course, answers in states.items():
            looks = [{"state": one} if isinstance(one, str) else one for one in answers]
            self.on("GET", f"{EXPORT}{quote(course, safe='')}/", self._look(course, looks))
            archive = httpx.Response(200, content=f"archive of {course}".encode())
            self.on("GET", f"{BUCKET}/{quote(course)}.tar.gz", archive)

    def _submit(self, request: httpx.Request) -> object:
        courses = json.loads(request.content)["courses"]
        self.submitted.append(courses)
        accepted = [course for course in courses if course not in self.refused]
        self.running.update(accepted)
        self.most_running = max(self.most_running, len(self.running))
        body = {
            "upload_urls": {course: f"{BUCKET}/{course}.tar.gz" for course in accepted},
            "upload_task_ids": {course: f"task of {course}" for course in accepted},
            "failed_uploads": {course: self.refused[course] for course in courses if course in self.refused},
        }
        return httpx.Response(400 if len(accepted) < len(courses) else 200, json=body)

    def _look(self, course: str, looks: list[Answer]) -> Answer:
        def look(request: httpx.Request) -> Answer:
            assert request.url.params["task_id"] == f"task of {course}"
            answer = looks.pop(0) if len(looks) > 1 else looks[0]
            if isinstance(answer, dict) and answer.get("state") in {"Succeeded", "Failed", "Canceled"}:
                self.running.discard(course)
            return answer

        return look


def exports_of(studio: Studio, tmp_path: Path, *courses: str, **bounds: int) -> dict[str, CourseExport | OlError]:
    deadline, in_flight = bounds.get("deadline", 3600), bounds.get("in_flight", 20)
    limits = ExportLimits(in_flight, deadline)
    return dict(client_of(studio).export_courses(dict.fromkeys(courses, "1"), tmp_path, limits=limits))


def test_archives_are_collected_as_each_export_finishes(tmp_path: Path) -> None:
    studio = Studio(
        {
            A: ["Pending", "In Progress", "Retrying", "Exporting", "S3 export of something", "Succeeded"],
            B: ["Succeeded"],
            C: ["In Progress", "Succeeded"],
        }
    )
    results = exports_of(studio, tmp_path, A, B, C, B)
    assert list(results) == [B, C, A]
    assert studio.submitted == [[A, B, C]]
    for course, export in results.items():
        content = f"archive of {course}".encode()
        assert isinstance(export, CourseExport)
        assert export.path.read_bytes() == content
        assert (export.size_bytes, export.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert export.path.parent == tmp_path  # also for a key with slashes
    downloads = [one for one in studio.requests if one.url.host.endswith("amazonaws.com")]
    assert next(one.url.raw_path.decode() for one in downloads) == "/course-v1%3AO%2BB%2BR.tar.gz"
    assert all("authorization" not in one.headers for one in downloads)
    looks = [one for one in studio.requests if one.method == "GET" and one not in downloads]
    assert all(one.headers["authorization"] == "JWT jwt" for one in looks)


def test_looks_start_early_and_grow_rare(tmp_path: Path) -> None:
    studio = Studio({A: ["In Progress"] * 60 + ["Succeeded"]})
    assert isinstance(exports_of(studio, tmp_path, A)[A], CourseExport)
    assert studio.slept[0] == pytest.approx(0.2)
    assert studio.slept == pytest.approx(sorted(studio.slept))
    assert studio.slept[-1] == pytest.approx(30)


def test_one_slow_export_does_not_delay_the_others(tmp_path: Path) -> None:
    studio = Studio({A: ["In Progress"] * 100, B: ["In Progress"] * 3 + ["Succeeded"]})
    results = client_of(studio).export_courses({A: "1", B: "1"}, tmp_path, limits=ExportLimits(2, 3600))
    assert next(results)[0] == B
    assert studio.now < 5


def test_a_partial_400_fails_only_its_courses(tmp_path: Path) -> None:
    studio = Studio({A: ["Succeeded"], B: ["Succeeded"]}, refused={B: "Course does not exist; token=s3cr3t"})
    results = exports_of(studio, tmp_path, A, B)
    assert isinstance(results[A], CourseExport)
    assert type(results[B]) is PermanentFailure
    assert "Course does not exist" in str(results[B])
    assert "s3cr3t" not in str(results[B])


def test_a_course_that_the_answer_does_not_name_fails(tmp_path: Path) -> None:
    studio = Studio({})
    studio.on("POST", EXPORT, {"upload_urls": {}, "upload_task_ids": {}, "failed_uploads": {}})
    assert "neither a task nor a reason" in str(exports_of(studio, tmp_path, A)[A])


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (httpx.Response(400, json={"developer_message": "no bucket"}), PermanentFailure, "no bucket"),
        (httpx.Response(403, json={"detail": "no"}), PermanentFailure, "lacks a permission"),
        (httpx.Response(404), UpstreamMissing, "404"),
        (httpx.Response(504), TransientFailure, "504"),
        (httpx.Response(200, text="<html>"), PermanentFailure, "JSON"),
        (httpx.Response(200, json={"upload_task_ids": [A]}), PermanentFailure, "another shape"),
    ],
    ids=["no bucket", "forbidden", "no plugin", "no answer", "login page", "another shape"],
)
def test_a_refused_submission_fails_its_courses_and_is_not_repeated(
    tmp_path: Path, answer: httpx.Response, kind: type[OlError], text: str
) -> None:
    studio = Studio({})
    studio.on("POST", EXPORT, answer)
    results = exports_of(studio, tmp_path, A, B)
    assert set(results) == {A, B}
    assert all(isinstance(one, kind) and text in str(one) for one in results.values())
    assert len(studio.requests) == 1


@pytest.mark.parametrize(
    ("looks", "kind", "text"),
    [
        (["In Progress", "Failed"], PermanentFailure, "is Failed"),
        (["Canceled"], PermanentFailure, "is Canceled"),
        ([TASK_NOT_FOUND], TransientFailure, "export task of course-v1:O+A+R was lost"),
        (["Pending", COURSE_GONE], TransientFailure, "was lost: not known to Studio"),
        ([httpx.Response(403, json={"detail": "no"})], TransientFailure, "still unknown"),
        (["In Progress"], TransientFailure, "still In Progress at its deadline"),
        (["a state of next year"], TransientFailure, "still a state of next year"),
        ([httpx.Response(500)], TransientFailure, "unknown"),
        ([{"status": "Succeeded"}], TransientFailure, "another shape"),
    ],
)
def test_an_export_that_ends_badly_costs_the_others_nothing(
    tmp_path: Path, looks: list[Answer], kind: type[OlError], text: str
) -> None:
    studio = Studio({A: looks, B: ["In Progress", "Succeeded"]})
    results = exports_of(studio, tmp_path, A, B, deadline=600)
    assert isinstance(results[A], kind)
    assert text in str(results[A])
    collected = results[B]
    assert isinstance(collected, CourseExport)
    assert studio.now <= 600
    assert list(tmp_path.iterdir()) == [collected.path]


@pytest.mark.parametrize(
    "looks",
    [
        [*[TASK_NOT_FOUND] * 9, "Pending", TASK_NOT_FOUND, TASK_NOT_FOUND, "Succeeded"],
        [httpx.Response(500), httpx.ReadTimeout("slow"), httpx.Response(502), "Succeeded"],
        [httpx.Response(429, json={"developer_message": "Expected available in 300 seconds."}), "Succeeded"],
        [httpx.Response(200, text='{"state": "Succ', headers={"Content-Type": "application/json"}), "Succeeded"],
        [{"state": None}, {}, {"state": 3}, MAINTENANCE, "Succeeded"],
        [httpx.Response(400), httpx.Response(401), httpx.Response(403), httpx.Response(404), "Succeeded"],
    ],
    ids=["not visible yet", "broken", "throttled", "cut", "strange", "refused"],
)
def test_trouble_with_a_look_does_not_end_the_wait(tmp_path: Path, looks: list[Answer]) -> None:
    assert isinstance(exports_of(Studio({A: looks}), tmp_path, A)[A], CourseExport)


def test_no_more_exports_run_at_once_than_allowed(tmp_path: Path) -> None:
    courses = [f"course-v1:O+C{number}+R" for number in range(50)]
    studio = Studio({course: ["Pending"] * (number % 7) + ["Succeeded"] for number, course in enumerate(courses)})
    results = exports_of(studio, tmp_path, *courses, in_flight=4)
    assert all(isinstance(one, CourseExport) for one in results.values())
    assert set(results) == set(courses)
    assert studio.most_running == 4
    assert sum(map(len, studio.submitted)) == 50


def test_the_deadline_counts_from_the_submission(tmp_path: Path) -> None:
    studio = Studio({A: ["In Progress"], B: ["In Progress", "Succeeded"]})
    results = exports_of(studio, tmp_path, A, B, deadline=100, in_flight=1)
    assert isinstance(results[A], TransientFailure)
    assert isinstance(results[B], CourseExport)


def test_an_archive_that_cannot_be_had_costs_the_others_nothing(tmp_path: Path) -> None:
    studio = Studio({A: ["Succeeded"], B: ["Succeeded"]})
    studio.on("GET", f"{BUCKET}/course-v1%3AO%2BA%2BR.tar.gz", httpx.Response(403, text="AccessDenied"))
    results = exports_of(studio, tmp_path, A, B)
    assert type(results[A]) is PermanentFailure
    assert "AccessDenied" in str(results[A])
    assert isinstance(results[B], CourseExport)


def test_an_address_that_is_encoded_stays_so(tmp_path: Path) -> None:
    studio = Studio({A: ["Succeeded"]})
    name = quote(A, safe="")
    url = f"https://s3.example/{name}.tar.gz?X-Amz-Signature=a%2Fb"
    body = {"upload_urls": {A: url}, "upload_task_ids": {A: f"task of {A}"}, "failed_uploads": {}}
    studio.on("POST", EXPORT, body)
    studio.on("GET", f"https://s3.example/{name}.tar.gz", httpx.Response(200, content=b"x"))
    assert isinstance(exports_of(studio, tmp_path, A)[A], CourseExport)
    assert str(studio.requests[-1].url) == url


def test_nothing_to_export_asks_nothing(tmp_path: Path) -> None:
    studio = Studio({})
    assert exports_of(studio, tmp_path) == {}
    assert studio.requests == []


def test_an_export_that_a_killed_process_submitted_is_taken_up(tmp_path: Path) -> None:
    studio = Studio({A: ["In Progress", "Succeeded"], B: ["Succeeded"]})
    kept: list[Submission] = []
    killed = client_of(studio).export_courses(
        {A: "1", B: "1"}, tmp_path, limits=ExportLimits(2, 3600), on_submitted=kept.extend
    )
    next(killed)  # B is done, A is on its way
    del killed

    resumed = client_of(studio).export_courses(
        {A: "1"},
        tmp_path,
        limits=ExportLimits(2, 3600),
        resume={one.remote_id: one for one in kept if one.partition == A},
    )
    assert [course for course, _ in resumed] == [A]
    assert studio.submitted == [[A, B]]


def test_an_export_of_an_older_version_is_not_taken_up(tmp_path: Path) -> None:
    studio = Studio({A: ["Succeeded"]})
    old = Submission(A, "1", f"task of {A}", f"{BUCKET}/{A}.tar.gz", time.time())
    (result,) = client_of(studio).export_courses({A: "2"}, tmp_path, limits=ExportLimits(), resume={"old": old})
    assert isinstance(result[1], CourseExport)
    assert studio.submitted == [[A]]
