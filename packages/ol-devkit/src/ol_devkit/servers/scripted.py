"""A server that answers as a test scripts it, on real connections: any status and header, slow, cut, or without end."""

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Literal

_SHUTDOWN_POLL_SECONDS = 0.01


Content = bytes | Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it arrived.

    Attributes:
        method: HTTP method.
        target: Path and query, or a whole URL where the server is used as a proxy.
        headers: By their names in lower case; the last one where a name comes twice.
        body: Its body.
        connection: Number of the connection that it came by.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    connection: int


@dataclass(frozen=True, slots=True)
class Say:
    """What the server says to a request.

    Attributes:
        status: Status; its reason stays empty.
        headers: Names and values as they go on the wire; a name may come twice.
        body: Body, or what gives it in parts, without an end if it likes.
        framing: How the end of the body is told: by its length, in chunks, or by the end of the connection.
        cut_after: Bytes of the body after which the connection ends; None for none of it.
        pause_seconds: Silence before the answer.
        trickle_seconds: Silence before each byte of the body, or part of it.
        close: Whether the connection ends after the answer without being told.
        raw: What is sent in place of all that, before the connection ends.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: Content = b""
    framing: Literal["length", "chunked", "close"] = "length"
    cut_after: int | None = None
    pause_seconds: float = 0.0
    trickle_seconds: float = 0.0
    close: bool = False
    raw: Content | None = None


Script = Callable[[Asked], Say]
"""What is said to a request; called from many threads at a time."""


def in_turn(*says: Say) -> Script:
    """Say these one after another, the last one for ever."""
    lock, left = Lock(), list(says)

    def script(_: Asked) -> Say:
        with lock:
            return left.pop(0) if len(left) > 1 else left[0]

    return script


@dataclass
class ScriptedServer:
    """A running server; give it another script at any time.

    Attributes:
        url: Its address.
        script: What it says.
        asked: The requests in order of their arrival.
        open_connections: Connections that are open.
        most_connections: Most of them at a time.
    """

    url: str
    script: Script
    asked: list[Asked] = field(default_factory=list, repr=False)
    open_connections: int = 0
    most_connections: int = 0
    _opened: int = 0
    _stopped: Event = field(default_factory=Event)
    _lock: Lock = field(default_factory=Lock)

    def connected(self) -> int:
        """Note a new connection; return its number."""
        with self._lock:
            self.open_connections, self._opened = self.open_connections + 1, self._opened + 1
            self.most_connections = max(self.most_connections, self.open_connections)
            return self._opened

    def disconnected(self) -> None:
        """Note the end of a connection."""
        with self._lock:
            self.open_connections -= 1

    def wait(self, seconds: float) -> None:
        """Be silent, at most until the server stops."""
        if seconds and self._stopped.wait(seconds):
            raise ConnectionError("stopped")

    def stop(self) -> None:
        """End every silence."""
        self._stopped.set()


@contextmanager
def scripted_server(script: Script, *, tls: ssl.SSLContext | None = None) -> Iterator[ScriptedServer]:
    """Run a server on a free loopback port until the block ends.

    Args:
        script: What it says at first.
        tls: How it encrypts; None for not at all.
    """

    class Handler(_Handler):
        pass

    with _Listener(("127.0.0.1", 0), Handler) as listening:
        if tls:
            listening.socket = tls.wrap_socket(listening.socket, server_side=True, do_handshake_on_connect=False)
        scheme = "https" if tls else "http"
        server = ScriptedServer(f"{scheme}://127.0.0.1:{listening.server_port}", script)
        Handler.server_ = server
        thread = Thread(target=listening.serve_forever, kwargs={"poll_interval": _SHUTDOWN_POLL_SECONDS}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            listening.shutdown()
            thread.join()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Say nothing; clients that go away are what is tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_: ScriptedServer

    def setup(self) -> None:
        self._connection = self.server_.connected()
        super().setup()

    def finish(self) -> None:
        self.server_.disconnected()
        with suppress(OSError):
            super().finish()

    def _reply(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, self.path, headers, body, self._connection)
        self.server_.asked.append(asked)
        say = self.server_.script(asked)
        with suppress(OSError):
            self.server_.wait(say.pause_seconds)
            self._say(say)
            return
        self.close_connection = True

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = do_OPTIONS = _reply  # noqa: N815 - of http.server

    def _say(self, say: Say) -> None:
        self.close_connection = say.close or say.framing == "close" or say.cut_after is not None or say.raw is not None
        if say.raw is not None:
            for part in self._parts(say.raw, say.trickle_seconds):
                self.wfile.write(part)
            return
        head = [f"HTTP/1.1 {say.status:03d} ", *(f"{name}: {value}" for name, value in say.headers)]
        if say.framing == "length":
            length = len(say.body) if isinstance(say.body, bytes) else 1 << 62
            head.append(f"Content-Length: {length}")
        elif say.framing == "chunked":
            head.append("Transfer-Encoding: chunked")
        self.wfile.write("\r\n".join([*head, "", ""]).encode("latin-1"))
        if self.command != "HEAD":
            self._say_body(say)

    def _say_body(self, say: Say) -> None:
        left = say.cut_after
        for part in self._parts(say.body, say.trickle_seconds):
            data = part if left is None else part[:left]
            if say.framing == "chunked":
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data) if data else b"")
            else:
                self.wfile.write(data)
            if left is not None:
                left -= len(data)
                if left <= 0:
                    return
        if say.framing == "chunked":
            self.wfile.write(b"0\r\n\r\n")

    def _parts(self, content: Content, trickle_seconds: float) -> Iterator[bytes]:
        if not isinstance(content, bytes):
            parts = content()
        elif trickle_seconds:
            parts = (content[number : number + 1] for number in range(len(content)))
        else:
            parts = iter([content] if content else [])
        for part in parts:
            self.server_.wait(trickle_seconds)
            yield part

    def log_message(self, *_: object) -> None:
        """Say nothing."""
