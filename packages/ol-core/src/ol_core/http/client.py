"""The client: sends requests to one origin, again where that may help, and streams downloads into files."""

import hashlib
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Self, TypedDict, Unpack

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random, wait_random_exponential

from ol_core.failures import OlError, PermanentFailure, TransientFailure
from ol_core.http.answers import NotActedOn, Unanswered, failure, redact, redact_url

_log = logging.getLogger(__name__)
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_NEVER_VALID = (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.TooManyRedirects, httpx.InvalidURL)
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Runtime:
    """What a client takes from its process; tests pass their own."""

    transport: httpx.BaseTransport | None = None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class HttpPolicy:
    """How a client treats its server.

    Attributes:
        timeout_seconds: Longest silence of the server; connecting gets at most 10 of them.
        attempts: Most times that one request is sent.
        budget_seconds: No retry starts later than this after the first attempt.
        download_seconds: The same for a download, and the longest that one attempt at it may take.
        outage_after: After so many requests in a row that failed with all retries, the server counts as down.
        outage_seconds: How long nothing is sent then, so that a sweep over thousands fails soon.
        pace: Tells from an answer how many seconds to wait before the next request.
    """

    timeout_seconds: float = 60.0
    attempts: int = 6
    budget_seconds: float = 300.0
    download_seconds: float = 3600.0
    outage_after: int = 3
    outage_seconds: float = 30.0
    pace: Callable[[httpx.Response], float] = field(default=lambda _: 0.0)


@dataclass(frozen=True, slots=True)
class Download:
    """A file that was downloaded whole."""

    sha256: str
    size_bytes: int
    content_type: str | None


class RequestParts(TypedDict, total=False):
    """What a request carries."""

    params: Mapping[str, str | int]
    json: object
    content: bytes
    headers: Mapping[str, str]


class HttpClient:
    """Sends requests to one origin; safe to share between threads.

    Idempotent requests are repeated, with jitter, after 408, 429, 502, 503, 504, throttling and broken connections;
    others only where the server did not act on them. `Retry-After` is honoured; where it exceeds the budget, the
    failure carries it to whoever retries later.
    """

    def __init__(
        self,
        base_url: str,
        *,
        auth: httpx.Auth | None = None,
        policy: HttpPolicy = HttpPolicy(),
        runtime: Runtime = Runtime(),
    ) -> None:
        self.base_url = httpx.URL(base_url)
        if self.base_url.scheme not in {"http", "https"} or not self.base_url.host:
            raise PermanentFailure(f"{redact_url(base_url)} is no address of a server; give http(s)://host/path")
        logging.getLogger("httpx").addFilter(_redact_record)  # it logs whole URLs, signatures included
        self._auth, self._policy, self._runtime = auth, policy, runtime
        self._next_request_at = float("-inf")
        self._given_up = 0  # requests in a row
        self._closed_until = float("-inf")
        self._client = httpx.Client(
            base_url=self.base_url,
            headers={"Accept": "application/json", "User-Agent": "ol-data-platform"},
            timeout=httpx.Timeout(policy.timeout_seconds, connect=min(10.0, policy.timeout_seconds)),
            limits=httpx.Limits(max_connections=20, max_keepalive_connections=20),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # a session could outrank the token
            transport=runtime.transport,
        )

    def close(self) -> None:
        """Close all connections."""
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
        **parts: Unpack[RequestParts],
    ) -> httpx.Response:
        """Send a request and return its answer, read whole.

        Args:
            method: HTTP method.
            url: Path below the base URL (percent-encoded), or a whole URL of the same origin.
            accept: Statuses from 300 on that the caller wants to see; those that are worth a retry never are.
            idempotent: Whether to repeat it where the server may have acted on it; by default the method says.
            **parts: What the request carries.

        Raises:
            UpstreamMissing: 404 and 410.
            PermanentFailure: any other status below 500, a redirect, or a URL of another origin.
            TransientFailure: throttling, 5xx and broken connections, when no attempt is left.
        """
        down_for = self._closed_until - self._runtime.clock()
        if down_for > 0:
            what = f"{method} {redact_url(url)} to {redact_url(self.base_url)}"
            failed = f"{self._given_up} requests in a row failed there"
            raise TransientFailure(f"{what} was not sent: {failed}", retry_after_seconds=down_for)
        repeatable = method in _IDEMPOTENT if idempotent is None else idempotent
        send = self._retrying(repeatable=repeatable, budget_seconds=self._policy.budget_seconds)
        try:
            response = send(self._send, method, url, accept, parts)
        except OlError as error:
            self._given_up = self._given_up + 1 if isinstance(error, NotActedOn | Unanswered) else 0
            if self._given_up >= self._policy.outage_after:
                self._closed_until = self._runtime.clock() + self._policy.outage_seconds
            raise
        self._given_up = 0
        return response

    def download(self, url: str, destination: Path) -> Download:
        """Stream what an address gives into a file, following redirects; no credential is ever sent along.

        The file gets its name only when it is complete; a broken or cut answer is asked for again.

        Raises:
            OlError: as `request`.
        """
        part = destination.with_name(destination.name + ".part")
        fetch = self._retrying(repeatable=True, budget_seconds=self._policy.download_seconds)
        try:
            download = fetch(self._fetch, url, part)
            part.replace(destination)
        finally:
            part.unlink(missing_ok=True)
        return download

    def _send(self, method: str, url: str, accept: Collection[int], parts: RequestParts) -> httpx.Response:
        with self._translated(method, url):
            request = self._client.build_request(method, url, **parts)
            if _origin(request.url) != _origin(self.base_url):
                raise PermanentFailure(
                    f"{method} {redact_url(request.url)} is of another origin than {redact_url(self.base_url)}; it was "
                    "not sent. If both are the same server, configure the address that it gives itself"
                )
            self._wait_for_turn()
            response = self._client.send(request, auth=self._auth)
        pause = self._policy.pace(response)
        if pause > 0:
            self._next_request_at = self._runtime.clock() + pause
        if response.is_success:
            return response
        error = failure(response)
        if response.status_code in accept and not isinstance(error, NotActedOn | Unanswered):
            return response
        raise error

    @contextmanager
    def _translated(self, method: str, url: str) -> Iterator[None]:
        whole = url if "://" in url else f"{str(self.base_url).rstrip('/')}/{url.lstrip('/')}"
        what = f"{method} {redact_url(whole)}"
        try:
            yield
        except _NEVER_VALID as error:
            raise PermanentFailure(f"{what} cannot be sent: {_named(error)}") from error
        except _NOT_SENT as error:
            raise NotActedOn(f"{what} reached no server: {_named(error)}") from error
        except httpx.HTTPError as error:
            raise Unanswered(f"{what} broke off: {_named(error)}") from error

    def _wait_for_turn(self) -> None:
        seconds = self._next_request_at - self._runtime.clock()
        if seconds > 0:
            self._runtime.sleep(seconds)

    def _fetch(self, url: str, part: Path) -> Download:
        started, digest, size = self._runtime.clock(), hashlib.sha256(), 0
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        with (
            self._translated("GET", url),
            part.open("wb") as file,
            self._client.stream("GET", url, headers=headers, auth=None, follow_redirects=True) as response,
        ):
            if not response.is_success:
                response.read()
                raise failure(response)
            for chunk in response.iter_raw(_CHUNK_BYTES):  # raw: a stored `Content-Encoding: gzip` stays a .gz
                digest.update(chunk)
                size += file.write(chunk)
                if self._runtime.clock() - started > self._policy.download_seconds:
                    raise TransientFailure(f"GET {redact_url(url)} took over {self._policy.download_seconds:.0f} s")
        announced = response.headers.get("content-length", str(size))
        if announced != str(size):
            raise Unanswered(f"GET {redact_url(url)} gave {size} of {announced} bytes")
        return Download(digest.hexdigest(), size, response.headers.get("content-type"))

    def _retrying(self, *, repeatable: bool, budget_seconds: float) -> Retrying:
        clock = self._runtime.clock
        started = clock()

        def spent(state: RetryCallState) -> bool:
            late = clock() - started + state.upcoming_sleep > budget_seconds
            return late or state.attempt_number >= self._policy.attempts

        return Retrying(
            retry=retry_if_exception_type((NotActedOn, Unanswered) if repeatable else NotActedOn),
            wait=_wait,
            stop=spent,
            sleep=self._runtime.sleep,
            before_sleep=_log_retry,
            reraise=True,
        )


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {redact(str(error))}" if str(error) else type(error).__name__


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    after = error.retry_after_seconds if isinstance(error, TransientFailure) else None
    if after is None:
        return wait_random_exponential(min=0.2, max=60)(state)
    return after + wait_random(0, max(0.1, after / 10))(state)


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    _log.warning("attempt %d: %s; next in %.1f s", state.attempt_number, error, state.upcoming_sleep)


def _redact_record(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(redact_url(one) if isinstance(one, httpx.URL) else one for one in record.args)
    return True


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def poll_delays() -> Iterator[float]:
    """Yield the seconds to wait before each look at a running export: 0.2 at first, 30 at most."""
    delay = 0.2
    while True:
        yield delay
        delay = min(30.0, delay * 1.5)
