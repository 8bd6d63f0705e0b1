"""A Canvas that answers as scripted, on a clock of its own."""

from collections.abc import Callable, Iterator

import httpx
from ol_canvas.client import CanvasClient

BASE = "https://canvas.example"
API = f"{BASE}/api/v1"
TOKEN = "tok-canary"
REFUSED = {"status": "unauthorized", "errors": [{"message": "user not authorized to perform that action"}]}
DISABLED = {"message": "That page has been disabled for this course"}
THROTTLED = "403 Forbidden (Rate Limit Exceeded)\n"

Answer = httpx.Response | object | Callable[[httpx.Request], httpx.Response]


class ScriptedCanvas(httpx.MockTransport):
    """Answers by method and path: with JSON, a response, or what a function says; lists of answers in turn."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        self.requests: list[httpx.Request] = []
        self.answers = answers
        super().__init__(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        path = request.url.raw_path.decode().partition("?")[0].removeprefix("/api/v1/")
        answer = self.answers.get(f"{request.method} {path}", httpx.Response(404, json={"errors": [{"message": "no"}]}))
        if isinstance(answer, Iterator):
            answer = next(answer)
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, httpx.Response):
            return httpx.Response(answer.status_code, headers=answer.headers, stream=httpx.ByteStream(answer.content))
        return httpx.Response(200, json=answer)

    @property
    def asked(self) -> list[str]:
        return [f"{one.method} {one.url.path.removeprefix('/api/v1/')}" for one in self.requests]


class FakeTime:
    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def client_of(canvas: ScriptedCanvas, time: FakeTime | None = None) -> CanvasClient:
    time = time or FakeTime()
    return CanvasClient(BASE, TOKEN, account_id=1, transport=canvas, sleep=time.sleep, clock=time.clock)
