"""The transport against a real server on loopback that says, byte for byte, what outside systems have said."""

import gzip
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import trustme
from ol_core.failures import OlError, PermanentFailure, TransientFailure, UpstreamMissing
from ol_core.http import BearerAuth, HttpClient, HttpPolicy, Runtime, read_json
from ol_devkit.servers.scripted import Say, ScriptedServer, in_turn, scripted_server
from pydantic import TypeAdapter

OK = Say(200, (("Content-Type", "application/json"),), b'{"ok": 1}')
ANY = TypeAdapter(dict[str, int])


class Waits:
    """Sleeps that take no time, on a clock that goes on by them."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def clock(self) -> float:
        return time.monotonic() + sum(self.slept)

    def runtime(self) -> Runtime:
        return Runtime(None, self.sleep, self.clock)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server(in_turn(OK)) as one:
        yield one


@pytest.fixture
def waits() -> Waits:
    return Waits()


Open = Callable[..., HttpClient]


@pytest.fixture
def open_client(server: ScriptedServer, waits: Waits) -> Iterator[Open]:
    opened = []

    def make(**policy: float) -> HttpClient:
        client = HttpClient(
            server.url,
            auth=BearerAuth("tok-canary"),
            policy=HttpPolicy(**policy),  # type: ignore[arg-type] # numbers only
            runtime=waits.runtime(),
        )
        opened.append(client)
        return client

    yield make
    for client in opened:
        client.close()


REPEATED = (408, 425, 429, 502, 503, 504, 520, 521, 522, 523, 524)
TRANSIENT = (500, 506, 507, 508, 511, 525, 530, 599, 600, 999)
MISSING = (404, 410)
PERMANENT = (
    *(300, 301, 302, 303, 304, 305, 307, 308, 399),
    *(400, 401, 402, 403, 405, 406, 407, 409, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 423, 424, 426, 428),
    *(431, 451, 499, 501, 505),
)


@pytest.mark.parametrize("status", [200, 201, 202, 203, 204, 205, 206, 226, 299])
def test_a_success_is_an_answer(server: ScriptedServer, open_client: Open, status: int) -> None:
    body = b"" if status in {204, 205} else b"x"
    server.script = in_turn(Say(status, body=body, framing="close" if status == 204 else "length"))
    assert open_client().request("GET", "x").status_code == status


@pytest.mark.parametrize("status", REPEATED)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_an_idempotent_request_is_repeated(
    server: ScriptedServer, open_client: Open, waits: Waits, *, status: int, method: str
) -> None:
    server.script = in_turn(Say(status), Say(status), OK)
    assert open_client().request(method, "x").is_success
    assert [asked.method for asked in server.asked] == [method] * 3
    assert len(waits.slept) == 2
    assert min(waits.slept) > 0


@pytest.mark.parametrize("status", REPEATED)
def test_a_post_is_repeated_only_where_it_was_refused_or_has_a_key(
    server: ScriptedServer, open_client: Open, status: int
) -> None:
    server.script = in_turn(Say(status), OK)
    client = open_client()
    if status in {425, 429}:
        assert client.request("POST", "x", json={"a": 1}).is_success
        assert [asked.body for asked in server.asked] == [b'{"a":1}'] * 2
    else:
        with pytest.raises(TransientFailure, match=str(status)):
            client.request("POST", "x", json={"a": 1})
        assert len(server.asked) == 1

    server.asked.clear()
    server.script = in_turn(Say(status), Say(status, cut_after=0), OK)
    assert client.request("POST", "x", json={"a": 1}, idempotency_key="delivery-7").is_success
    assert [(asked.body, asked.headers["idempotency-key"]) for asked in server.asked] == [
        (b'{"a":1}', "delivery-7")
    ] * 3


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, TransientFailure) for status in TRANSIENT),
        *((status, UpstreamMissing) for status in MISSING),
        *((status, PermanentFailure) for status in PERMANENT),
    ],
)
def test_every_other_status_is_told_at_once_by_its_kind(
    server: ScriptedServer, open_client: Open, status: int, kind: type[OlError]
) -> None:
    server.script = in_turn(Say(status, body=b"" if status == 304 else b"told", framing="close"))
    with pytest.raises(OlError, match=f"GET {server.url}/x answered {status}") as caught:
        open_client().request("GET", "x")
    assert type(caught.value) is kind
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: \x00\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"abc" * 100, mtime=0)[:-12],
        b"HTTP/1.1 200 OK\r\nA: " + b"a" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 3,
    ],
    ids=lambda raw: repr(raw[:60]),
)
def test_what_is_cut_or_no_http_is_asked_for_again(server: ScriptedServer, open_client: Open, raw: bytes) -> None:
    server.script = in_turn(Say(raw=raw), OK)
    assert open_client().request("GET", "x").json() == {"ok": 1}
    server.script = in_turn(Say(raw=raw))
    with pytest.raises(TransientFailure, match=f"GET {server.url}/x broke off"):
        open_client(attempts=2).request("GET", "x")


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_that_is_cut_is_never_an_answer(server: ScriptedServer, open_client: Open, framing: str) -> None:
    server.script = in_turn(Say(body=b'{"ok": 1}', framing=framing, cut_after=4), OK)  # type: ignore[arg-type] # literal
    assert open_client().request("GET", "x").json() == {"ok": 1}
    assert len(server.asked) == 2


def test_an_answer_without_any_header_is_read_to_its_end(server: ScriptedServer, open_client: Open) -> None:
    server.script = in_turn(Say(raw=b'HTTP/1.1 200 OK\r\n\r\n{"ok": 1}'))
    assert read_json(open_client().request("GET", "x"), ANY) == {"ok": 1}


NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": " 7.5 "}, 7.5),
        ({"Retry-After": format_datetime(NOW + timedelta(seconds=9), usegmt=True), "Date": format_datetime(NOW)}, 9),
        ({"Retry-After": format_datetime(NOW - timedelta(days=9), usegmt=True)}, 0),
        ({"Retry-After": "Sunday, 06-Nov-94 08:49:37 GMT"}, 0),
    ],
)
def test_it_waits_as_long_as_it_is_asked_to(
    server: ScriptedServer, open_client: Open, waits: Waits, *, headers: dict[str, str], seconds: float
) -> None:
    server.script = in_turn(Say(503, tuple(headers.items())), OK)
    open_client().request("GET", "x")
    assert seconds - 1 <= waits.slept[0] <= seconds * 1.1 + 0.2


def test_a_date_without_the_servers_own_is_compared_with_this_machines(
    server: ScriptedServer, open_client: Open, waits: Waits
) -> None:
    server.script = in_turn(
        Say(503, (("Retry-After", format_datetime(datetime.now(UTC) + timedelta(seconds=20))),)), OK
    )
    open_client().request("GET", "x")
    assert 15 <= waits.slept[0] <= 22.2


@pytest.mark.parametrize(
    "stated",
    ["", "-5", "soon", "NaN", "inf", "1e9", "0x10", "\u0663", "Wed, 99 Foo 2015", "Wed, 21 Oct 99999999 07:28:00 GMT"],
)
def test_a_wait_that_means_nothing_is_the_usual_one(
    server: ScriptedServer, open_client: Open, waits: Waits, stated: str
) -> None:
    header = b"Retry-After: " + stated.encode() + b"\r\n"
    server.script = in_turn(Say(raw=b"HTTP/1.1 503 x\r\n" + header + b"Content-Length: 0\r\n\r\n"), OK)
    open_client().request("GET", "x")
    assert 0 < waits.slept[0] <= 1


@pytest.mark.parametrize(
    "stated",
    ["315360000", "9" * 400, format_datetime(NOW + timedelta(days=3650), usegmt=True)],
    ids=["seconds", "digits", "date"],
)
def test_a_wait_of_ten_years_is_left_to_the_caller_as_a_day(
    server: ScriptedServer, open_client: Open, waits: Waits, stated: str
) -> None:
    server.script = in_turn(Say(429, (("Retry-After", stated),)))
    with pytest.raises(TransientFailure) as caught:
        open_client().request("GET", "x")
    assert caught.value.retry_after_seconds == 86_400
    assert waits.slept == []
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b'\xef\xbb\xbf{"\xc3\xa9": 1}', "application/json"),
        ('{"é": 1}'.encode(), "application/json; charset=iso-8859-1"),  # Django's proxies have said so
        ('{"é": 1}'.encode("latin-1"), "application/json; charset=iso-8859-1"),
        ('{"é": 1}'.encode("utf-16"), "application/json"),
        ('{"é": 1}'.encode("utf-16-le"), "application/json; charset=utf-8"),
        ('{"é": 1}'.encode(), "application/json; charset=hex"),
        ('{"é": 1}'.encode(), "application/json; charset=no-such-charset"),
        ('{"é": 1}'.encode(), "text/plain"),
        ('{"é": 1}'.encode(), ""),
    ],
)
def test_json_is_read_in_the_charset_that_it_is_in(
    server: ScriptedServer, open_client: Open, content: bytes, kind: str
) -> None:
    server.script = in_turn(Say(200, (("Content-Type", kind),), content))
    response = open_client().request("GET", "x")
    assert read_json(response, ANY) == {"é": 1}
    assert isinstance(response.text, str)


@pytest.mark.parametrize(
    ("content", "kind", "failure"),
    [
        (b'{"a": 1, "b', "application/json", TransientFailure),
        (b'{"a": 1, "b', "text/plain", TransientFailure),
        ('{"a": "é'.encode()[:-1], "application/json", TransientFailure),
        (b"", "application/json", TransientFailure),
        (b"", "", PermanentFailure),
        (b"<!DOCTYPE html><title>Log in</title>", "text/html; charset=utf-8", PermanentFailure),
        (b" <!DOCTYPE html><title>Log in</title>", "application/json", PermanentFailure),
        (b'{"a": 1} and more', "application/json", PermanentFailure),
        (b'{"a": \xff\xfe}', "application/json", PermanentFailure),
        (b"[" * 100_000, "application/json", PermanentFailure),
        (b'{"a": "text"}', "application/json", PermanentFailure),
        (b"PK\x03\x04", "application/zip", PermanentFailure),
    ],
)
def test_what_is_no_json_is_told_by_its_kind(
    server: ScriptedServer, open_client: Open, *, content: bytes, kind: str, failure: type[OlError]
) -> None:
    server.script = in_turn(Say(200, (("Content-Type", kind),), content, framing="close"))
    response = open_client().request("GET", "x")
    with pytest.raises(OlError, match=f"GET {server.url}/x answered 200") as caught:
        read_json(response, ANY)
    assert type(caught.value) is failure
    assert caught.value.__context__ is None


@pytest.mark.parametrize("location", ["http://other.example/", "ftp://x/", "//[", "http://a..b/", "\x7f", "/elsewhere"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(server: ScriptedServer, open_client: Open, status: int, location: str) -> None:
    server.script = in_turn(Say(status, (("Location", location),)))
    with pytest.raises(PermanentFailure):
        open_client().request("GET", "x")
    assert len(server.asked) == 1


def test_a_certificate_that_nobody_trusts_is_permanent_and_says_what_to_do() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with scripted_server(in_turn(OK), tls=context) as server:
        waits = Waits()
        with HttpClient(server.url, runtime=waits.runtime()) as client, pytest.raises(PermanentFailure) as caught:
            client.request("GET", "x")
    assert "not trusted" in str(caught.value)
    assert "SSL_CERT_FILE" in str(caught.value)
    assert waits.slept == []


def test_a_certificate_of_a_ca_that_is_named_is_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ca, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    file = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(file))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with scripted_server(in_turn(OK), tls=context) as server, HttpClient(server.url) as client:
        assert client.request("GET", "x").json() == {"ok": 1}


def test_the_proxy_of_the_environment_is_used_and_its_exceptions_too(
    monkeypatch: pytest.MonkeyPatch, server: ScriptedServer, open_client: Open
) -> None:
    with scripted_server(in_turn(OK)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("://", "://user:pass-canary@"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with HttpClient("http://learn.invalid/base") as client:
            assert client.request("GET", "x").is_success
        assert open_client().request("GET", "x").is_success
    assert [asked.target for asked in proxy.asked] == ["http://learn.invalid/base/x"]
    assert "proxy-authorization" in proxy.asked[0].headers
    assert [asked.target for asked in server.asked] == ["/x"]


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "http://", "gopher://u:pass-canary@x"])
def test_a_proxy_that_is_none_is_permanent(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with HttpClient("http://learn.invalid/base", policy=HttpPolicy(connections=1)) as client:
        for _ in range(3):  # and takes no connection away
            with pytest.raises(PermanentFailure) as caught:
                client.request("GET", "x")
            assert "canary" not in str(caught.value)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_certificates_that_cannot_be_read_are_permanent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "ca.pem"
    if content:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with HttpClient("https://learn.invalid") as client, pytest.raises(PermanentFailure, match=r"ca\.pem"):
        client.request("GET", "x")


def test_a_host_that_no_name_server_can_know_is_permanent() -> None:
    with HttpClient("http://a..b/") as client, pytest.raises(PermanentFailure, match="cannot be sent"):
        client.request("GET", "x")
