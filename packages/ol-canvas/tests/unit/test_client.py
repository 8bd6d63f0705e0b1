"""The Canvas client against a scripted Canvas."""

import json
from dataclasses import replace
from datetime import datetime
from itertools import permutations

import httpx
import pytest
from canvas_server import API, BASE, DISABLED, REFUSED, THROTTLED, TOKEN, Answer, FakeTime, ScriptedCanvas, client_of
from ol_canvas.client import CanvasFile, CanvasModule, CanvasModuleItem, CanvasPage, CourseMetadata
from ol_core.failures import OlError, PermanentFailure, TransientFailure, UpstreamMissing


def a_course(**changes: Answer) -> ScriptedCanvas:
    """A Canvas with course 7, of which some listings answer something else."""
    listings: dict[str, Answer] = {
        "files": [
            {
                "id": 10,
                "folder_id": 3,
                "display_name": "Notes.pdf",
                "filename": "Notes.pdf",
                "content-type": "application/pdf",
                "size": 12,
                "locked": True,
                "hidden": False,
                "updated_at": "2025-08-15T10:30:00-04:00",
                "url": f"{BASE}/files/10/download?verifier=v",
            },
            {"id": 9, "folder_id": 4, "display_name": "a.png", "size": None, "url": ""},
        ],
        "folders": [{"id": 3, "full_name": "course files/week 1"}, {"id": 4, "full_name": "course files"}],
        "pages": [{"page_id": 5, "url": "welcome", "title": "Welcome", "published": True, "front_page": True}],
        "assignments": [
            {
                "id": 6,
                "name": "Essay",
                "points_possible": 10,
                "due_at": None,
                "published": False,
                "submission_types": ["online_upload", "online_text_entry"],
            }
        ],
        "modules": [
            {
                "id": 2,
                "name": "Week 1",
                "position": 1,
                "published": True,
                "items": [{"id": 21, "title": "Read", "type": "Page", "position": 1, "page_url": "welcome"}],
            }
        ],
    }
    listings |= changes
    return ScriptedCanvas({f"GET courses/7/{what}": answer for what, answer in listings.items()})


def test_courses_come_from_all_pages_each_once() -> None:
    full = {
        "id": 1,
        "name": "One",
        "course_code": "ONE",
        "sis_course_id": None,
        "workflow_state": "available",
        "start_at": "2025-01-01T05:00:00Z",
        "end_at": None,
        "account_id": 1,
        "enrollment_term_id": 4,
    }
    restricted = {"id": "1~23", "access_restricted_by_date": True}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.params.get("page") == "2":
            return httpx.Response(200, json=[restricted, {**full, "name": "One again"}])
        link = f'<{API}/accounts/1/courses?page=2&per_page=100>; rel="next"'
        return httpx.Response(200, json=[full], headers={"Link": link})

    canvas = ScriptedCanvas({"GET accounts/1/courses": answer})
    first, second = client_of(canvas).courses()
    assert (first.course_id, first.name, first.sis_course_id) == ("1", "One", None)
    assert (first.start_at, first.end_at) == (datetime(2025, 1, 1, 5), None)  # noqa: DTZ001 - records hold naive UTC
    assert (first.account_id, first.term_id) == ("1", "4")
    assert (second.course_id, second.name, second.workflow_state) == ("1~23", None, None)
    assert canvas.requests[0].url.params["per_page"] == "100"
    assert all(one.headers["authorization"] == f"Bearer {TOKEN}" for one in canvas.requests)


def test_an_account_that_cannot_be_listed_is_never_empty() -> None:
    canvas = ScriptedCanvas({"GET accounts/1/courses": httpx.Response(403, json=REFUSED)})
    with pytest.raises(PermanentFailure, match="lacks a permission"):
        list(client_of(canvas).courses())


def test_metadata_has_everything_with_one_request_a_listing() -> None:
    canvas = a_course()
    metadata = client_of(canvas).course_metadata("7")
    notes, image = metadata.files
    assert notes == CanvasFile(
        file_id="10",
        folder_path="course files/week 1",
        display_name="Notes.pdf",
        filename="Notes.pdf",
        content_type="application/pdf",
        size_bytes=12,
        locked=True,
        hidden=False,
        updated_at=datetime(2025, 8, 15, 14, 30),  # noqa: DTZ001 - records hold naive UTC
    )
    assert (image.folder_path, image.size_bytes) == ("course files", None)
    assert metadata.pages == (CanvasPage("5", "welcome", "Welcome", published=True, front_page=True),)
    (essay,) = metadata.assignments
    assert (essay.assignment_id, essay.points_possible) == ("6", 10.0)
    assert essay.submission_types == ("online_upload", "online_text_entry")
    (week,) = metadata.modules
    assert week.items == (CanvasModuleItem("21", "Read", "Page", 1),)
    assert metadata.unavailable == ()
    assert sorted(canvas.asked) == sorted(canvas.answers)
    modules = next(one for one in canvas.requests if one.url.path.endswith("/modules"))
    assert modules.url.params["include[]"] == "items"


@pytest.mark.parametrize("items_url", [f"{API}/courses/7/modules/2/items", None])
@pytest.mark.parametrize("left_out", [{}, {"items": None}])
def test_items_that_canvas_left_out_are_asked_for(items_url: str | None, left_out: dict[str, None]) -> None:
    canvas = a_course(modules=[{"id": 2, "name": "Long", "items_count": 2, "items_url": items_url, **left_out}])

    def items(request: httpx.Request) -> httpx.Response:
        page = int(request.url.params.get("page", "1"))
        link = f'<{API}/courses/7/modules/2/items?page=2>; rel="next"' if page == 1 else ""
        return httpx.Response(200, json=[{"id": page, "content_id": page + 100}], headers={"Link": link})

    canvas.answers["GET courses/7/modules/2/items"] = items
    (module,) = client_of(canvas).course_metadata("7").modules
    assert [(item.item_id, item.content_id) for item in module.items] == [("1", "101"), ("2", "102")]


@pytest.mark.parametrize(
    ("what", "answer", "unavailable"),
    [
        ("files", httpx.Response(403, json=REFUSED), ("files",)),
        ("files", httpx.Response(401, json=REFUSED), ("files",)),
        ("folders", httpx.Response(403, json=REFUSED), ("folders",)),
        ("pages", httpx.Response(404, json=DISABLED), ("pages",)),
        ("modules", httpx.Response(404, json=DISABLED), ("modules",)),
    ],
)
def test_what_a_course_hides_is_named_and_no_failure(
    what: str, answer: httpx.Response, unavailable: tuple[str, ...]
) -> None:
    metadata = client_of(a_course(**{what: answer})).course_metadata("7")
    assert metadata.unavailable == unavailable
    assert metadata.assignments
    assert (metadata.files != ()) == (what != "files")


def test_throttling_is_not_a_hidden_tool() -> None:
    throttled = httpx.Response(403, text=THROTTLED, headers={"X-Rate-Limit-Remaining": "0.0"})
    time = FakeTime()
    metadata = client_of(a_course(files=iter([throttled, throttled, [{"id": 1}]])), time).course_metadata("7")
    assert [file.file_id for file in metadata.files] == ["1"]
    assert metadata.unavailable == ()
    assert time.now >= 10  # an empty quota needs that long to hold a reserve again


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.Response(401, json={}, headers={"WWW-Authenticate": 'Bearer realm="canvas-lms"'}), PermanentFailure),
        (
            httpx.Response(404, json={"errors": [{"message": "The specified resource does not exist."}]}),
            UpstreamMissing,
        ),
        (httpx.Response(500, json={"errors": [{"message": "An error occurred."}]}), TransientFailure),
        (httpx.Response(429, text="429 Too Many Requests (Rate Limit Exceeded)\n"), TransientFailure),
    ],
    ids=["dead token", "no course", "broken", "throttled"],
)
def test_other_refusals_fail_the_course(answer: httpx.Response, kind: type[OlError]) -> None:
    with pytest.raises(OlError) as caught:
        client_of(a_course(files=answer)).course_metadata("7")
    assert isinstance(caught.value, kind)


@pytest.mark.parametrize("status", [401, 403])
def test_a_course_of_which_nothing_is_shown_is_a_failure(status: int) -> None:
    canvas = a_course(
        **dict.fromkeys(("files", "pages", "assignments", "modules"), httpx.Response(status, json=REFUSED))
    )
    with pytest.raises(PermanentFailure, match="shows nothing of it to this token"):
        client_of(canvas).course_metadata("7")


def test_a_record_of_another_shape_names_course_and_field() -> None:
    with pytest.raises(PermanentFailure, match=r"files of Canvas course 7.*0\.id"):
        client_of(a_course(files=[{"display_name": "no id"}])).course_metadata("7")


def test_ids_are_one_part_of_a_path() -> None:
    canvas = ScriptedCanvas({})
    with pytest.raises(UpstreamMissing):
        client_of(canvas).course_metadata("sis_course_id:CS/101.11")
    assert canvas.requests[0].url.raw_path.startswith(b"/api/v1/courses/sis_course_id%3ACS%2F101.11/files")


def test_requests_wait_for_quota() -> None:
    low = httpx.Response(200, json=[{"id": 1}], headers={"X-Rate-Limit-Remaining": "40.5"})
    odd = httpx.Response(200, json=[], headers={"X-Rate-Limit-Remaining": "?"})
    time = FakeTime()
    client_of(a_course(files=low, folders=odd, pages=odd), time).course_metadata("7")
    assert time.slept == [pytest.approx(5.95)]


METADATA = CourseMetadata(
    course_id="7",
    files=(CanvasFile("10", updated_at=datetime(2025, 8, 15, 14, 30)), CanvasFile("9")),  # noqa: DTZ001
    pages=(),
    assignments=(),
    modules=(
        CanvasModule("30", "b", 2),
        CanvasModule("31", "a", 1, items=(CanvasModuleItem("2", position=2), CanvasModuleItem("1", position=1))),
        CanvasModule("29", "c"),
    ),
    unavailable=("pages", "folders"),
)


def test_the_document_is_json_in_canonical_order() -> None:
    document = METADATA.to_json()
    assert json.loads(json.dumps(document)) == document
    assert [file["file_id"] for file in document["files"]] == ["9", "10"]
    assert document["files"][1]["updated_at"] == "2025-08-15T14:30:00Z"
    assert [module["module_id"] for module in document["modules"]] == ["31", "30", "29"]
    assert [item["item_id"] for item in document["modules"][0]["items"]] == ["1", "2"]
    assert document["unavailable"] == ["folders", "pages"]


def test_the_digest_follows_what_is_said_and_not_its_order() -> None:
    orders = {replace(METADATA, modules=modules).digest for modules in permutations(METADATA.modules)}
    assert orders == {METADATA.digest}
    week = METADATA.modules[0]
    changed = [
        replace(METADATA, unavailable=()),
        replace(METADATA, files=METADATA.files[:1]),
        replace(METADATA, modules=(replace(week, name="B"), *METADATA.modules[1:])),
        replace(METADATA, modules=(replace(week, published=True), *METADATA.modules[1:])),
    ]
    assert len({one.digest for one in (METADATA, *changed)}) == 5


def test_the_digest_does_not_see_urls_that_expire() -> None:
    def course_with(verifier: str) -> str:
        file = {"id": 10, "folder_id": 3, "url": f"{BASE}/files/10/download?verifier={verifier}"}
        return client_of(a_course(files=[file])).course_metadata("7").digest

    assert course_with("one") == course_with("two")
