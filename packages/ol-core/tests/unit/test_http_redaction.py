"""Canary values in every place that a request or an answer has: none comes out in failures, their chains, or logs."""

import logging
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ol_core.failures import OlError
from ol_core.http import (
    BearerAuth,
    ClientCredentialsAuth,
    HttpClient,
    HttpPolicy,
    Runtime,
    drf_pages,
    read_json,
    redact,
)
from ol_core.webhooks import ContentEvent, WebhookClient
from ol_devkit.servers.scripted import Asked, Say, ScriptedServer, in_turn, scripted_server
from pydantic import TypeAdapter

CANARY = "cAnAry+/7/x=="
ADDRESS = "cAnAry%2B%2F7%2Fx%3D%3D"
OWN = "sErVeR-0wn"
"""What only the server knows; its malformed lines must not be quoted."""
TEXT = (CANARY, ADDRESS, "cAnAry", OWN)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server(in_turn(Say())) as one:
        yield one


def everything_told(error: BaseException) -> str:
    """Return all that a log, a debugger's chain or Dagster's event could show of an error."""
    told, left, seen = ["".join(traceback.format_exception(error))], [error], set()
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        told += [str(one), repr(one), repr(one.args), repr(one.__dict__), *getattr(one, "__notes__", [])]
        left += [other for other in (one.__cause__, one.__context__) if other is not None]
    return "\n".join(told)


def echo(asked: Asked) -> str:
    return f"{asked.method} {asked.target} {dict(asked.headers)!r} {asked.body!r}"


def login_page(asked: Asked) -> Say:
    return Say(200, (("Content-Type", "text/html"), ("Set-Cookie", f"session={CANARY}")), f"<p>{echo(asked)}".encode())


HOSTILE: dict[str, Callable[[Asked], Say]] = {
    **{
        f"echo with {status}": lambda asked, status=status: Say(  # type: ignore[misc] # a default of a lambda
            status, (("Set-Cookie", f"session={CANARY}"), ("X-Token", CANARY)), echo(asked).encode()
        )
        for status in (400, 401, 403, 404, 409, 429, 500, 501, 503)
    },
    "redirect": lambda _: Say(302, (("Location", f"http://user:{ADDRESS}@x.example/?token={ADDRESS}#{ADDRESS}"),)),
    "redirect to no scheme": lambda _: Say(302, (("Location", f"x{CANARY}://{CANARY}"),)),
    "login page": login_page,
    "wrong shape": lambda _: Say(200, (("Content-Type", "application/json"),), f'{{"a": "{CANARY}"}}'.encode()),
    "cut json": lambda _: Say(200, (("Content-Type", "application/json"),), f'{{"a": "{CANARY}'.encode()),
    "content type": lambda _: Say(200, (("Content-Type", f"text/x; token={CANARY}"),), b"x"),
    "coding": lambda _: Say(200, (("Content-Encoding", CANARY),), b"x"),
    "bad gzip": lambda _: Say(200, (("Content-Encoding", "gzip"),), CANARY.encode()),
    "bad header of its own": lambda _: Say(raw=f"HTTP/1.1 200 OK\r\nX {OWN}\r\n\r\n".encode()),
    "bad status of its own": lambda _: Say(raw=f"HTTP/1.1 {OWN}\r\n\r\n".encode()),
    "bad header": lambda _: Say(raw=f"HTTP/1.1 200 OK\r\nSet-Cookie {CANARY}\r\n\r\n".encode()),
    "bad status": lambda _: Say(raw=f"HTTP/1.1 {CANARY}\r\n\r\n".encode()),
    "bad length": lambda _: Say(raw=f"HTTP/1.1 200 OK\r\nContent-Length: {CANARY}\r\n\r\n".encode()),
    "bad chunk": lambda _: Say(raw=f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{CANARY}\r\n".encode()),
    "reason": lambda _: Say(raw=f"HTTP/1.1 400 token={CANARY}\r\nContent-Length: 0\r\n\r\n".encode()),
    "cut": lambda _: Say(200, (("Set-Cookie", CANARY),), b"xxxx", cut_after=2),
    "silent": lambda _: Say(pause_seconds=60),
    "too long": lambda asked: Say(200, body=echo(asked).encode() * 100),
    "next page": lambda _: Say(
        200, (("Content-Type", "application/json"),), f'{{"results": [], "next": "?token={ADDRESS}"}}'.encode()
    ),
    "next page elsewhere": lambda _: Say(
        200, (("Content-Type", "application/json"),), f'{{"results": [], "next": "http://{CANARY}@["}}'.encode()
    ),
}
NUMBERS = TypeAdapter(dict[str, int])
POLICY = HttpPolicy(timeout_seconds=0.2, attempts=2, max_answer_bytes=20_000, outage_after=1000)
RUNTIME = Runtime(sleep=lambda _: None)


def request(server: ScriptedServer) -> object:
    address = server.url.replace("://", f"://user:{ADDRESS}@")
    with HttpClient(address, auth=BearerAuth(CANARY), policy=POLICY, runtime=RUNTIME) as client:
        answer = client.request("GET", f"x?verifier={ADDRESS}", headers={"X-Api-Key": CANARY, "Cookie": f"a={CANARY}"})
        return read_json(answer, NUMBERS)


def basic(server: ScriptedServer) -> object:
    address = server.url.replace("://", f"://user:{ADDRESS}@")
    with HttpClient(address, policy=POLICY, runtime=RUNTIME) as client:
        return read_json(client.request("PUT", "x", json={"client_secret": CANARY, "token": CANARY}), NUMBERS)


def login(server: ScriptedServer) -> object:
    auth = ClientCredentialsAuth(f"{server.url.replace('://', f'://u:{ADDRESS}@')}/token", "id", CANARY)
    with HttpClient(server.url, auth=auth, policy=POLICY, runtime=RUNTIME) as client:
        return client.request("GET", "x")


def pages(server: ScriptedServer) -> object:
    with HttpClient(server.url, auth=BearerAuth(CANARY), policy=POLICY, runtime=RUNTIME) as client:
        return list(drf_pages(client, client.request("GET", f"x?sig={ADDRESS}")))


def download(server: ScriptedServer) -> object:
    path = Path("/nonexistent") if not server.asked else Path("/dev/shm")
    with HttpClient(server.url, auth=BearerAuth(CANARY), policy=POLICY, runtime=RUNTIME) as client:
        return client.download(f"x?X-Amz-Signature={ADDRESS}&AWSAccessKeyId={ADDRESS}", path / "x")


def webhook(server: ScriptedServer) -> object:
    event = ContentEvent(source="canvas", content_path="a", course_id="1")
    with WebhookClient(server.url.replace("://", f"://u:{ADDRESS}@"), CANARY, sleep=lambda _: None) as client:
        return client.deliver(event)


CALLS = [request, basic, login, pages, download]


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_no_canary_comes_out(
    server: ScriptedServer,
    caplog: pytest.LogCaptureFixture,
    *,
    call: Callable[[ScriptedServer], object],
    hostile: str,
) -> None:
    server.script = HOSTILE[hostile]
    caplog.set_level(logging.DEBUG)
    told = ""
    try:
        call(server)
    except OlError as error:
        told = everything_told(error)
    told += caplog.text
    assert server.asked or call is download
    for canary in TEXT:
        assert canary not in told


@pytest.mark.parametrize("status", [400, 503])
def test_no_signature_of_a_webhook_comes_out(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    server.script = HOSTILE[f"echo with {status}"]
    caplog.set_level(logging.DEBUG)
    told = ""
    try:
        webhook(server)
    except OlError as error:
        told = everything_told(error)
    signature = server.asked[0].headers["x-mitlearn-signature"]
    for canary in (*TEXT, signature):
        assert canary not in told + caplog.text


def test_the_canaries_were_there(server: ScriptedServer) -> None:
    server.script = HOSTILE["echo with 400"]
    for call in (request, basic, login):
        server.asked.clear()
        with pytest.raises(OlError):
            call(server)
        assert any(canary in echo(server.asked[0]) for canary in TEXT) or call is basic


def test_the_libraries_logs_stay_useful(server: ScriptedServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with HttpClient(server.url) as client:
        client.request("GET", "x?page=2&token=abc")
    assert f"GET {server.url}/x?page=2&token=..." in caplog.text
    assert "connect_tcp.started host='127.0.0.1'" in caplog.text
    assert "receive_response_headers.complete" in caplog.text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Invalid access token. Ask for a token", "Invalid access token. Ask for a token"),
        ("Signature has expired", "Signature has expired"),
        ('{"error": "invalid_token", "detail": "x"}', '{"error": "invalid_token", "detail": "x"}'),
        ('{"access_token": "a b c", "x": 1}', '{"access_token": ..., "x": 1}'),
        ('{"access_token": "a b', '{"access_token": ...'),
        (r'"{\"password\": \"a b\", \"x\": 1}"', r'"{\"password\": ..., \"x\": 1}"'),
        ("Authorization: Basic dXNlcg==", "Authorization: ..."),
        ("see https://u:p@h.example/a?b", "see https://...@h.example/a?b"),
        ("<SignatureProvided>abc</SignatureProvided>", "<SignatureProvided>...</SignatureProvided>"),
        ("bearer abc, jwt a.b.c", "bearer ..., jwt ..."),
        ("apikey=abc&x=1", "apikey=...&x=1"),
    ],
)
def test_secrets_are_known_by_their_names(text: str, told: str) -> None:
    assert redact(text) == told
