"""A proxy that breaks chosen requests on their way to a real server."""

import http.client
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Literal
from urllib.parse import urlsplit

_CHUNK_BYTES = 1 << 16
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host"})


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a request that matches.

    Attributes:
        kind: `status` answers without asking the server; `drop_request` breaks the connection after so many bytes of
            the request's body; `drop_answer` after so many bytes of the answer's, which the server did act on;
            `delay` waits before it passes the request on.
        method: HTTP method; empty for any.
        contains: What path and query contain; empty for any.
        skip: How many matching requests pass first.
        times: How many matching requests are broken then.
        status: Status of `status`.
        body: Body of `status`.
        after_bytes: Of `drop_request` and `drop_answer`.
        seconds: Of `delay`.
    """

    kind: Literal["status", "drop_request", "drop_answer", "delay"]
    method: str = ""
    contains: str = ""
    skip: int = 0
    times: int = 1
    status: int = 500
    body: bytes = b""
    after_bytes: int = 0
    seconds: float = 0.0

    def matches(self, method: str, target: str) -> bool:
        """Tell whether a request is meant."""
        return self.method in ("", method) and self.contains in target


@dataclass
class FaultProxy:
    """A running proxy; give it faults at any time.

    Attributes:
        url: Its address.
        requests: (method, path and query) of each request, in order.
        injected: The faults that happened, in order.
    """

    url: str
    requests: list[tuple[str, str]] = field(default_factory=list)
    injected: list[Fault] = field(default_factory=list)
    _faults: dict[int, tuple[Fault, int]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def inject(self, *faults: Fault) -> None:
        """Break requests from now on as these say, and no longer as earlier ones said."""
        with self._lock:
            self._faults = {number: (fault, 0) for number, fault in enumerate(faults)}

    def next_fault(self, method: str, target: str) -> Fault | None:
        """Note a request; return what happens to it."""
        with self._lock:
            self.requests.append((method, target))
            for number, (fault, seen) in self._faults.items():
                if not fault.matches(method, target):
                    continue
                self._faults[number] = (fault, seen + 1)
                if fault.skip <= seen < fault.skip + fault.times:
                    self.injected.append(fault)
                    return fault
        return None


@contextmanager
def fault_proxy(server_url: str) -> Iterator[FaultProxy]:
    """Run a proxy before a server until the block ends; it keeps the `Host` header, which signatures cover."""
    host, port = urlsplit(server_url).hostname or "", urlsplit(server_url).port or 80

    class Handler(_Handler):
        server_address_ = (host, port)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        proxy = FaultProxy(url=f"http://127.0.0.1:{listening.server_port}")
        Handler.proxy = proxy
        Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield proxy
        finally:
            listening.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultProxy
    server_address_: tuple[str, int]

    def _pass_on(self) -> None:
        fault = self.proxy.next_fault(self.command, self.path)
        if fault and fault.kind == "delay":
            time.sleep(fault.seconds)
        if fault and fault.kind == "status":
            self._answer(fault)
            return
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        upstream = http.client.HTTPConnection(*self.server_address_, timeout=60)
        try:
            self._forward(upstream, fault.after_bytes if fault and fault.kind == "drop_request" else None)
            self._relay(upstream, fault.after_bytes if fault and fault.kind == "drop_answer" else None)
        except (OSError, http.client.HTTPException):
            self._break_off()
        finally:
            upstream.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = _pass_on  # noqa: N815 - named by http.server

    def _forward(self, upstream: http.client.HTTPConnection, drop_after: int | None) -> None:
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in {"connection", "expect"}:
                upstream.putheader(name, value)
        upstream.endheaders()
        sent, left = 0, int(self.headers.get("Content-Length", 0))
        chunked = self.headers.get("Transfer-Encoding", "").lower() == "chunked"
        while left > 0 or chunked:
            data = self._chunk() if chunked else self.rfile.read(min(left, _CHUNK_BYTES))
            left -= len(data)
            sent += len(data)
            if not data or (drop_after is not None and sent > drop_after):
                raise ConnectionError("dropped")
            upstream.send(data)
            if chunked and data == b"0\r\n\r\n":
                return
        if drop_after is not None:
            raise ConnectionError("dropped")

    def _chunk(self) -> bytes:
        """Return one chunk of a chunked body as it is on the wire."""
        line = self.rfile.readline()
        size = int(line.split(b";")[0], 16)
        return line + self.rfile.read(size + 2)

    def _relay(self, upstream: http.client.HTTPConnection, drop_after: int | None) -> None:
        answer = upstream.getresponse()
        length = answer.getheader("Content-Length")
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", length)
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        sent = 0
        while data := answer.read(_CHUNK_BYTES):
            if drop_after is not None and sent + len(data) > drop_after:
                self.wfile.write(data[: drop_after - sent])
                raise ConnectionError("dropped")
            sent += len(data)
            self.wfile.write(data)
        if drop_after is not None:
            raise ConnectionError("dropped")

    def _answer(self, fault: Fault) -> None:
        left = int(self.headers.get("Content-Length", 0))
        while left > 0:
            left -= len(self.rfile.read(min(left, _CHUNK_BYTES)))
        self.send_response_only(fault.status)
        self.send_header("Content-Length", str(len(fault.body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(fault.body)
        self.close_connection = True

    def _break_off(self) -> None:
        """Reset the connection, so that nobody takes the end of it for the end of an answer."""
        self.close_connection = True
        with suppress(OSError):
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, *_: object) -> None:
        """Say nothing."""
