import io
import tarfile
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from ol_devkit.campus import Behaviour, Campus, CampusContent
from ol_devkit.generators import generate_olx_course

LIST = "lms/api/courses/v1/courses/"
OUTLINE = "lms/api/learning_sequences/v1/course_outline/"
EXPORT = "studio/api/courses/v0/export/"

Openedx = Callable[..., httpx.Client]
Open = Callable[..., Campus]
AskToken = Callable[..., httpx.Response]


def ids(campus: Campus, deployment: str = "north") -> list[str]:
    return [course.run.course_id for course in campus.content.openedx[deployment]]


# Tokens


def test_a_token_for_the_client_credentials(campus: Campus, ask_token: AskToken, web: httpx.Client) -> None:
    answer = ask_token(campus).json()
    assert (answer["token_type"], answer["expires_in"]) == ("JWT", 3600)
    assert answer["access_token"].count(".") == 2
    secrets = campus.secrets["openedx/north"]
    basic = web.post(
        f"{campus.url}/north/lms/oauth2/access_token",
        auth=(secrets["client_id"], secrets["client_secret"]),
        data={"grant_type": "client_credentials", "token_type": "jwt"},
    )
    assert basic.status_code == 200
    refused = ask_token(campus, client_secret="wrong")
    assert (refused.status_code, refused.json()) == (401, {"error": "invalid_client"})
    assert ask_token(campus, grant_type="password").json() == {"error": "unsupported_grant_type"}
    assert ask_token(campus, "south", **secrets).status_code == 401


def test_only_a_live_jwt_opens_the_apis(
    open_campus: Open,
    ask_token: AskToken,
    openedx_client: Openedx,
    manual_clock: Any,
    *,
    web: httpx.Client,
) -> None:
    campus = open_campus(behaviour=Behaviour(lms_token_lifetime_seconds=60), clock=manual_clock)
    url = f"{campus.url}/north/{LIST}"
    opaque = ask_token(campus, token_type="bearer").json()
    assert opaque["token_type"] == "Bearer"
    for header in ({}, {"Authorization": f"Bearer {opaque['access_token']}"}, {"Authorization": "JWT a.b.c"}):
        answer = web.get(url, headers=header)
        assert (answer.status_code, "WWW-Authenticate" in answer.headers) == (401, True)
    with openedx_client(campus) as client:
        assert client.get(LIST).status_code == 200
        manual_clock.now += 61
        assert client.get(LIST).status_code == 401
    with openedx_client(campus) as client:
        assert client.get(LIST).status_code == 200
        campus.revoke_tokens("north")
        assert client.get(LIST).status_code == 401


# The LMS


def test_course_runs_go_round_robin_over_the_deployments(campus: Campus) -> None:
    assert (len(ids(campus, "north")), len(ids(campus, "south"))) == (3, 2)
    assert set(ids(campus, "north")).isdisjoint(ids(campus, "south"))


def test_the_course_list_is_paged(openedx: httpx.Client, campus: Campus) -> None:
    first = openedx.get(LIST, params={"page_size": 2, "username": "staff"}).json()
    assert first["pagination"] | {"next": ""} == {"next": "", "previous": None, "count": 3, "num_pages": 2}
    assert "username=staff" in first["pagination"]["next"]
    second = openedx.get(first["pagination"]["next"]).json()
    assert second["pagination"]["next"] is None
    assert [course["id"] for page in (first, second) for course in page["results"]] == ids(campus)
    course = first["results"][0]
    assert {"name", "org", "number", "start", "end", "enrollment_start", "enrollment_end", "pacing"} <= course.keys()
    org = course["org"]
    assert {c["org"] for c in openedx.get(LIST, params={"org": org}).json()["results"]} == {org}


@pytest.mark.parametrize("page", ["2", "0", "x"])
def test_a_page_that_is_not_there(openedx: httpx.Client, page: str) -> None:
    answer = openedx.get(LIST, params={"page": page})
    assert answer.status_code == 404
    assert answer.json()["developer_message"].startswith("Invalid page")


def test_a_hundred_courses_a_page_at_most(open_campus: Open, openedx_client: Openedx) -> None:
    campus = open_campus(CampusContent.generated(openedx_courses=120, canvas_courses=0, deployments=("north",)))
    with openedx_client(campus) as client:
        assert len(client.get(LIST, params={"page_size": 1000}).json()["results"]) == 100
        assert len(client.get(LIST).json()["results"]) == 10


def test_the_count_may_promise_a_page_that_is_a_404(open_campus: Open, openedx_client: Openedx) -> None:
    campus = open_campus(behaviour=Behaviour(lms_overstated_count=3))
    with openedx_client(campus) as client:
        first = client.get(LIST, params={"page_size": 3}).json()
        assert first["pagination"]["count"] == 6
        assert client.get(first["pagination"]["next"]).status_code == 404


def test_course_detail(openedx: httpx.Client, campus: Campus) -> None:
    course_id = ids(campus)[0]
    detail = openedx.get(f"{LIST}{course_id}/").json()
    assert detail["id"] == course_id
    assert "overview" in detail
    assert openedx.get(f"{LIST}course-v1:A+B+C/").status_code == 404
    invalid = openedx.get(f"{LIST}nonsense/")
    assert (invalid.status_code, list(invalid.json())) == (400, ["field_errors"])


def test_the_outline(openedx: httpx.Client, campus: Campus) -> None:
    course_id = ids(campus)[0]
    outline = openedx.get(OUTLINE + quote(course_id)).json()
    assert outline["course_key"] == course_id
    assert len(outline["published_version"]) == 24
    assert openedx.get(OUTLINE + "course-v1:A+B+C").status_code == 404
    assert openedx.get(OUTLINE + "Org/Course/Run").status_code == 400
    assert openedx.get(OUTLINE + course_id + "/").status_code == 400


# Studio


def test_an_export_from_submission_to_download(open_campus: Open, openedx_client: Openedx, web: httpx.Client) -> None:
    campus = open_campus()
    course_id = ids(campus)[0]
    with openedx_client(campus) as client:
        answer = client.post(EXPORT, json={"courses": ids(campus)})
        assert answer.status_code == 200
        body = answer.json()
        assert body["failed_uploads"] == {}
        assert body["upload_task_ids"].keys() == body["upload_urls"].keys() == set(ids(campus))
        url = body["upload_urls"][course_id]
        assert url == f"{campus.url}/north/exports/{quote(course_id, safe='')}.tar.gz"
        assert web.get(url).status_code == 404
        status = f"{EXPORT}{course_id}/"
        task = {"task_id": body["upload_task_ids"][course_id]}
        states = [client.get(status, params=task).json() for _ in range(4)]
        assert states == [{"state": state} for state in ("Pending", "In Progress", "Succeeded", "Succeeded")]
        assert client.get(url).status_code == 400  # the bucket refuses the LMS's token
    with tarfile.open(fileobj=io.BytesIO(web.get(url).content)) as archive:
        names = {name.removeprefix("./").partition("/")[2] for name in archive.getnames()}
    assert {member.path for member in generate_olx_course(7, 0).members} <= names


def test_a_partly_refused_export_is_a_400_with_the_same_body(open_campus: Open, openedx_client: Openedx) -> None:
    campus = open_campus()
    good, bad = ids(campus)[:2]
    campus.behaviour.studio_refused[bad] = "Course is being imported"
    with openedx_client(campus) as client:
        answer = client.post(EXPORT, json={"courses": [good, bad, "course-v1:A+B+C", "nonsense"]})
        assert answer.status_code == 400
        body = answer.json()
        assert list(body["upload_urls"]) == list(body["upload_task_ids"]) == [good]
        assert list(body["failed_uploads"]) == [bad, "course-v1:A+B+C", "nonsense"]
        nothings: list[dict[str, object]] = [{}, {"courses": []}]
        for nothing in nothings:
            refused = client.post(EXPORT, json=nothing)
            assert (refused.status_code, refused.json()["error_code"]) == (400, "internal_error")


def test_the_status_of_what_is_not_there(openedx: httpx.Client, campus: Campus) -> None:
    course_id = ids(campus)[0]
    missing = openedx.get(f"{EXPORT}{course_id}/", params={"task_id": "no-such-task"})
    assert (missing.status_code, missing.json()) == (404, {"detail": "Task not found"})
    without = openedx.get(f"{EXPORT}{course_id}/")
    assert without.status_code == 500
    assert without.json() == {"developer_message": "'task_id'", "error_code": "internal_error"}
    assert openedx.get(f"{EXPORT}course-v1:A+B+C/", params={"task_id": "x"}).status_code == 404


def test_states_of_a_task_can_be_chosen(open_campus: Open, openedx_client: Openedx, web: httpx.Client) -> None:
    campus = open_campus()
    course_id = ids(campus)[0]
    states = ("Pending", "Retrying", "Exporting", "Failed")
    campus.behaviour.studio_states[course_id] = states
    with openedx_client(campus) as client:
        body = client.post(EXPORT, json={"courses": [course_id]}).json()
        task = {"task_id": body["upload_task_ids"][course_id]}
        assert tuple(client.get(f"{EXPORT}{course_id}/", params=task).json()["state"] for _ in states) == states
    assert web.get(body["upload_urls"][course_id]).status_code == 404


def test_each_export_overwrites_the_last_one(open_campus: Open, openedx_client: Openedx, web: httpx.Client) -> None:
    campus = open_campus()
    course_id = ids(campus)[0]

    def exported(client: httpx.Client) -> bytes:
        body = client.post(EXPORT, json={"courses": [course_id]}).json()
        for _ in range(3):
            client.get(f"{EXPORT}{course_id}/", params={"task_id": body["upload_task_ids"][course_id]})
        return web.get(body["upload_urls"][course_id]).content

    with openedx_client(campus) as client:
        first = exported(client)
        assert exported(client) != first


def test_versions(open_campus: Open, openedx_client: Openedx) -> None:
    campus = open_campus()
    course_id, other = ids(campus)[:2]
    with openedx_client(campus) as client:

        def versions() -> dict[str, Any]:
            answer = client.post(f"{EXPORT}versions/", json={"courses": [course_id, other, "course-v1:A+B+C"]})
            assert answer.json()["missing"] == ["course-v1:A+B+C"]
            found: dict[str, Any] = answer.json()["versions"]
            return found

        first = versions()
        assert versions() == first
        assert first[course_id]["published_version"] == client.get(OUTLINE + course_id).json()["published_version"]
        campus.republish(course_id, files_only=True)
        second = versions()
        assert second[course_id]["published_version"] == first[course_id]["published_version"]
        assert second[course_id]["static_assets"] != first[course_id]["static_assets"]
        campus.republish(course_id)
        assert versions()[course_id]["published_version"] != first[course_id]["published_version"]
        assert versions()[other] == first[other]
        for wrong in ([], [course_id] * 201):
            assert client.post(f"{EXPORT}versions/", json={"courses": wrong}).status_code == 400


def test_releases_without_versions(open_campus: Open, openedx_client: Openedx, web: httpx.Client) -> None:
    campus = open_campus(behaviour=Behaviour(studio_versions="absent"))
    with openedx_client(campus) as client:
        ask = {"courses": ids(campus)[:1]}
        assert client.post(f"{EXPORT}versions/", json=ask).status_code == 404
        campus.behaviour.studio_versions = "exports"
        assert "upload_urls" in client.post(f"{EXPORT}versions/", json=ask).json()
    assert web.post(f"{campus.url}/north/{EXPORT}", json=ask).status_code == 401
