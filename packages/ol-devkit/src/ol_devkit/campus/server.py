"""The campus on a loopback port."""

import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ol_devkit.campus.answers import Script, Scripted, play
from ol_devkit.campus.behaviour import Behaviour
from ol_devkit.campus.canvas import CanvasApi
from ol_devkit.campus.canvas_exports import ContentExport
from ol_devkit.campus.content import CampusContent
from ol_devkit.campus.courses import ArchiveStore
from ol_devkit.campus.learn import WebhookDelivery, WebhookReceiver
from ol_devkit.campus.lms import Lms, TokenIssuer
from ol_devkit.campus.state import CampusState
from ol_devkit.campus.studio import Studio

KEPT_REQUESTS = 100_000
START_SECONDS = 10.0


@dataclass(slots=True)
class RequestRecord:
    """A request that the campus received; `status` is None while it has no answer."""

    method: str
    path: str
    query: str
    authorization: str | None
    status: int | None = None


class Campus:
    """A running campus."""

    def __init__(self, state: CampusState) -> None:
        self._state = state
        self._records: deque[RequestRecord] = deque(maxlen=KEPT_REQUESTS)
        self._scripts: list[Script] = []
        self._canvas = CanvasApi(state)
        self._learn = WebhookReceiver(state)
        self._tokens = {name: TokenIssuer(state, name) for name in state.content.deployments}

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`; the systems are below it: `/canvas`, `/{deployment}/lms`, `/learn`, ..."""
        return self._state.base_url

    @property
    def content(self) -> CampusContent:
        """The courses."""
        return self._state.content

    @property
    def behaviour(self) -> Behaviour:
        """The switches."""
        return self._state.behaviour

    @property
    def secrets(self) -> Mapping[str, Mapping[str, str]]:
        """What callers need to log in: path -> key -> value."""
        return self._state.secrets()

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """The latest 100,000 requests, oldest first; `authorization` is the scheme only."""
        return tuple(self._records)

    @property
    def deliveries(self) -> tuple[WebhookDelivery, ...]:
        """The webhooks received, accepted or not."""
        return tuple(self._learn.deliveries)

    @property
    def canvas_exports(self) -> tuple[ContentExport, ...]:
        """The content exports asked of Canvas; `notifies` means that a person got an e-mail."""
        return tuple(self._canvas.content_exports.jobs)

    def script(self, match: tuple[str, str], answers: Iterable[Scripted]) -> Script:
        """Answer the next requests of one kind as scripted, in order; then the campus answers by itself again.

        Args:
            match: The method (`*` for any) and a regular expression that the whole decoded path matches.
            answers: One for each request.
        """
        script = Script(*match, answers)
        self._scripts.append(script)
        return script

    def republish(self, course_id: int | str, *, files_only: bool = False) -> None:
        """Change a course: the next version and the next export differ. Of archives in a folder only the version moves.

        Args:
            course_id: A course key, or a number for Canvas.
            files_only: Only an uploaded file changes, which `published_version` does not show. Canvas has no such
                difference.

        Raises:
            KeyError: The campus has no such course.
        """
        known = {run.run.course_id for runs in self.content.openedx.values() for run in runs}
        known_numbers = {course.identity.id for course in self.content.canvas}
        if course_id not in known and course_id not in known_numbers:
            raise KeyError(
                f"no course {course_id!r} on this campus; it has {sorted(known)} and {sorted(known_numbers)}"
            )
        self._state.change(course_id, files_only=files_only and course_id in known)

    def revoke_tokens(self, deployment: str) -> None:
        """Refuse every token that the deployment's LMS has issued so far."""
        self._tokens[deployment].revoke()

    def app(self) -> ASGIApp:
        """The ASGI application."""
        routes: list[BaseRoute] = [Route("/", self._index)]
        routes.append(Mount("/canvas", routes=self._canvas.routes()))
        routes.append(Mount("/learn", routes=self._learn.routes()))
        for name, tokens in self._tokens.items():
            studio = Studio(self._state, name, tokens)
            routes.append(Mount(f"/{name}/lms", routes=Lms(self._state, name, tokens).routes()))
            routes.append(Mount(f"/{name}/studio", routes=studio.routes()))
            routes.append(Mount(f"/{name}/exports", routes=studio.bucket_routes()))
        starlette = Starlette(routes=routes)
        starlette.router.redirect_slashes = False

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await self._answer(starlette, scope, receive, send)

        return application

    async def _answer(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        scheme = headers[b"authorization"].split(b" ")[0].decode("latin-1") if b"authorization" in headers else None
        record = RequestRecord(scope["method"], scope["path"], scope["query_string"].decode("latin-1"), scheme)
        self._records.append(record)

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
            await send(message)

        taken = (script.take(record.method, record.path) for script in tuple(self._scripts))
        answer = next((answer for answer in taken if answer is not None), None)
        if answer is None:
            await app(scope, receive, noted)
        else:
            await play(answer, app, scope, receive, noted)

    async def _index(self, request: Request) -> Response:  # noqa: ARG002  # the signature is the caller's
        runs = {name: [run.run.course_id for run in runs] for name, runs in self.content.openedx.items()}
        return JSONResponse({"openedx": runs, "canvas": [course.identity.id for course in self.content.canvas]})


@contextmanager
def serve(
    content: CampusContent,
    *,
    port: int = 0,
    behaviour: Behaviour | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Campus]:
    """Serve a campus on 127.0.0.1 from a daemon thread, until the block ends.

    Args:
        content: The courses.
        port: A port, or 0 for a free one.
        behaviour: Switches to start with.
        clock: Seconds, for token lifetimes and Canvas's throttle.

    Raises:
        OSError: The port is taken.
        RuntimeError: The server did not start.
    """
    with tempfile.TemporaryDirectory(prefix="campus-") as directory, _listener(port) as listener:
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        store = ArchiveStore(Path(directory))
        campus = Campus(CampusState(content, behaviour or Behaviour(), base_url, store, clock))
        server = uvicorn.Server(
            uvicorn.Config(
                campus.app(),
                # A cut connection is what a script asked for; uvicorn would report each as an error.
                log_level="critical",
                log_config=None,
                access_log=False,
                loop="asyncio",
                http="h11",
                ws="none",
                lifespan="off",
                timeout_graceful_shutdown=1,
            )
        )
        thread = threading.Thread(target=server.run, args=([listener],), name="campus", daemon=True)
        thread.start()
        try:
            _await_start(server, thread)
            yield campus
        finally:
            server.should_exit = True
            thread.join()


def _listener(port: int) -> socket.socket:
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it on, each answer takes 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
    except OSError:
        listener.close()
        raise
    return listener


def _await_start(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError(f"the campus did not start within {START_SECONDS} s; is the machine out of threads?")
        time.sleep(0.002)
