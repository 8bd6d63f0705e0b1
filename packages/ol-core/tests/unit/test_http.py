"""The HTTP client against scripted servers: retries, failures, pacing, and what never leaves it."""

import json
import logging
from collections.abc import Callable

import httpx
import pytest
from ol_core.failures import OlError, PermanentFailure, TransientFailure, UpstreamMissing
from ol_core.http import BearerAuth, HttpClient, HttpPolicy, NaiveUtc, Runtime, read_json, redact, redact_url, validated
from pydantic import TypeAdapter

Answer = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


class FakeTime:
    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class ScriptedServer(httpx.MockTransport):
    """Gives its answers in turn, the last one for ever."""

    def __init__(self, *answers: Answer) -> None:
        self.requests: list[httpx.Request] = []
        self._answers = list(answers)
        super().__init__(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            return answer(request)
        # a response can be sent once only
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def client_of(server: ScriptedServer, time: FakeTime | None = None, **policy: float) -> HttpClient:
    time = time or FakeTime()
    return HttpClient(
        "https://learn.example/base",
        auth=BearerAuth("tok-canary"),
        policy=HttpPolicy(**policy),  # type: ignore[arg-type] # numbers only
        runtime=Runtime(server, time.sleep, time.clock),
    )


OK = httpx.Response(200, json={"ok": True})


@pytest.mark.parametrize(
    "first",
    [
        *(httpx.Response(status) for status in (408, 429, 502, 503, 504)),
        httpx.Response(403, text="403 Forbidden (Rate Limit Exceeded)\n", headers={"X-Rate-Limit-Remaining": "0.0"}),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("cut"),
    ],
    ids=lambda answer: getattr(answer, "status_code", type(answer).__name__),
)
def test_an_idempotent_request_is_repeated_and_waits_in_between(first: Answer) -> None:
    server, time = ScriptedServer(first, OK), FakeTime()
    assert client_of(server, time).request("GET", "x").json() == {"ok": True}
    assert len(server.requests) == 2
    assert len(time.slept) == 1
    assert time.slept[0] > 0


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.Response(400), PermanentFailure),
        (httpx.Response(401), PermanentFailure),
        (httpx.Response(403, text="user not authorized to perform that action"), PermanentFailure),
        (httpx.Response(404), UpstreamMissing),
        (httpx.Response(410), UpstreamMissing),
        (httpx.Response(422), PermanentFailure),
        (httpx.Response(302, headers={"Location": "https://sso.example/login?ticket=canary"}), PermanentFailure),
        (httpx.Response(500), TransientFailure),
        (httpx.LocalProtocolError("bad header"), PermanentFailure),
    ],
    ids=lambda one: getattr(one, "status_code", getattr(one, "__name__", type(one).__name__)),
)
def test_other_failures_are_told_once_by_their_type(answer: Answer, kind: type[OlError]) -> None:
    server = ScriptedServer(answer)
    with pytest.raises(OlError) as caught:
        client_of(server).request("GET", "x")
    assert type(caught.value) is kind
    assert len(server.requests) == 1
    assert "GET https://learn.example/base/x" in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "times"),
    [
        (httpx.Response(502), 1),
        (httpx.ReadTimeout("slow"), 1),
        (httpx.Response(429), 2),
        (httpx.Response(403, text="403 Forbidden (Rate Limit Exceeded)"), 2),
        (httpx.ConnectError("refused"), 2),
    ],
    ids=lambda one: getattr(one, "status_code", one if isinstance(one, int) else type(one).__name__),
)
def test_a_post_is_repeated_only_where_the_server_did_not_act_on_it(answer: Answer, times: int) -> None:
    server = ScriptedServer(answer, OK)
    client = client_of(server)
    if times == 1:
        with pytest.raises(TransientFailure):
            client.request("POST", "x", json={})
    else:
        assert client.request("POST", "x", json={}).is_success
    assert len(server.requests) == times


@pytest.mark.parametrize(
    ("url", "params", "asked"),
    [
        ("x?a=1&b=2", {"b": 3}, "x?a=1&b=3"),
        ("https://learn.example/base/x?a%5B%5D=1", {"b": 3}, "x?a%5B%5D=1&b=3"),
        ("x?a=1", {}, "x?a=1"),
        ("x", {"b": 3}, "x?b=3"),
    ],
)
def test_parameters_come_beside_those_of_the_url(url: str, params: dict[str, str | int], asked: str) -> None:
    server = ScriptedServer(httpx.Response(502), OK)
    client_of(server).request("GET", url, params=params)
    assert [str(one.url) for one in server.requests] == [f"https://learn.example/base/{asked}"] * 2


def test_a_post_that_is_declared_idempotent_is_repeated_with_the_same_body() -> None:
    server = ScriptedServer(httpx.Response(502), OK)
    client_of(server).request("POST", "x", json={"a": 1}, idempotent=True)
    assert [json.loads(one.content) for one in server.requests] == [{"a": 1}, {"a": 1}]


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"Retry-After": "7"}, "", 7),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}, "", 30),
        ({"Retry-After": "Wed Oct 21 07:28:30 2015", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}, "", 30),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:30 -0000", "Date": "Wed Oct 21 07:28:00 2015"}, "", 30),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT"}, "", 0),  # in the past: at once
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT", "Date": "today"}, "", 0),
        ({}, '{"developer_message":"Request was throttled. Expected available in 41 seconds."}', 41),
        ({"Retry-After": "soon"}, "Expected available in 2.5 seconds", 2.5),
    ],
)
def test_it_waits_as_long_as_the_server_asks(headers: dict[str, str], body: str, seconds: float) -> None:
    server, time = ScriptedServer(httpx.Response(429, headers=headers, text=body), OK), FakeTime()
    client_of(server, time).request("GET", "x")
    assert seconds <= time.slept[0] <= seconds * 1.1 + 0.1


def test_a_method_in_lower_case_is_repeated_all_the_same() -> None:
    server = ScriptedServer(httpx.Response(503), OK)
    assert client_of(server).request("get", "x").is_success
    assert [one.method for one in server.requests] == ["GET", "GET"]


@pytest.mark.parametrize(
    ("stated", "held"),
    [
        ("2024-02-01T12:00:00+02:00", "2024-02-01 10:00:00"),
        ("2024-02-01T12:00:00", "2024-02-01 12:00:00"),
        ("9999-12-31T23:59:59-05:00", "9999-12-31 23:59:59.999999"),
        ("10000-01-01T00:00:00Z", "9999-12-31 23:59:59.999999"),
        ("+20215-01-01", "9999-12-31 23:59:59.999999"),
        ("0001-01-01T00:00:00+05:00", "0001-01-01 00:00:00"),
        ("0000-12-31T00:00:00Z", "0001-01-01 00:00:00"),
        ("-0044-03-15T00:00:00Z", "0001-01-01 00:00:00"),
        (None, "None"),
    ],
)
def test_a_time_is_utc_and_within_the_years_that_there_are(stated: str | None, held: str) -> None:
    assert str(validated(TypeAdapter(NaiveUtc), stated, source="test")) == held


@pytest.mark.parametrize("stated", ["soon", "12345-67", "12345-01-01x", "10000-01-01 or so"])
def test_what_is_not_a_time_is_refused(stated: str) -> None:
    with pytest.raises(PermanentFailure, match="another shape"):
        validated(TypeAdapter(NaiveUtc), stated, source="test")


def test_a_wait_beyond_the_budget_is_left_to_the_caller() -> None:
    server, time = ScriptedServer(httpx.Response(429, headers={"Retry-After": "86400"})), FakeTime()
    with pytest.raises(TransientFailure, match="429") as caught:
        client_of(server, time).request("GET", "x")
    assert caught.value.retry_after_seconds == 86400
    assert time.slept == []
    assert len(server.requests) == 1


def test_attempts_and_time_are_bounded() -> None:
    server, time = ScriptedServer(httpx.Response(503)), FakeTime()
    with pytest.raises(TransientFailure):
        client_of(server, time, attempts=4).request("GET", "x")
    assert len(server.requests) == 4
    assert time.now <= 300

    server, time = ScriptedServer(httpx.Response(503, headers={"Retry-After": "40"})), FakeTime()
    with pytest.raises(TransientFailure):
        client_of(server, time, attempts=100, budget_seconds=100).request("GET", "x")
    assert len(server.requests) == 3


def test_waits_that_nobody_asked_for_grow_and_differ() -> None:
    waits = []
    for _ in range(20):
        time = FakeTime()
        with pytest.raises(TransientFailure):
            client_of(ScriptedServer(httpx.Response(503)), time).request("GET", "x")
        waits.append(time.slept)
    assert len({wait for slept in waits for wait in slept}) > 50
    assert max(slept[-1] for slept in waits) > 2
    assert max(slept[0] for slept in waits) <= 1


def test_a_server_that_is_down_is_left_alone_for_a_while() -> None:
    server, time = ScriptedServer(httpx.ConnectError("refused")), FakeTime()
    client = client_of(server, time, attempts=2, outage_after=3, outage_seconds=30)
    errors = []
    for _ in range(100):
        with pytest.raises(TransientFailure) as caught:
            client.request("GET", "x")
        errors.append(caught.value)
    assert len(server.requests) == 6
    assert "was not sent: 3 requests in a row failed" in str(errors[-1])
    assert errors[-1].retry_after_seconds == pytest.approx(30)

    time.now += 30
    with pytest.raises(TransientFailure, match="reached no server"):
        client.request("GET", "x")


def test_an_answer_of_any_kind_ends_an_outage() -> None:
    down, missing = httpx.ConnectError("refused"), httpx.Response(404)
    server = ScriptedServer(down, down, missing, down, down, missing, OK)
    client = client_of(server, attempts=1)
    for _ in range(6):
        with pytest.raises(OlError):
            client.request("GET", "x")
    assert client.request("GET", "x").is_success


def test_the_caller_sees_statuses_that_it_accepts_but_never_throttling() -> None:
    refused = httpx.Response(403, text="user not authorized")
    throttled = httpx.Response(403, text="403 Forbidden (Rate Limit Exceeded)")
    server = ScriptedServer(throttled, httpx.Response(429), refused)
    assert client_of(server).request("GET", "x", accept=(403, 429)).status_code == 403
    assert len(server.requests) == 3


def test_it_slows_down_as_the_answers_say() -> None:
    time = FakeTime()
    server = ScriptedServer(httpx.Response(200, headers={"X-Pause": "4"}), OK)
    policy = HttpPolicy(pace=lambda response: float(response.headers.get("x-pause", 0)))
    client = HttpClient("https://learn.example", policy=policy, runtime=Runtime(server, time.sleep, time.clock))
    client.request("GET", "x")
    time.now += 1
    client.request("GET", "x")
    client.request("GET", "x")
    assert time.slept == [3]


@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.example/base/x",
        "http://learn.example/base/x",
        "https://learn.example:8443/base/x",
        "https://learn.example@elsewhere.example/",
    ],
)
def test_a_token_never_goes_to_another_origin(url: str) -> None:
    server = ScriptedServer(OK)
    with pytest.raises(PermanentFailure, match="another origin"):
        client_of(server).request("GET", url)
    assert server.requests == []


def test_a_whole_url_of_the_same_origin_is_used_as_it_is() -> None:
    server = ScriptedServer(OK)
    client_of(server).request("GET", "https://learn.example:443/other?page=2")
    client_of(server).request("GET", "courses/course-v1%3AA%2BB%2FC/")
    assert [str(one.url) for one in server.requests] == [
        "https://learn.example/other?page=2",
        "https://learn.example/base/courses/course-v1%3AA%2BB%2FC/",
    ]


def test_a_session_is_not_kept() -> None:
    server = ScriptedServer(httpx.Response(200, headers={"Set-Cookie": "session=1; Path=/"}), OK)
    client = client_of(server)
    client.request("GET", "x")
    client.request("GET", "x")
    assert "cookie" not in server.requests[1].headers


@pytest.mark.parametrize("address", ["learn.example", "ftp://learn.example", "https://"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(PermanentFailure, match="not the address"):
        HttpClient(address)


@pytest.mark.parametrize("token", ["tok-canary\n", "", "tök-canary", "tok canary"])
def test_a_token_that_no_header_carries_is_refused_without_being_told(token: str) -> None:
    with pytest.raises(PermanentFailure) as caught:
        BearerAuth(token)
    assert "canary" not in str(caught.value)


def test_messages_hold_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    echo = (
        '{"authorization": "Bearer s3cr3t", "access_token": "s3cr3t", "client_secret":"s3cr3t"} '
        "https://u:p@s3.example/k?X-Amz-Signature=s3cr3t&X-Amz-Credential=s3cr3t verifier=s3cr3t JWT s3cr3t.s3cr3t"
    )
    server = ScriptedServer(httpx.Response(400, text=echo))
    caplog.set_level(logging.DEBUG)
    with pytest.raises(PermanentFailure) as caught:
        client_of(server).request("GET", "x?verifier=s3cr3t&page=2&sig=s3cr3t")
    assert "s3cr3t" not in str(caught.value)
    assert "page=2" in str(caught.value)
    assert "HTTP Request" in caplog.text  # httpx logs each request
    assert "s3cr3t" not in caplog.text
    assert "canary" not in caplog.text


def test_redaction_leaves_ordinary_words_alone() -> None:
    assert redact("Invalid access token. Ask for a token") == "Invalid access token. Ask for a token"
    assert redact_url("https://u:p@h.example:1/a%2Fb?page=2&sig=x&include[]=items#f") == (
        "https://h.example:1/a%2Fb?page=2&sig=...&include[]=items"
    )


NUMBERS = TypeAdapter(dict[str, int])


@pytest.mark.parametrize(
    ("content", "kind", "failure"),
    [
        ('{"a": 1, "b"', "application/json; charset=utf-8", TransientFailure),
        ("<html>log in</html>", "text/html", PermanentFailure),
        ('{"a": "s3cr3t"}', "application/json", PermanentFailure),
        ("[]", "application/json", PermanentFailure),
    ],
)
def test_what_is_not_the_json_expected_is_a_failure(content: str, kind: str, failure: type[OlError]) -> None:
    response = client_of(ScriptedServer(httpx.Response(200, text=content, headers={"Content-Type": kind}))).request(
        "GET", "x"
    )
    with pytest.raises(failure) as caught:
        read_json(response, NUMBERS)
    assert type(caught.value) is failure
    assert "s3cr3t" not in f"{caught.value}{caught.value.__cause__}"


def test_records_of_another_shape_name_their_source_and_field() -> None:
    with pytest.raises(PermanentFailure, match=r"list of numbers: .*a: Input should be a valid integer") as caught:
        validated(NUMBERS, {"a": "s3cr3t"}, source="list of numbers")
    assert "s3cr3t" not in str(caught.value)
