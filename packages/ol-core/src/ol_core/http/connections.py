"""Connections: kept, shared by threads, few, and never waited for longer than the deadline in force."""

import os
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from ol_core.failures import PermanentFailure
from ol_core.http.deadlines import deadline
from ol_core.http.redaction import redact_url

_SLICE_BYTES = 1 << 16
_KEPT_OPEN_SECONDS = 5.0
_ERRORS = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)


class PooledTransport(httpx.BaseTransport):
    """Connections of HTTP/1.1, shared by threads, through the proxies that the process's environment names.

    httpx has such a transport. This one also ends each wait at the deadline in force, which httpx offers no place for,
    and no thread ever closes the connection of another: each request has one for itself until its answer is closed.
    httpcore's own pool takes a connection that was just given to a request for an idle one (encode/httpcore#1110).

    Args:
        connections: Most connections at a time.
    """

    def __init__(self, connections: int) -> None:
        self._turns = threading.BoundedSemaphore(connections)
        self._connections = connections
        self._lock = threading.Lock()
        self._idle: list[_Lane] = []  # the last one was used last
        self._busy = 0
        self._context: ssl.SSLContext | None = None
        self._closed = False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.BaseTransport`."""
        content = request.stream
        assert isinstance(content, httpx.SyncByteStream)  # noqa: S101 - the client is not asynchronous
        url = request.url
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        sent = httpcore.Request(
            request.method, target, headers=request.headers.raw, content=content, extensions=request.extensions
        )
        lane = self._take(request)
        try:
            with _as_httpx_errors():
                answer = lane.pool.handle_request(sent)
        except BaseException:
            self._give_back(lane)
            raise
        extensions = {name: one for name, one in answer.extensions.items() if name != "reason_phrase"}  # any text
        body = _Body(answer, lambda: self._give_back(lane))
        return httpx.Response(answer.status, headers=answer.headers, stream=body, extensions=extensions)

    def close(self) -> None:
        """Close all connections; those in use, when their answers are closed."""
        with self._lock:
            self._closed, idle, self._idle = True, self._idle, []
        for lane in idle:
            lane.pool.close()

    def _take(self, request: httpx.Request) -> "_Lane":
        new = _Lane(request.url, self._trusted(request.url))
        patience = _bounded(request.extensions.get("timeout", {}).get("pool"), httpx.PoolTimeout)
        if not self._turns.acquire(timeout=min(patience, threading.TIMEOUT_MAX)):
            raise httpx.PoolTimeout(f"all {self._connections} connections are in use")
        surplus: _Lane | None = None
        with self._lock:
            self._busy += 1
            kept = next((one for one in reversed(self._idle) if one.place == new.place), None)
            if kept:
                self._idle.remove(kept)
            elif self._idle and self._busy + len(self._idle) > self._connections:
                surplus = self._idle.pop(0)
        if surplus:
            surplus.pool.close()
        return kept or new

    def _trusted(self, url: httpx.URL) -> ssl.SSLContext | None:
        with self._lock:
            if url.scheme == "https" and not self._context:
                try:
                    self._context = httpx.create_ssl_context()  # takes 20 ms
                except OSError as error:
                    what = f"the certificates in {os.environ.get('SSL_CERT_FILE') or os.environ.get('SSL_CERT_DIR')}"
                    raise PermanentFailure(f"{what} cannot be read: {error.strerror}; name a PEM file") from error
            return self._context

    def _give_back(self, lane: "_Lane") -> None:
        with self._lock:
            self._busy -= 1
            if not self._closed:
                self._idle.append(lane)
        if self._closed:
            lane.pool.close()
        self._turns.release()


class _Lane:
    """One connection to one place, which httpcore opens, and opens again where it was closed or idle for too long."""

    def __init__(self, url: httpx.URL, trusted: ssl.SSLContext | None) -> None:
        proxies = getproxies()
        proxy = "" if proxy_bypass(url.host) else proxies.get(url.scheme, proxies.get("all", ""))
        self.place = url.scheme, url.host, url.port, proxy
        self.pool = httpcore.ConnectionPool(
            ssl_context=trusted,
            proxy=_proxy(proxy) if proxy else None,
            max_connections=1,
            keepalive_expiry=_KEPT_OPEN_SECONDS,
            network_backend=_Backend(),
        )


def _proxy(address: str) -> httpcore.Proxy:
    url = httpx.URL(address if "://" in address else f"http://{address}")
    if url.scheme not in {"http", "https"} or not url.host:
        raise PermanentFailure(f"the environment's proxy {redact_url(url)} is none of http(s)://host:port")
    login = (url.username, url.password) if url.userinfo else None
    return httpcore.Proxy(str(url.copy_with(userinfo=b"")), auth=login)


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response, give_back: Callable[[], None]) -> None:
        self._answer, self._give_back = answer, give_back
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        with _as_httpx_errors():
            yield from self._answer.iter_stream()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            try:
                self._answer.close()
            finally:
                self._give_back()


@contextmanager
def _as_httpx_errors() -> Iterator[None]:
    try:
        yield
    except _ERRORS as error:
        raise getattr(httpx, type(error).__name__)(str(error)) from error


class _Backend(httpcore.NetworkBackend):
    def __init__(self) -> None:
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(  # noqa: PLR0917 - httpcore's signature
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        bounded = _bounded(timeout, httpcore.ConnectTimeout)
        try:
            return _Stream(self._sockets.connect_tcp(host, port, bounded, local_address, socket_options))
        except UnicodeError as error:  # of the resolver: a name of a host with an empty or an overlong part
            raise httpcore.LocalProtocolError("no host can have this name") from error


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _bounded(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _SLICE_BYTES):
            self._stream.write(buffer[start : start + _SLICE_BYTES], _bounded(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        bounded = _bounded(timeout, httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, bounded))

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


def _bounded(timeout: float | None, late: type[Exception]) -> float:
    left = deadline().seconds_left()
    if left <= 0:
        raise late("the deadline is over")
    return left if timeout is None else min(timeout, left)
