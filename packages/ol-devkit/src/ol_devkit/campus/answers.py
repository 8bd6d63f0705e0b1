"""Scripted answers: what the campus says instead of, or on top of, its own answer to a request."""

import asyncio
import json
import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True, slots=True)
class Scripted:
    """One answer.

    Attributes:
        status: HTTP status; None lets the campus answer by itself, late or cut off as the other fields say.
        headers: Added to the answer; `content-type` follows from the body where not given.
        body: Bytes or text as they are, anything else as JSON.
        delay_seconds: How long to wait before the answer begins.
        cut_after_bytes: Close the connection after so many bytes of the body.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: object = b""
    delay_seconds: float = 0.0
    cut_after_bytes: int | None = None

    def encoded(self) -> tuple[bytes, str]:
        """The body as bytes, and its content type."""
        if isinstance(self.body, bytes):
            return self.body, "application/octet-stream"
        if isinstance(self.body, str):
            return self.body.encode(), "text/plain; charset=utf-8"
        return json.dumps(self.body).encode(), "application/json"


class Script:
    """Answers that wait for requests of one kind."""

    def __init__(self, method: str, path: str, answers: Iterable[Scripted]) -> None:
        self._method = method.upper()
        self._path = re.compile(path)
        self._answers = deque(answers)

    @property
    def remaining(self) -> int:
        """How many answers have not been given yet."""
        return len(self._answers)

    def take(self, method: str, path: str) -> Scripted | None:
        """The next answer, where this script has one for the request."""
        if self._answers and self._method in {method, "*"} and self._path.fullmatch(path):
            return self._answers.popleft()
        return None


class CutConnection(Exception):
    """The scripted number of bytes is out; the server closes the connection when it sees an unfinished answer."""


async def play(answer: Scripted, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: PLR0917  # as ASGI has it
    """Answer a request as scripted; `app` answers where the script gives no status."""
    await asyncio.sleep(answer.delay_seconds)
    target = send if answer.cut_after_bytes is None else _cut(send, answer.cut_after_bytes)
    try:
        if answer.status is None:
            await app(scope, receive, target)
            return
        body, content_type = answer.encoded()
        headers = {"content-type": content_type, "content-length": str(len(body))}
        headers.update((name.lower(), value) for name, value in answer.headers.items())
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await target({"type": "http.response.start", "status": answer.status, "headers": raw})
        await target({"type": "http.response.body", "body": body})
    except CutConnection:
        return


def _cut(send: Send, limit: int) -> Send:
    sent = 0

    async def limited(message: Message) -> None:
        nonlocal sent
        if message["type"] != "http.response.body":
            await send(message)
            return
        body = message.get("body", b"")[: limit - sent]
        sent += len(body)
        await send({"type": "http.response.body", "body": body, "more_body": True})
        if sent >= limit or not message.get("more_body", False):
            raise CutConnection

    return limited


def canvas_throttled(status: int = 403) -> Scripted:
    """Canvas's answer to a client above its quota: 403, or 429 where the instance is set so; never `Retry-After`.

    Source: canvas-lms app/middleware/request_throttle.rb.
    """
    reason = {403: "Forbidden", 429: "Too Many Requests"}[status]
    return Scripted(status, {"X-Rate-Limit-Remaining": "0.0"}, f"{status} {reason} (Rate Limit Exceeded)\n")


def openedx_throttled(seconds: int = 12, *, retry_after: bool = True) -> Scripted:
    """Open edX's answer to a client above its rate; older releases lack `Retry-After`."""
    text = f"Request was throttled. Expected available in {seconds} seconds."
    return Scripted(429, {"Retry-After": str(seconds)} if retry_after else {}, {"developer_message": text})
