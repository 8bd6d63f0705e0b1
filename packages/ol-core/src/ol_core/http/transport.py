"""What lies under a client: pooled connections that keep deadlines, and answers of bounded size."""

import ssl
import threading
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from ol_core.failures import PermanentFailure
from ol_core.http.deadlines import deadline
from ol_core.http.redaction import redact_url

_SLICE_BYTES = 1 << 16
_KEPT_OPEN_SECONDS = 5.0
_CODINGS = frozenset({"", "identity", "gzip", "x-gzip"})
_CHARSETS = frozenset({"iso-8859-1", "iso-8859-15", "us-ascii", "windows-1252"})
"""Beside UTF-8, those that `.text` cannot fail in; it would in `utf-16` without a mark, or in `hex`."""
_ERRORS = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)


class PooledTransport(httpx.BaseTransport):
    """Connections of HTTP/1.1, shared by threads, through the proxies that the process's environment names.

    httpx has such a transport; this one also ends each wait at the deadline in force, which httpx offers no place for.
    """

    def __init__(self, connections: int) -> None:
        self._connections = connections
        self._pools: dict[tuple[str, str], httpcore.ConnectionPool] = {}
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.BaseTransport`."""
        url = request.url
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        content = request.stream
        assert isinstance(content, httpx.SyncByteStream)  # noqa: S101 - the client is not asynchronous
        with _as_httpx_errors():
            answer = self._pool(url).handle_request(
                httpcore.Request(
                    request.method,
                    target,
                    headers=request.headers.raw,
                    content=content,
                    extensions=request.extensions,
                )
            )
        extensions = {name: one for name, one in answer.extensions.items() if name != "reason_phrase"}  # any text
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer), extensions=extensions)

    def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            pool.close()

    def _pool(self, url: httpx.URL) -> httpcore.ConnectionPool:
        proxies = getproxies()
        proxy = "" if proxy_bypass(url.host) else proxies.get(url.scheme, proxies.get("all", ""))
        pool = url.scheme, proxy
        with self._lock:
            if pool not in self._pools:
                self._pools[pool] = httpcore.ConnectionPool(
                    ssl_context=httpx.create_ssl_context() if url.scheme == "https" else None,  # takes 20 ms
                    proxy=_proxy(proxy) if proxy else None,
                    max_connections=self._connections,
                    max_keepalive_connections=self._connections,
                    keepalive_expiry=_KEPT_OPEN_SECONDS,
                    network_backend=_Backend(),
                )
            return self._pools[pool]


def _proxy(address: str) -> httpcore.Proxy:
    url = httpx.URL(address if "://" in address else f"http://{address}")
    login = (url.username, url.password) if url.userinfo else None
    return httpcore.Proxy(str(url.copy_with(userinfo=b"")), auth=login)


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        with _as_httpx_errors():
            yield from self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()


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


class BoundedAnswers(httpx.BaseTransport):
    """Reads answers whole, decompressed and up to a size, so that nothing above it ever reads without an end.

    An error's body is cut off there; a success that is longer is a failure. Of codings only gzip is known: it is the
    only one that is asked for, and one buffer at a time is unpacked of it, however much it makes of a byte.

    Args:
        inner: Sends the requests.
        max_bytes: Longest body.
        streams_success: Whether to leave the bodies of statuses from 200 to 299 to the caller, as they come.
    """

    def __init__(self, inner: httpx.BaseTransport, *, max_bytes: int, streams_success: bool = False) -> None:
        self._inner, self._max_bytes, self._streams_success = inner, max_bytes, streams_success

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.BaseTransport`."""
        answer = self._inner.handle_request(request)
        if self._streams_success and answer.is_success:
            return answer
        with closing(answer):
            body = self._read(request, answer)
        framing = {b"content-encoding", b"content-length", b"transfer-encoding"}
        headers = [(name, value) for name, value in answer.headers.raw if name.lower() not in framing]
        extensions = {name: one for name, one in answer.extensions.items() if name != "network_stream"}
        whole = httpx.Response(answer.status_code, headers=headers, content=body, extensions=extensions)
        if (whole.charset_encoding or "").lower() not in _CHARSETS:
            whole.encoding = "utf-8"
        return whole

    def close(self) -> None:
        """Close all connections."""
        self._inner.close()

    def _read(self, request: httpx.Request, answer: httpx.Response) -> bytes:
        what = f"{request.method} {redact_url(request.url)} answered {answer.status_code}"
        coding, body = answer.headers.get("content-encoding", "").strip().lower(), bytearray()
        if coding not in _CODINGS:
            if answer.is_success:
                raise PermanentFailure(f"{what} in a coding that was not asked for; valid are gzip and none")
            return b""
        stream = answer.stream
        assert isinstance(stream, httpx.SyncByteStream)  # noqa: S101 - the client is not asynchronous
        chunks = self._limited(stream)
        try:
            for chunk in self._limited(_unpacked(chunks)) if "gzip" in coding else chunks:
                body += chunk
        except _TooLong:
            if answer.is_success:
                limit = f"more than {self._max_bytes} bytes; ask for less at a time or raise max_answer_bytes"
                raise PermanentFailure(f"{what} with {limit}") from None
        except httpx.DecodingError:
            if answer.is_success:
                raise
        return bytes(body)

    def _limited(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        size = 0
        for chunk in chunks:
            if deadline().seconds_left() <= 0:
                raise httpx.ReadTimeout("the deadline is over")
            yield chunk
            size += len(chunk)
            if size > self._max_bytes:
                raise _TooLong


class _TooLong(Exception):
    pass


def _unpacked(chunks: Iterable[bytes]) -> Iterator[bytes]:
    inflater, begun = zlib.decompressobj(wbits=31), False
    try:
        for chunk in chunks:
            begun, packed = True, chunk
            while data := inflater.decompress(packed, _SLICE_BYTES):
                yield data
                packed = inflater.unconsumed_tail
    except zlib.error:
        raise httpx.DecodingError("its gzip is damaged") from None
    if begun and not inflater.eof:
        raise httpx.DecodingError("its gzip is cut")
