"""The Open edX client against a scripted LMS: course runs and their versions."""

import json
from datetime import datetime

import httpx
import pytest
from ol_core.failures import OlError, PermanentFailure, TransientFailure, UpstreamMissing
from ol_openedx.client import CourseRun
from openedx_server import LMS, STUDIO, OpenEdxServer, client_of

OUTLINE = f"{LMS}/api/learning_sequences/v1/course_outline"


def listed(course_id: str, **more: object) -> dict[str, object]:
    return {"id": course_id, "course_id": course_id, "name": "A course", "blocks_url": "...", **more}


def test_course_runs_come_from_all_pages_each_once() -> None:
    full = listed(
        "course-v1:MITx+6.00x+1T2025",
        org="MITx",
        number="6.00x",
        start="2025-02-01T00:00:00-05:00",
        end=None,
        enrollment_start="2024-12-01T00:00:00Z",
        enrollment_end="2025-03-01T00:00:00Z",
        pacing="self",
        hidden=False,
    )
    pages = {
        "1": {
            "results": [full, listed("MITx/7.00x/Old")],
            "pagination": {"next": f"{LMS}/api/courses/v1/courses/?page=2"},
        },
        "2": {
            "results": [full, listed("course-v1:MITx+8.01+b")],
            "pagination": {"next": f"{LMS}/api/courses/v1/courses/?page=3"},
        },
    }
    server = OpenEdxServer()
    server.on(
        "GET",
        f"{LMS}/api/courses/v1/courses/",
        lambda request: pages.get(
            request.url.params.get("page", "1"),
            httpx.Response(404, json={"developer_message": "Invalid page (3): That page contains no results"}),
        ),
    )
    first, *others = client_of(server).course_runs()
    assert first == CourseRun(
        course_id="course-v1:MITx+6.00x+1T2025",
        name="A course",
        org="MITx",
        number="6.00x",
        run="1T2025",
        start_at=datetime(2025, 2, 1, 5),  # noqa: DTZ001 - records hold naive UTC
        end_at=None,
        enrollment_start_at=datetime(2024, 12, 1),  # noqa: DTZ001
        enrollment_end_at=datetime(2025, 3, 1),  # noqa: DTZ001
        pacing="self",
        is_hidden=False,
    )
    assert [(run.course_id, run.run) for run in others] == [("MITx/7.00x/Old", "Old"), ("course-v1:MITx+8.01+b", "b")]
    asked = server.to(f"{LMS}/api/courses/v1/courses/")
    assert dict(asked[0].url.params) == {"page_size": "100"}
    assert all(one.headers["authorization"] == "JWT jwt" for one in asked)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.Response(403, json={"developer_message": "no"}), PermanentFailure),
        (httpx.Response(404, json={"developer_message": "Invalid page."}), UpstreamMissing),
        (httpx.Response(500), TransientFailure),
        (httpx.Response(200, json={"detail": "maintenance"}), PermanentFailure),
    ],
    ids=["forbidden", "no such list", "broken", "no list"],
)
def test_a_list_that_cannot_be_read_is_never_empty(answer: httpx.Response, kind: type[OlError]) -> None:
    server = OpenEdxServer()
    server.on("GET", f"{LMS}/api/courses/v1/courses/", answer)
    with pytest.raises(OlError) as caught:
        list(client_of(server).course_runs())
    assert isinstance(caught.value, kind)


def test_only_the_course_list_gets_a_page_size() -> None:
    server = OpenEdxServer()
    server.on("GET", f"{OUTLINE}/a", {"published_version": "1"})
    client_of(server).course_versions(["a"])
    assert [dict(one.url.params) for one in server.requests if one.method == "GET"] == [{}]


# versions

VERSIONS = f"{STUDIO}/api/courses/v0/export/versions/"
ENTRY = {
    "published_version": "65f0",
    "static_assets": {"count": 2, "latest_upload": "2025-01-01T00:00:00Z", "latest_asset": "a.png"},
    "transcripts": {"count": 1, "latest_modified": "2025-01-01T00:00:00Z"},
}


def versions_of(entries: dict[str, object], courses: list[str]) -> dict[str, str | OlError]:
    server = OpenEdxServer()
    server.on(
        "POST",
        VERSIONS,
        lambda request: {
            "versions": {one: entries[one] for one in json.loads(request.content)["courses"] if one in entries},
            "missing": [one for one in json.loads(request.content)["courses"] if one not in entries],
        },
    )
    return client_of(server).course_versions(courses)


def test_a_version_moves_with_every_field_and_with_nothing_else() -> None:
    reordered = dict(reversed(ENTRY.items()))
    changed: list[object] = [
        {**ENTRY, "published_version": "65f1"},
        {**ENTRY, "static_assets": {**ENTRY["static_assets"], "count": 3}},  # type: ignore[dict-item] # an object
        {**ENTRY, "transcripts": {"count": 1, "latest_modified": "2025-01-02T00:00:00Z"}},
        {**ENTRY, "a field of a later release": 1},
    ]
    entries = dict(zip("abcdef", [ENTRY, reordered, *changed], strict=True))
    versions = versions_of(entries, list(entries))
    assert versions["a"] == versions["b"]
    assert len(set(versions.values())) == 5


def test_a_course_that_studio_misses_costs_the_others_nothing() -> None:
    versions = versions_of({"a": ENTRY, "b": ENTRY}, ["a", "gone", "b", "a"])
    assert list(versions) == ["a", "gone", "b"]
    assert isinstance(versions["a"], str)
    assert isinstance(versions["gone"], UpstreamMissing)


def test_courses_are_asked_for_in_batches() -> None:
    server = OpenEdxServer()
    server.on(
        "POST",
        VERSIONS,
        lambda request: {"versions": dict.fromkeys(json.loads(request.content)["courses"], ENTRY), "missing": []},
    )
    courses = [f"course-v1:O+C+{number}" for number in range(450)]
    assert len(client_of(server).course_versions(courses)) == 450
    batches = [json.loads(one.content)["courses"] for one in server.to(VERSIONS)]
    assert [len(batch) for batch in batches] == [1, 200, 200, 50]
    assert [one for batch in batches[1:] for one in batch] == courses


def test_nothing_is_asked_for_no_course() -> None:
    server = OpenEdxServer()
    assert client_of(server).course_versions([]) == {}
    assert server.requests == []


def test_a_batch_that_fails_costs_the_other_batches_nothing() -> None:
    server = OpenEdxServer()
    bad = {"developer_message": "boom", "error_code": "internal_error"}

    def answer(request: httpx.Request) -> object:
        courses = json.loads(request.content)["courses"]
        return httpx.Response(400, json=bad) if "150" in courses else {"versions": dict.fromkeys(courses, ENTRY)}

    server.on("POST", VERSIONS, answer)
    versions = client_of(server).course_versions(map(str, range(300)))
    assert [one for one, version in versions.items() if isinstance(version, OlError)] == [str(n) for n in range(200)]
    assert "boom" in str(versions["150"])


def test_throttled_batches_are_asked_for_again() -> None:
    server = OpenEdxServer()
    throttled = httpx.Response(429, json={"developer_message": "Expected available in 9 seconds."})
    server.on("POST", VERSIONS, [throttled, httpx.Response(503), {"versions": {"a": ENTRY}}])
    assert isinstance(client_of(server).course_versions(["a"])["a"], str)
    assert server.now >= 9


@pytest.mark.parametrize("status", [404, 405])
def test_without_the_plugins_versions_outlines_stand_in(status: int) -> None:
    server = OpenEdxServer()
    server.on("POST", VERSIONS, httpx.Response(status, text="<h1>Not Found</h1>"))
    server.on("GET", f"{OUTLINE}/course-v1%3AO%2BC%2BR", {"published_version": "65f0", "title": "A course"})
    server.on("GET", f"{OUTLINE}/O%2FC%2FR", httpx.Response(400, json={"developer_message": "old-style key"}))
    server.on("GET", f"{OUTLINE}/unpublished", {"published_version": ""})
    server.on("GET", f"{OUTLINE}/throttled", [httpx.Response(429), {"published_version": "65f1"}])
    versions = client_of(server).course_versions(
        ["course-v1:O+C+R", "O/C/R", "course-v1:O+C+Gone", "unpublished", "throttled"]
    )
    assert versions["course-v1:O+C+R"] == "65f0"
    assert type(versions["O/C/R"]) is PermanentFailure
    assert "old-style key" in str(versions["O/C/R"])
    assert isinstance(versions["course-v1:O+C+Gone"], UpstreamMissing)
    assert type(versions["unpublished"]) is PermanentFailure
    assert versions["throttled"] == "65f1"


def test_a_plugin_that_takes_the_question_for_an_export_is_asked_with_one_course() -> None:
    server = OpenEdxServer()
    exported: list[str] = []

    def export(request: httpx.Request) -> object:
        courses = json.loads(request.content)["courses"]
        exported.extend(courses)
        answer = {"upload_urls": dict.fromkeys(courses, "u"), "upload_task_ids": dict.fromkeys(courses, "t")}
        return {**answer, "failed_uploads": {}}

    server.on("POST", VERSIONS, export)
    courses = [f"c{number}" for number in range(300)]
    for course in courses:
        server.on("GET", f"{OUTLINE}/{course}", {"published_version": f"v-{course}"})
    assert client_of(server).course_versions(courses) == {course: f"v-{course}" for course in courses}
    assert exported == ["c0"]


def test_an_outage_ends_soon_for_thousands_of_courses() -> None:
    server = OpenEdxServer()
    server.on("POST", VERSIONS, httpx.Response(404))
    courses = [f"c{number}" for number in range(5000)]
    server.default = httpx.ConnectError("refused")
    versions = client_of(server).course_versions(courses)
    assert all(isinstance(version, TransientFailure) for version in versions.values())
    assert len(versions) == 5000
    assert len(server.requests) < 50
