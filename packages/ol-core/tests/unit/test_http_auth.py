"""Client credentials: one token for many requests and threads, replaced early and once on 401."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from ol_core.failures import OlError, PermanentFailure, TransientFailure
from ol_core.http import ClientCredentialsAuth, HttpClient, Runtime

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
