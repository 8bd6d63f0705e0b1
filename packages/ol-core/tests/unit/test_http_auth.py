"""Client credentials: one token for many requests and threads, replaced early and once on 401."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
from ol_core.failures import OlError, PermanentFailure, TransientFailure
from ol_core.http import ClientCredentialsAuth, HttpClient, HttpPolicy, Runtime
from ol_devkit.servers.scripted import Asked, Say, ScriptedServer, in_turn, scripted_server

LMS = "https://lms.example"
STUDIO = "https://studio.example"


class TokenServer(httpx.MockTransport):
    """Issues tokens and accepts the newest one."""

    def __init__(self, *, expires_in: int = 3600, issue_seconds: float = 0.0, accepts: bool = True) -> None:
        self.issued: list[httpx.Request] = []
        self.authorizations: list[str | None] = []
        self.token_answers: list[httpx.Response] = []
        self.valid = ""
        self._expires_in, self._issue_seconds, self._accepts = expires_in, issue_seconds, accepts
        self._lock = threading.Lock()
        super().__init__(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/oauth2/access_token":
            time.sleep(self._issue_seconds)
            self.issued.append(request)
            if self.token_answers:
                return self.token_answers.pop(0)
            self.valid = f"jwt-{len(self.issued)}"
            grant = {"access_token": self.valid, "expires_in": self._expires_in, "token_type": "JWT"}
            return httpx.Response(200, json=grant)
        with self._lock:
            self.authorizations.append(request.headers.get("authorization"))
        accepted = self._accepts and request.headers.get("authorization") == f"JWT {self.valid}"
        return httpx.Response(200 if accepted else 401, json={})


class Clients:
    """An LMS and a Studio that share a login."""

    def __init__(self, server: TokenServer) -> None:
        self.now = 0.0
        runtime = Runtime(server, self._sleep, lambda: self.now)
        auth = ClientCredentialsAuth(f"{LMS}/oauth2/access_token", "id", "s3cr3t", clock=lambda: self.now)
        self.lms = HttpClient(LMS, auth=auth, runtime=runtime)
        self.studio = HttpClient(STUDIO, auth=auth, runtime=runtime)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds


def test_one_token_serves_both_hosts() -> None:
    server = TokenServer()
    clients = Clients(server)
    clients.lms.request("GET", "a")
    clients.studio.request("POST", "b", json={})
    assert server.authorizations == ["JWT jwt-1", "JWT jwt-1"]
    (asked,) = server.issued
    assert str(asked.url) == f"{LMS}/oauth2/access_token"
    assert dict(httpx.QueryParams(asked.content.decode())) == {
        "grant_type": "client_credentials",
        "client_id": "id",
        "client_secret": "s3cr3t",
        "token_type": "jwt",
    }
    assert asked.extensions["timeout"]["read"] > 0  # httpx gives none to requests that a login makes


def test_a_token_is_replaced_before_it_expires() -> None:
    server = TokenServer(expires_in=3600)
    clients = Clients(server)
    for clients.now in (0, 3539, 3541, 3541 + 3539):
        clients.lms.request("GET", "a")
    assert server.authorizations == ["JWT jwt-1", "JWT jwt-1", "JWT jwt-2", "JWT jwt-2"]


def test_a_short_lifetime_is_used_for_half_of_it() -> None:
    server = TokenServer(expires_in=10)
    clients = Clients(server)
    for clients.now in (0, 4, 6):
        clients.lms.request("GET", "a")
    assert server.authorizations == ["JWT jwt-1", "JWT jwt-1", "JWT jwt-2"]


def test_a_refused_token_is_replaced_once_also_for_a_post() -> None:
    server = TokenServer()
    clients = Clients(server)
    clients.studio.request("GET", "a")
    server.valid = "rotated"
    assert clients.studio.request("POST", "a", json={}).is_success
    assert server.authorizations == ["JWT jwt-1", "JWT jwt-1", "JWT jwt-2"]


def test_a_second_401_is_a_permanent_failure() -> None:
    server = TokenServer(accepts=False)
    with pytest.raises(PermanentFailure, match="401"):
        Clients(server).lms.request("GET", "a")
    assert server.authorizations == ["JWT jwt-1", "JWT jwt-2"]


def test_threads_wait_for_one_token() -> None:
    server = TokenServer(issue_seconds=0.05)
    clients = Clients(server)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: clients.lms.request("GET", "a"), range(16)))
    assert len(server.issued) == 1
    server.valid = "rotated"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: clients.lms.request("GET", "a"), range(16)))
    assert len(server.issued) == 2


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.Response(401, json={"error": "invalid_client"}), PermanentFailure),
        (httpx.Response(400, json={"error": "unsupported_grant_type"}), PermanentFailure),
        (httpx.Response(404), PermanentFailure),
        (httpx.Response(200, json={"token": "s3cr3t"}), PermanentFailure),
        (httpx.Response(200, json={"access_token": "s3cr3t\n", "expires_in": 1}), PermanentFailure),
        (httpx.Response(200, text="<html>", headers={"Content-Type": "text/html"}), PermanentFailure),
        (
            httpx.Response(200, text='{"access_token": "s3cr3t', headers={"Content-Type": "application/json"}),
            TransientFailure,
        ),
    ],
)
def test_a_refused_login_is_told_without_the_secret(answer: httpx.Response, kind: type[OlError]) -> None:
    server = TokenServer()
    server.token_answers = [answer] * 2
    with pytest.raises(kind) as caught:
        Clients(server).lms.request("GET", "a")
    assert "oauth2/access_token" in str(caught.value)
    assert "s3cr3t" not in f"{caught.value}{caught.value.__cause__}"
    assert server.authorizations == []


@pytest.mark.parametrize("status", [403, 429, 500, 502])
def test_a_throttled_or_broken_login_is_tried_again_also_for_a_post(status: int) -> None:
    server = TokenServer()
    server.token_answers = [httpx.Response(status)]
    assert Clients(server).studio.request("POST", "a", json={}).is_success
    assert len(server.issued) == 2
    assert len(server.authorizations) == 1


class LoginServer:
    """An LMS on a real connection: counts its token calls, and refuses all tokens but the newest."""

    def __init__(self) -> None:
        self.logins = 0
        self.valid = "none"
        self.refusals: list[Say] = []
        self.seconds = 0.05

    def __call__(self, asked: Asked) -> Say:
        if asked.target == "/token":
            self.logins += 1
            if self.refusals:
                return self.refusals.pop(0)
            self.valid = f"jwt-{self.logins}"
            body = f'{{"access_token": "{self.valid}", "expires_in": 3600, "token_type": "JWT"}}'
            return Say(200, (("Content-Type", "application/json"),), body.encode(), pause_seconds=self.seconds)
        if asked.headers.get("authorization") != f"JWT {self.valid}":
            return Say(401, (("WWW-Authenticate", "JWT"),), b"expired", pause_seconds=0.02)
        return Say(200, body=b"{}")


@contextmanager
def login_server() -> Iterator[tuple[LoginServer, ScriptedServer, HttpClient]]:
    lms = LoginServer()
    with scripted_server(lms) as server:
        auth = ClientCredentialsAuth(f"{server.url}/token", "id", "s3cr3t")
        with HttpClient(server.url, auth=auth, runtime=Runtime(sleep=lambda _: time.sleep(0.01))) as client:
            yield lms, server, client


def test_many_threads_log_in_once_and_once_more_when_the_token_is_revoked() -> None:
    with login_server() as (lms, server, client), ThreadPoolExecutor(32) as pool:
        for round_ in range(1, 4):
            barrier = threading.Barrier(32)

            def call(_: int, barrier: threading.Barrier = barrier) -> int:
                barrier.wait()
                return client.request("POST", "x", json={}).status_code

            assert list(pool.map(call, range(32))) == [200] * 32
            assert lms.logins == round_
            lms.valid = "revoked"
        refused = [one for one in server.asked if one.target == "/x"]
    assert len(refused) <= 32 * 5  # each request is sent once, or twice where its token was refused


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (Say(401, body=b'{"error": "invalid_client"}', pause_seconds=1), PermanentFailure),
        (Say(503, pause_seconds=1), TransientFailure),
        (Say(raw=lambda: iter([b"HTTP/1.1 2", b"00"]), pause_seconds=1), TransientFailure),
    ],
    ids=["refused", "down", "cut"],
)
def test_threads_that_wait_for_a_login_share_its_failure(refusal: Say, kind: type[OlError]) -> None:
    with login_server() as (lms, server, _), ThreadPoolExecutor(16) as pool:
        lms.refusals = [refusal] * 16
        auth = ClientCredentialsAuth(f"{server.url}/token", "id", "s3cr3t")
        start = threading.Barrier(16)
        with HttpClient(server.url, auth=auth, policy=HttpPolicy(attempts=1, outage_after=1000)) as client:

            def call(_: int) -> OlError | None:
                start.wait()
                try:
                    client.request("GET", "x")
                except OlError as error:
                    return error
                return None

            errors = list(pool.map(call, range(16)))
    assert {type(error) for error in errors if error and kind is PermanentFailure} <= {PermanentFailure}
    assert all(isinstance(error, kind) and "/token" in str(error) for error in errors)
    assert lms.logins <= 3  # who came too late to wait for the first asks once more
    assert "s3cr3t" not in repr(errors)


def test_a_login_that_breaks_off_is_tried_again_also_for_a_post() -> None:
    with login_server() as (lms, server, client):
        lms.refusals = [Say(raw=b""), Say(200, body=b"{", cut_after=0), Say(503)]
        assert client.request("POST", "x", json={}).is_success
        assert [one.target for one in server.asked] == ["/token"] * 4 + ["/x"]


def test_a_redirected_login_sends_its_secret_nowhere() -> None:
    with login_server() as (lms, server, client), scripted_server(in_turn(Say())) as other:
        for status in (302, 307, 308):
            lms.refusals = [Say(status, (("Location", f"{other.url}/token"),))]
            with pytest.raises(PermanentFailure, match="redirects"):
                client.request("GET", "x")
        assert other.asked == []
        assert {one.target for one in server.asked} == {"/token"}


@pytest.mark.parametrize("said", ["NaN", "Infinity", '"soon"', "null"])
def test_a_lifetime_that_is_none_is_a_failure(said: str) -> None:
    with login_server() as (lms, _, client):
        body = f'{{"access_token": "a", "expires_in": {said}}}'.encode()
        lms.refusals = [Say(200, (("Content-Type", "application/json"),), body)]
        with pytest.raises(PermanentFailure, match="expires_in"):
            client.request("GET", "x")
