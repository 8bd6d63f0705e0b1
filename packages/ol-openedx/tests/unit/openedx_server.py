"""An LMS, a Studio and a bucket that answer as scripted, on a clock of their own."""

import httpx
from ol_openedx.client import OpenEdxClient

LMS = "https://lms.example"
STUDIO = "https://studio.example"

Answer = object
"""JSON, a response, an exception, a function of the request that gives one of these, or a list of them in turn."""


class OpenEdxServer(httpx.MockTransport):
    """Routes by method and URL without query; the last answer of a list stays."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.now = 0.0
        self.slept: list[float] = []
        self.default: Answer = httpx.Response(404, json={"developer_message": "no such thing"})
        self._answers: dict[tuple[str, str], list[Answer]] = {}
        super().__init__(self._answer)

    def on(self, method: str, url: str, answer: Answer) -> None:
        self._answers[method, url] = list(answer) if isinstance(answer, list) else [answer]

    def to(self, url: str) -> list[httpx.Request]:
        return [one for one in self.requests if _address(one) == url]

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/oauth2/access_token":
            return httpx.Response(200, json={"access_token": "jwt", "expires_in": 3600})
        self.requests.append(request)
        answers = self._answers.get((request.method, _address(request)), [self.default])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            stream = httpx.ByteStream(answer.content)
            return httpx.Response(answer.status_code, headers=answer.headers, stream=stream)
        return httpx.Response(200, json=answer)


def _address(request: httpx.Request) -> str:
    return f"{request.url.scheme}://{request.url.host}{request.url.raw_path.decode().partition('?')[0]}"


def client_of(server: OpenEdxServer) -> OpenEdxClient:
    return OpenEdxClient(LMS, f"{STUDIO}/", "id", "s3cr3t", transport=server, sleep=server.sleep, clock=server.clock)
