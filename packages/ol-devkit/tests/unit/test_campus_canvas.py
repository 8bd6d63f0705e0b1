import io
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from ol_devkit.campus import Behaviour, Campus, CampusContent, Scripted
from ol_devkit.campus.courses import Revision

FIRST = 4001


def walk(client: httpx.Client, url: str) -> list[list[dict[str, Any]]]:
    pages = []
    while url:
        answer = client.get(url)
        assert answer.status_code == 200, answer.text
        pages.append(answer.json())
        url = answer.links.get("next", {}).get("url", "")
    return pages


# Access


def test_a_call_without_a_token_is_told_to_log_in(campus: Campus, web: httpx.Client) -> None:
    answer = web.get(f"{campus.url}/canvas/api/v1/courses/{FIRST}")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="canvas-lms"'
    assert answer.json()["status"] == "unauthenticated"


def test_a_wrong_token_is_invalid(campus: Campus, web: httpx.Client) -> None:
    answer = web.get(f"{campus.url}/canvas/api/v1/courses/{FIRST}", headers={"Authorization": "Bearer nope"})
    assert answer.status_code == 401
    assert "WWW-Authenticate" in answer.headers
    assert answer.json() == {"errors": [{"message": "Invalid access token."}]}


def test_a_token_in_the_query_works(campus: Campus, web: httpx.Client) -> None:
    token = campus.secrets["canvas"]["access_token"]
    answer = web.get(f"{campus.url}/canvas/api/v1/accounts/1/courses", params={"access_token": token, "per_page": 1})
    assert answer.status_code == 200
    assert token not in answer.headers["Link"]


@pytest.mark.parametrize("state", ["expired", "revoked"])
def test_a_dead_token(
    open_campus: Callable[..., Campus], canvas_client: Callable[..., httpx.Client], state: Any
) -> None:
    campus = open_campus(behaviour=Behaviour(canvas_token=state))
    with canvas_client(campus) as client:
        answer = client.get(f"courses/{FIRST}")
    assert answer.status_code == 401
    assert answer.json()["errors"][0]["message"] == f"{state.capitalize()} access token."
    assert ("expired_at" in answer.json()["errors"][0]) == (state == "expired")


def test_refusals_by_course(open_campus: Callable[..., Campus], canvas_client: Callable[..., httpx.Client]) -> None:
    campus = open_campus()
    switches = campus.behaviour
    switches.canvas_no_permission.add(FIRST)
    switches.canvas_files_hidden.add(FIRST + 1)
    switches.canvas_pages_disabled.add(FIRST + 1)
    switches.canvas_restricted.add(FIRST + 2)
    with canvas_client(campus) as client:
        refused = client.get(f"courses/{FIRST}")
        assert refused.status_code == 403
        assert "WWW-Authenticate" not in refused.headers
        message = "user not authorized to perform that action"
        assert refused.json() == {"status": "unauthorized", "errors": [{"message": message}]}
        switches.canvas_permission_status = 401
        older = client.get(f"courses/{FIRST}")
        assert (older.status_code, "WWW-Authenticate" in older.headers) == (401, False)
        assert client.get(f"courses/{FIRST + 1}/files").json() == refused.json()
        assert client.get(f"courses/{FIRST + 1}/folders").status_code == 401
        disabled = client.get(f"courses/{FIRST + 1}/pages")
        assert (disabled.status_code, disabled.json()) == (
            404,
            {"message": "That page has been disabled for this course"},
        )
        listed = {course["id"]: course for course in client.get("accounts/1/courses").json()}
        assert listed[FIRST + 2] == {"id": FIRST + 2, "access_restricted_by_date": True}


@pytest.mark.parametrize("path", ["courses/1", "courses/4001/modules/1/items", "accounts/2/courses", "nothing/here"])
def test_what_does_not_exist(canvas: httpx.Client, path: str) -> None:
    answer = canvas.get(path)
    assert answer.status_code == 404
    assert answer.json() == {"errors": [{"message": "The specified resource does not exist."}]}


# Paging and identity


def test_courses_page_by_opaque_bookmarks_without_last(canvas: httpx.Client, campus: Campus) -> None:
    first = canvas.get("accounts/1/courses?per_page=2&state[]=available&state[]=completed&state[]=unpublished")
    assert set(first.links) == {"current", "next", "first"}
    assert "bookmark" in first.links["next"]["url"]
    assert first.links["next"]["url"].count("state") == 3
    pages = walk(canvas, str(first.url))
    assert [len(page) for page in pages] == [2, 2, 2]
    assert [course["id"] for page in pages for course in page] == [
        course.identity.id for course in campus.content.canvas
    ]


def test_ten_a_page_unless_asked_and_a_hundred_at_most(
    open_campus: Callable[..., Campus], canvas_client: Callable[..., httpx.Client]
) -> None:
    campus = open_campus(CampusContent.generated(canvas_courses=1, openedx_courses=0, size=400))
    with canvas_client(campus) as client:
        total = len(campus.content.canvas[0].view(Revision()).files)
        assert total > 100
        assert len(client.get(f"courses/{FIRST}/files").json()) == 10
        assert len(client.get(f"courses/{FIRST}/files?per_page=5000").json()) == 100
        assert sum(len(page) for page in walk(client, f"courses/{FIRST}/files?per_page=100")) == total
        modules = client.get(f"courses/{FIRST}/modules?per_page=30&page=2")
        assert {"prev", "next", "last"} <= set(modules.links)
        assert client.get(modules.links["last"]["url"]).links.keys().isdisjoint({"next"})
        assert client.get(f"courses/{FIRST}/modules?per_page=30&page=9").json() == []
        assert client.get(f"courses/{FIRST}/modules?page=x").status_code == 400


def test_the_list_can_be_narrowed(canvas: httpx.Client) -> None:
    def states(**params: str) -> set[str]:
        return {course["workflow_state"] for course in canvas.get("accounts/1/courses", params=params).json()}

    assert states() == {"available", "completed"}
    assert states(**{"state[]": "completed"}) == {"completed"}
    assert canvas.get("accounts/1/courses?enrollment_term_id=99").json() == []
    assert len(canvas.get("accounts/1/courses?enrollment_term_id=7").json()) == 6


def test_ids_are_numbers_or_text_as_asked(canvas: httpx.Client) -> None:
    plain = canvas.get(f"courses/{FIRST}/modules?include[]=items").json()
    accept = {"Accept": "application/json+canvas-string-ids"}
    text = canvas.get(f"courses/{FIRST}/modules?include[]=items", headers=accept).json()
    assert text[0]["id"] == str(plain[0]["id"])
    assert text[0]["items"][0]["module_id"] == str(plain[0]["id"])
    assert text[0]["position"] == plain[0]["position"] == 1


def test_a_course_by_its_sis_id(canvas: httpx.Client) -> None:
    course = canvas.get(f"courses/{FIRST}").json()
    assert canvas.get(f"courses/sis_course_id:{course['sis_course_id']}").json() == course


# Content


def test_the_lists_hold_the_generated_course(canvas: httpx.Client, campus: Campus) -> None:
    view = campus.content.canvas[0].view(Revision())
    for kind, key in {"files": "id", "folders": "id", "pages": "page_id", "assignments": "id", "modules": "id"}.items():
        listed = [record[key] for page in walk(canvas, f"courses/{FIRST}/{kind}?per_page=3") for record in page]
        assert listed == [record.id for record in getattr(view, kind)], kind
    folders = {folder["id"]: folder["full_name"] for folder in canvas.get(f"courses/{FIRST}/folders").json()}
    file = canvas.get(f"courses/{FIRST}/files?per_page=100").json()[0]
    assert folders[file["folder_id"]].startswith("course files")
    assert "body" not in canvas.get(f"courses/{FIRST}/pages").json()[0]


def test_some_modules_leave_their_items_out(
    open_campus: Callable[..., Campus], canvas_client: Callable[..., httpx.Client]
) -> None:
    campus = open_campus(CampusContent.generated(canvas_courses=1, openedx_courses=0, size=60))
    with canvas_client(campus) as client:
        assert all("items" not in module for module in client.get(f"courses/{FIRST}/modules").json())
        modules = client.get(f"courses/{FIRST}/modules", params={"include[]": "items", "per_page": 100}).json()
        left_out = [module for module in modules if "items" not in module]
        assert len(left_out) == 5
        for module in left_out:
            items = [item for page in walk(client, module["items_url"] + "?per_page=4") for item in page]
            assert [item["position"] for item in items] == list(range(1, module["items_count"] + 1))


def test_a_locked_file_has_no_url(
    open_campus: Callable[..., Campus], canvas_client: Callable[..., httpx.Client], web: httpx.Client
) -> None:
    campus = open_campus(CampusContent.generated(canvas_courses=1, openedx_courses=0, size="medium"))
    with canvas_client(campus) as client:
        files = [file for page in walk(client, f"courses/{FIRST}/files?per_page=100") for file in page]
        assert {bool(file["url"]) for file in files if file["locked"]} == {False}
        open_file = next(file for file in files if not file["locked"])
        answer = web.get(open_file["url"], follow_redirects=True)
        assert (answer.status_code, len(answer.content)) == (200, open_file["size"])
        assert web.get(open_file["url"].replace("verifier=", "verifier=x")).status_code == 401


# Exports


def submit(client: httpx.Client, course_id: int = FIRST, **given: Any) -> httpx.Response:
    return client.post(f"courses/{course_id}/content_exports", data={"export_type": "common_cartridge", **given})


def test_an_export_from_submission_to_download(
    open_campus: Callable[..., Campus], canvas_client: Callable[..., httpx.Client], web: httpx.Client
) -> None:
    campus = open_campus()
    with canvas_client(campus) as client:
        job = submit(client, skip_notifications=True).json()
        assert job["workflow_state"] == "created"
        url = f"courses/{FIRST}/content_exports/{job['id']}"
        states = [client.get(url).json() for _ in range(3)]
        assert [state["workflow_state"] for state in states] == ["exporting", "exported", "exported"]
        assert ["attachment" in state for state in states] == [False, True, True]
        attachment = states[-1]["attachment"]
        assert client.get(job["progress_url"]).json()["workflow_state"] == "completed"
        submit(client)
        assert [listed["id"] for listed in client.get(f"courses/{FIRST}/content_exports").json()] == [2, 1]
    redirect = web.get(attachment["url"])
    assert redirect.status_code == 302
    cartridge = web.get(redirect.headers["Location"])
    assert len(cartridge.content) == attachment["size"]
    with zipfile.ZipFile(io.BytesIO(cartridge.content)) as archive:
        assert "imsmanifest.xml" in archive.namelist()
    with_bearer = web.get(attachment["url"], headers={"Authorization": "Bearer x"}, follow_redirects=True)
    assert (with_bearer.status_code, "InvalidArgument" in with_bearer.text) == (400, True)
    assert [job.notifies for job in campus.canvas_exports] == [False, True]


def test_parameters_of_an_export_come_as_form_json_or_query(canvas: httpx.Client) -> None:
    path = f"courses/{FIRST + 5}/content_exports"
    assert canvas.post(path, json={"export_type": "qti"}).json()["export_type"] == "qti"
    assert canvas.post(path, params={"export_type": "zip"}).json()["export_type"] == "zip"
    for refused in (canvas.post(path), canvas.post(path, data={"export_type": "pdf"})):
        assert (refused.status_code, refused.json()) == (400, {"message": "invalid export_type"})


def test_states_of_an_export_can_be_chosen(
    open_campus: Callable[..., Campus], canvas_client: Callable[..., httpx.Client]
) -> None:
    campus = open_campus()
    chosen = {FIRST: ("waiting_for_external_tool", "exporting", "failed"), FIRST + 1: ("deleted",)}
    campus.behaviour.canvas_states.update(chosen)
    campus.behaviour.canvas_no_attachment.add(FIRST + 2)
    with canvas_client(campus) as client:
        for number, (course_id, states) in enumerate(chosen.items(), 1):
            submit(client, course_id)
            url = f"courses/{course_id}/content_exports/{number}"
            assert tuple(client.get(url).json()["workflow_state"] for _ in states) == states
        submit(client, FIRST + 2)
        last = [client.get(f"courses/{FIRST + 2}/content_exports/3").json() for _ in range(2)][-1]
        assert (last["workflow_state"], "attachment" in last) == ("exported", False)


def test_two_exports_differ_in_bytes_and_a_revision_in_content(
    open_campus: Callable[..., Campus], canvas_client: Callable[..., httpx.Client], web: httpx.Client
) -> None:
    campus = open_campus()

    def exported(client: httpx.Client) -> dict[str, bytes]:
        url = f"courses/{FIRST}/content_exports/{submit(client).json()['id']}"
        attachment = [client.get(url) for _ in range(2)][-1].json()["attachment"]
        with zipfile.ZipFile(io.BytesIO(web.get(attachment["url"], follow_redirects=True).content)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    with canvas_client(campus) as client:
        one, two = exported(client), exported(client)
        assert one["imsmanifest.xml"] != two["imsmanifest.xml"]
        assert one.keys() == two.keys()
        pages = len(client.get(f"courses/{FIRST}/pages").json())
        campus.republish(FIRST)
        assert len(exported(client).keys() - two.keys()) == 1
        assert len(client.get(f"courses/{FIRST}/pages").json()) == pages + 1
    with pytest.raises(KeyError, match="no course 17"):
        campus.republish(17)


# Throttling


def test_the_quota_is_reported_and_drains(
    open_campus: Callable[..., Campus], canvas_client: Callable[..., httpx.Client], manual_clock: Any
) -> None:
    campus = open_campus(clock=manual_clock)
    with canvas_client(campus) as client:
        usual = client.get(f"courses/{FIRST}")
        assert 0 < float(usual.headers["X-Request-Cost"]) < 1
        assert 599 < float(usual.headers["X-Rate-Limit-Remaining"]) < 600
        campus.behaviour.canvas_request_cost = 250
        remaining = [float(client.get(f"courses/{FIRST}").headers["X-Rate-Limit-Remaining"]) for _ in range(3)]
        assert remaining == pytest.approx([350, 100, 0], abs=1)
        throttled = client.get(f"courses/{FIRST}")
        assert (throttled.status_code, throttled.text) == (403, "403 Forbidden (Rate Limit Exceeded)\n")
        assert throttled.headers["content-type"].startswith("text/plain")
        assert throttled.headers["X-Rate-Limit-Remaining"] == "0.0"
        assert {"x-request-cost", "retry-after"}.isdisjoint(throttled.headers)
        campus.behaviour.canvas_throttle_status = 429
        other = client.get(f"courses/{FIRST}")
        assert (other.status_code, other.text) == (429, "429 Too Many Requests (Rate Limit Exceeded)\n")
        manual_clock.now += 40
        assert client.get(f"courses/{FIRST}").status_code == 200


def test_twelve_parallel_calls_fill_the_quota_by_their_up_front_cost(
    open_campus: Callable[..., Campus], canvas_client: Callable[..., httpx.Client]
) -> None:
    campus = open_campus(CampusContent.generated(canvas_courses=1, openedx_courses=0))
    # A reservation lasts as long as its request: count those that are admitted while none has finished.
    from ol_devkit.campus.canvas_paging import LeakyBucket

    bucket = LeakyBucket(lambda: 0.0)
    assert [bucket.admit() for _ in range(13)] == [True] * 12 + [False]
    assert bucket.settle(1.0) == pytest.approx(600 - 1 - 11 * 50)
    campus.script(("GET", f"/canvas/api/v1/courses/{FIRST}"), [Scripted(delay_seconds=0.05)] * 12)
    with canvas_client(campus) as client, ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: client.get(f"courses/{FIRST}").status_code, range(12)))
    assert answers == [200] * 12
