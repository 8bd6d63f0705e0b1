import doctest
import socket
import time
from collections.abc import Callable

import httpx
import pytest
from ol_devkit import campus as package
from ol_devkit.campus import Campus, CampusContent, Scripted, canvas_throttled, openedx_throttled, serve

Open = Callable[..., Campus]
ClientOf = Callable[..., httpx.Client]
COURSES = "/canvas/api/v1/accounts/1/courses"


def test_the_package_names_what_it_offers() -> None:
    assert package.__all__ == sorted(package.__all__)
    assert all(getattr(package, name) for name in package.__all__)


def test_the_example_of_the_package_runs() -> None:
    result = doctest.testmod(package)
    assert (result.failed, result.attempted) == (0, 2)


def test_scripted_answers_come_in_order_and_then_the_campus_again(open_campus: Open, canvas_client: ClientOf) -> None:
    campus = open_campus()
    answers = [
        Scripted(503, {"X-Hint": "later"}),
        Scripted(200, body=[1]),
        Scripted(404, {"Content-Type": "a/b"}, "gone"),
    ]
    script = campus.script(("GET", COURSES), answers)
    with canvas_client(campus) as client:
        assert client.get("courses/4001").status_code == 200
        first, second, third, fourth = (client.get(campus.url + COURSES) for _ in range(4))
    assert (first.status_code, first.headers["X-Hint"], first.content) == (503, "later", b"")
    assert (second.json(), second.headers["content-type"]) == ([1], "application/json")
    assert (third.status_code, third.headers["content-type"], third.text) == (404, "a/b", "gone")
    assert (fourth.status_code, script.remaining) == (200, 0)


def test_a_script_matches_the_whole_path_and_the_method(open_campus: Open, web: httpx.Client) -> None:
    campus = open_campus()
    script = campus.script(("POST", r"/learn/.*"), [Scripted(500)])
    anything = campus.script(("*", r"/learn/api/v1/webhooks/\w+/"), [Scripted(502)])
    assert web.get(f"{campus.url}/learn/api/v1/webhooks/content_files/").status_code == 502
    assert web.post(f"{campus.url}/other/learn/x").status_code == 404
    assert (script.remaining, anything.remaining) == (1, 0)


def test_canned_answers(open_campus: Open, web: httpx.Client) -> None:
    campus = open_campus()
    campus.script(("GET", "/"), [canvas_throttled(), canvas_throttled(429), openedx_throttled(7)])
    campus.script(("GET", "/"), [openedx_throttled(9, retry_after=False)])
    forbidden, too_many, waits, silent = (web.get(campus.url) for _ in range(4))
    assert (forbidden.status_code, forbidden.text) == (403, "403 Forbidden (Rate Limit Exceeded)\n")
    assert (too_many.status_code, too_many.text) == (429, "429 Too Many Requests (Rate Limit Exceeded)\n")
    assert waits.headers["Retry-After"] == "7"
    assert silent.json() == {"developer_message": "Request was throttled. Expected available in 9 seconds."}
    assert "Retry-After" not in silent.headers


def test_a_body_can_be_cut_and_an_answer_late(open_campus: Open, web: httpx.Client) -> None:
    campus = open_campus()
    scripted = Scripted(200, body=b"x" * 1000, cut_after_bytes=10)
    campus.script(("GET", "/"), [scripted, Scripted(cut_after_bytes=5), Scripted(200, body="ok", cut_after_bytes=0)])
    for received in (10, 5, 0):
        with pytest.raises(httpx.RemoteProtocolError, match=f"received {received} bytes"):
            web.get(campus.url)
    campus.script(("GET", "/"), [Scripted(delay_seconds=0.2)])
    started = time.monotonic()
    assert web.get(campus.url).status_code == 200
    assert time.monotonic() - started >= 0.2
    campus.script(("GET", "/"), [Scripted(delay_seconds=2)])
    with pytest.raises(httpx.ReadTimeout):
        web.get(campus.url, timeout=0.05)


def test_requests_are_recorded_without_secrets(open_campus: Open, canvas_client: ClientOf, web: httpx.Client) -> None:
    campus = open_campus()
    with canvas_client(campus) as client:
        client.get("courses/4001/files?per_page=1")
        client.get("courses/1")
    web.get(f"{campus.url}/nothing")
    files, missing, nothing = campus.requests
    assert (files.method, files.path) == ("GET", "/canvas/api/v1/courses/4001/files")
    assert (files.query, files.authorization, files.status) == ("per_page=1", "Bearer", 200)
    assert (missing.status, nothing.status, nothing.authorization) == (404, 404, None)
    assert campus.secrets["canvas"]["access_token"] not in repr(campus.requests)


def test_secrets_follow_the_seed_and_are_named_as_the_packages_ask_for_them(open_campus: Open) -> None:
    one, two = open_campus(), open_campus()
    assert one.secrets == two.secrets
    assert one.url != two.url
    names = {path: set(keys) for path, keys in one.secrets.items()}
    assert names == {
        "canvas": {"access_token"},
        "learn": {"webhook_secret"},
        "openedx/north": {"client_id", "client_secret"},
        "openedx/south": {"client_id", "client_secret"},
    }
    values = [value for keys in one.secrets.values() for value in keys.values()]
    assert len(set(values)) == len(values)


def test_the_front_door_lists_the_courses(campus: Campus, web: httpx.Client) -> None:
    listed = web.get(campus.url).json()
    assert (len(listed["openedx"]["north"]), len(listed["canvas"])) == (3, 6)


def test_the_port_is_free_again_and_a_taken_one_is_an_error(web: httpx.Client) -> None:
    with serve(CampusContent.generated(openedx_courses=0, canvas_courses=0)) as campus:
        port = httpx.URL(campus.url).port or 0
        with pytest.raises(OSError, match="in use"), serve(campus.content, port=port):
            pass
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(("127.0.0.1", port))
    with serve(campus.content, port=port) as again:
        assert web.get(again.url).status_code == 200


@pytest.mark.benchmark
def test_six_courses_are_served_within_half_a_second(web: httpx.Client) -> None:
    started = time.monotonic()
    with serve(CampusContent.generated(openedx_courses=3, canvas_courses=3)) as campus:
        web.get(campus.url)
        seconds = time.monotonic() - started
    assert seconds < 0.5
