"""The client: sends requests to one origin, again where that may help, and never anything to another one."""

import math
import threading
from collections.abc import Collection, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Self, TypedDict, Unpack

import httpx

from ol_core.failures import OlError, PermanentFailure, TransientFailure
from ol_core.http.answers import NotActedOn, Unanswered, failure
from ol_core.http.bodies import BoundedAnswers
from ol_core.http.connections import PooledTransport
from ol_core.http.deadlines import deadline, within
from ol_core.http.downloads import Download, Downloads
from ol_core.http.policy import HttpPolicy, Runtime
from ol_core.http.redaction import quiet_logs, redact_url
from ol_core.http.sending import SENDING_ERRORS, broken, retrying, sent_instead, timeouts, whole

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})


class RequestParts(TypedDict, total=False):
    """What a request carries.

    Attributes:
        params: Query parameters, beside those of the URL.
        json: Body, sent as JSON.
        content: Body, sent as it is.
        headers: Further headers.
    """

    params: Mapping[str, str | int]
    json: object
    content: bytes
    headers: Mapping[str, str]


class HttpClient:
    """Sends requests to one origin; safe to share between threads.

    Idempotent requests are repeated, with jitter, after 408, 425, 429, 502 to 504, 520 to 524, throttling and broken
    connections; others only where the server did not act on them, or knows them again by their key. `Retry-After` is
    honoured; where it exceeds the budget, the failure carries it to whoever retries later.

    Nothing else than the failures of `ol_core.failures` is raised for what a server does, and nothing in them, their
    causes and the logs shows a credential.
    """

    def __init__(
        self,
        base_url: str,
        *,
        auth: httpx.Auth | None = None,
        policy: HttpPolicy | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        self.base_url = _address(base_url)
        quiet_logs()
        self._auth = auth
        self._policy = policy = policy or HttpPolicy()
        self._runtime = runtime = runtime or Runtime()
        self._turns = _Turns()
        self._given_up = 0  # requests in a row
        self._closed_until = float("-inf")
        transport = runtime.transport or PooledTransport(policy.connections)
        self._client = httpx.Client(
            base_url=self.base_url,
            headers={"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "ol-data-platform"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # a session could outrank the token
            transport=BoundedAnswers(transport, max_bytes=policy.max_answer_bytes),
        )
        self._downloads = Downloads(transport, self.base_url, policy, runtime)

    def close(self) -> None:
        """Close all connections, those of downloads too."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(
        self,
        method: str,
        url: str,
        *,
        accept: Collection[int] = (),
        idempotent: bool | None = None,
        idempotency_key: str = "",
        **parts: Unpack[RequestParts],
    ) -> httpx.Response:
        """Send a request and return its answer, read whole.

        Args:
            method: HTTP method, in any case.
            url: Path below the base URL (percent-encoded), or a whole URL of the same origin.
            accept: Statuses from 300 on that the caller wants to see; those that are worth a retry never are.
            idempotent: Whether to repeat it where the server may have acted on it; by default the method says.
            idempotency_key: Sent as `Idempotency-Key`, the same with each attempt, by which the server knows a request
                again; one that has a key is idempotent.
            **parts: What the request carries.

        Raises:
            UpstreamMissing: 404 and 410.
            PermanentFailure: any other status below 500, 501, 505, a redirect, a URL of another origin, an answer
                longer than the policy allows, or a certificate that is not trusted.
            TransientFailure: throttling, 5xx, broken connections and what took too long, when no attempt is left.
        """
        method = method.upper()
        down_for = self._closed_until - self._runtime.clock()
        if down_for > 0:
            what = f"{method} {redact_url(url)} to {redact_url(self.base_url)}"
            failed = f"{self._given_up} requests in a row failed there"
            raise TransientFailure(f"{what} was not sent: {failed}", retry_after_seconds=down_for)
        if idempotency_key:
            parts["headers"] = {**parts.get("headers", {}), "Idempotency-Key": idempotency_key}
        repeatable = bool(idempotency_key) or (method in _IDEMPOTENT if idempotent is None else idempotent)
        send = retrying(self._policy, self._runtime, repeatable=repeatable)
        try:
            with within(self._policy.budget_seconds, self._runtime.clock):
                response = send(self._send, method, url, accept, parts)
        except OlError as error:
            self._given_up = self._given_up + 1 if isinstance(error, NotActedOn | Unanswered) else 0
            if self._given_up >= self._policy.outage_after:
                self._closed_until = self._runtime.clock() + self._policy.outage_seconds
            raise
        self._given_up = 0
        return response

    def download(self, url: str, destination: Path, *, sha256: str | None = None) -> Download:
        """Stream what an address gives into a file, following redirects; no credential is ever sent along.

        What broke off is taken up where it did, if the server tells by a strong validator (`ETag`, or an old enough
        `Last-Modified`) that the file is still the same; else it is fetched whole again. The length and the digests
        that the server states (`Repr-Digest`, `Content-Digest`, `Digest`, `Content-MD5`, `x-amz-checksum-sha256`) are
        verified. The file gets its name only when all is well, and nothing else is left behind.

        Args:
            url: Path below the base URL (percent-encoded), or a whole URL of any origin.
            destination: File to write.
            sha256: Hex SHA-256 that the file must have, where the caller knows it.

        Raises:
            PermanentFailure: also where the file is longer than the policy allows, twice not the one that was stated,
                or cannot be written.
            OlError: as `request`.
        """
        return self._downloads.fetch(url, destination, sha256=sha256)

    def _send(self, method: str, url: str, accept: Collection[int], parts: RequestParts) -> httpx.Response:
        response = self._exchange(method, url, parts)
        self._turns.space(self._policy.pace(response), now=self._runtime.clock())
        if response.is_success:
            return response
        error = failure(response)
        if response.status_code in accept and not isinstance(error, NotActedOn | Unanswered):
            return response
        raise error

    def _exchange(self, method: str, url: str, parts: RequestParts) -> httpx.Response:
        request: httpx.Request | None = None
        try:
            rest = parts.copy()
            if params := rest.pop("params", None):  # httpx would put them in the place of those that the URL has
                url = str(httpx.URL(url).copy_merge_params(params))
            request = self._client.build_request(method, url, timeout=timeouts(self._policy), **rest)
            self._refuse_another_origin(request)
            self._wait_for_turn(request)
            return self._client.send(request, auth=self._auth)
        except SENDING_ERRORS as error:
            login = request and sent_instead(error, request)
            if login:
                failed = broken(login.method, login.url, error)
                if isinstance(failed, TransientFailure):  # what waits for the login was not sent
                    failed = NotActedOn(str(failed))
            else:
                failed = broken(method, whole(self.base_url, url), error)
        raise failed

    def _refuse_another_origin(self, request: httpx.Request) -> None:
        if _origin(request.url) != _origin(self.base_url):
            raise PermanentFailure(
                f"{request.method} {redact_url(request.url)} is of another origin than {redact_url(self.base_url)}; it "
                "was not sent. If both are the same server, configure the address that it gives itself"
            )

    def _wait_for_turn(self, request: httpx.Request) -> None:
        seconds = self._turns.take(now=self._runtime.clock())
        if seconds >= deadline().seconds_left():
            what = f"{request.method} {redact_url(request.url)}"
            raise NotActedOn(
                f"{what} was not sent: the server's pace leaves no turn in time", retry_after_seconds=seconds
            )
        if seconds > 0:
            self._runtime.sleep(seconds)


class _Turns:
    """When the next request may be sent, of all threads."""

    _LONGEST_PAUSE_SECONDS = 3600.0

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pause = 0.0
        self._next_at = self._said = -math.inf

    def space(self, pause: float | None, *, now: float) -> None:
        """Let requests go so many seconds apart; 0 or less for as they come, None for no sooner than said before."""
        with self._lock:
            if pause is None:
                self._pause, self._next_at = 0.0, self._said
                return
            self._pause = min(pause, self._LONGEST_PAUSE_SECONDS) if pause > 0 else 0.0  # nan is 0 too
            self._said = now + self._pause if self._pause else -math.inf
            self._next_at = max(self._next_at, self._said) if self._pause else -math.inf

    def take(self, *, now: float) -> float:
        """Take the next turn; return how many seconds it is away."""
        with self._lock:
            turn = max(now, self._next_at)
            if self._pause:
                self._next_at = turn + self._pause
            return turn - now


def _address(base_url: str) -> httpx.URL:
    try:
        address = httpx.URL(base_url)
    except httpx.InvalidURL:
        address = httpx.URL("")
    if address.scheme not in {"http", "https"} or not address.host:
        raise PermanentFailure(f"{redact_url(base_url)} is not the address of a server; give http(s)://host/path")
    return address


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
