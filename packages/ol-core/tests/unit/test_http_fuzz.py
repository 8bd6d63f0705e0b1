"""Whatever a server says, and whatever it names as its addresses: an answer, or one of the three failures."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from ol_core.failures import PermanentFailure, TransientFailure
from ol_core.http import (
    BearerAuth,
    ClientCredentialsAuth,
    HttpClient,
    HttpPolicy,
    Runtime,
    drf_pages,
    link_pages,
    read_json,
    redact,
    redact_url,
)
from ol_core.http.answers import failure
from ol_devkit.servers.scripted import Say, ScriptedServer, in_turn, scripted_server
from pydantic import TypeAdapter

FAILURES = (PermanentFailure, TransientFailure)  # UpstreamMissing is permanent
NUMBERS = TypeAdapter(dict[str, int])
POLICY = HttpPolicy(timeout_seconds=0.1, attempts=2, budget_seconds=5, download_seconds=5, outage_after=10**9)
RUNTIME = Runtime(sleep=lambda _: None)


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    with scripted_server(in_turn(Say())) as one:
        yield one


line = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=40)
date = st.sampled_from(["Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 99999 07:28:00 GMT", "x", "1", ""])
address = st.one_of(
    st.sampled_from(
        ["/", "//[", "//a:b:c/", "http://[::1", "ftp://x/", "http://127.0.0.1:99999999/", "?\x7f", "http://a..b"]
    ),
    line,
)
header = st.one_of(
    st.tuples(
        st.sampled_from(["Content-Type"]),
        st.sampled_from(
            ["application/json", "text/html; charset=hex", "a; charset=utf-16", "charset=undefined", ";=", ""]
        ),
    ),
    st.tuples(st.just("Content-Encoding"), st.sampled_from(["gzip", "br", "deflate", "identity", "gzip, gzip", ""])),
    st.tuples(st.sampled_from(["Retry-After", "Date", "Last-Modified"]), st.one_of(date, line)),
    st.tuples(st.just("Location"), address),
    st.tuples(st.just("Link"), st.one_of(address.map('<{}>; rel="next"'.format), line)),
    st.tuples(st.sampled_from(["Set-Cookie", "ETag", "Content-Range", "Repr-Digest", "Content-MD5", "X-Any"]), line),
)
status = st.one_of(st.integers(100, 999), st.sampled_from([200, 206, 302, 401, 403, 404, 416, 429, 503]))
body = st.one_of(
    st.binary(max_size=60),
    address.map(lambda url: httpx.Response(200, json={"results": [{}], "next": url}).content),
    st.sampled_from([b'{"a": 1}', b'[{"a": 1}]', b'{"a": 1', b"<html>", b"\xef\xbb\xbf{}", b"[" * 1000, b'"\\ud800"']),
)
says = st.builds(
    Say,
    status=status,
    headers=st.lists(header, max_size=6).map(tuple),
    body=body,
    framing=st.sampled_from(["length", "chunked", "close"]),
    cut_after=st.one_of(st.none(), st.integers(0, 10)),
)
raws = st.one_of(
    st.binary(max_size=80),
    st.builds(b"HTTP/1.1 %d %b\r\n%b\r\n\r\n%b".__mod__, st.tuples(status, *[st.binary(max_size=30)] * 3)),
).map(lambda raw: Say(raw=raw))

fuzzed = settings(
    deadline=None,
    max_examples=100,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def every_call(address: str, runtime: Runtime) -> None:
    """Make each kind of call, each of which may only succeed or fail as it should."""
    login = ClientCredentialsAuth(f"{address}/token", "id", "secret")
    with (
        HttpClient(address, auth=BearerAuth("token"), policy=POLICY, runtime=runtime) as client,
        HttpClient(address, auth=login, policy=POLICY, runtime=runtime) as other,
        tempfile.TemporaryDirectory() as folder,
    ):
        calls = (
            lambda: read_json(client.request("GET", "x"), NUMBERS),
            lambda: read_json(client.request("POST", "x", json={}, accept=range(300, 600)), NUMBERS),
            lambda: client.request("GET", "x", accept=range(300, 600)).text,
            lambda: failure(client.request("GET", "x", accept=range(200, 600))),
            lambda: list(link_pages(client, client.request("GET", "x"))),
            lambda: list(drf_pages(client, client.request("GET", "x"))),
            lambda: other.request("GET", "x"),
            lambda: client.download("x", Path(folder) / "x"),
        )
        for call in calls:
            try:
                call()
            except FAILURES:
                continue
        assert [one.name for one in Path(folder).iterdir()] in ([], ["x"])


@fuzzed
@given(says=st.lists(says, min_size=1, max_size=4))
def test_whatever_a_server_answers(server: ScriptedServer, says: list[Say]) -> None:
    server.script = in_turn(*says)
    every_call(server.url, RUNTIME)


@fuzzed
@given(says=st.lists(raws, min_size=1, max_size=3))
def test_whatever_is_on_the_wire(server: ScriptedServer, says: list[Say]) -> None:
    server.script = in_turn(*says)
    every_call(server.url, RUNTIME)


errors = st.sampled_from(
    [
        one
        for one in vars(httpx).values()
        if isinstance(one, type) and issubclass(one, httpx.RequestError | httpx.InvalidURL)
    ]
)


@fuzzed
@given(error=errors, text=st.text(max_size=40))
def test_whatever_the_library_raises(error: type[httpx.RequestError], text: str) -> None:
    def broken(_: httpx.Request) -> httpx.Response:
        raise error(text)

    every_call("http://127.0.0.1:1", Runtime(httpx.MockTransport(broken), lambda _: None))


@given(url=st.one_of(address, st.text(max_size=60)))
@settings(deadline=None)
def test_whatever_an_address_is(url: str) -> None:
    redact(redact_url(url))
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={"a": 1}))
    client = HttpClient("http://lms.example", runtime=Runtime(transport, lambda _: None))
    with tempfile.TemporaryDirectory() as folder:
        for call in (
            lambda: client.request("GET", url),
            lambda: client.download(url, Path(folder) / "x"),
            lambda: HttpClient(url).close(),
        ):
            try:
                call()
            except FAILURES:
                continue
