"""What no server can make a client do: wait without an end, fill the memory, open more connections, outrun a pace."""

import gzip
import itertools
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from ol_core.failures import OlError, PermanentFailure, TransientFailure, UpstreamMissing
from ol_core.http import ClientCredentialsAuth, HttpClient, HttpPolicy, Runtime
from ol_devkit.servers.scripted import Asked, Say, ScriptedServer, in_turn, scripted_server

OK = Say(200, (("Content-Type", "application/json"),), b'{"ok": 1}')
MIB = 1 << 20


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server(in_turn(OK)) as one:
        yield one


Open = Callable[..., HttpClient]


@pytest.fixture
def open_client(server: ScriptedServer) -> Iterator[Open]:
    opened = []

    def make(**policy: Any) -> HttpClient:
        opened.append(HttpClient(server.url, policy=HttpPolicy(**policy), runtime=Runtime(sleep=lambda _: None)))
        return opened[-1]

    yield make
    for client in opened:
        client.close()


def test_silence_ends_at_the_timeout(server: ScriptedServer, open_client: Open) -> None:
    server.script = in_turn(Say(pause_seconds=60), OK)
    started = time.monotonic()
    assert open_client(timeout_seconds=1).request("GET", "x").is_success
    assert len(server.asked) == 2
    assert time.monotonic() - started < 50


def drip() -> Iterator[bytes]:
    return itertools.repeat(b"a")


TRICKLES = {
    "nothing": Say(pause_seconds=60),
    "headers": Say(raw=lambda: itertools.chain([b"HTTP/1.1 200 OK\r\nX: "], drip()), trickle_seconds=0.02),
    "a chunk's size": Say(
        raw=lambda: itertools.chain([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;"], drip()),
        trickle_seconds=0.02,
    ),
    "a body with a length": Say(body=drip, trickle_seconds=0.02),
    "a body in chunks": Say(body=drip, framing="chunked", trickle_seconds=0.02),
    "a body to the end": Say(body=drip, framing="close", trickle_seconds=0.02),
    "a refusal's body": Say(404, body=drip, trickle_seconds=0.02),
    "interim answers": Say(raw=lambda: itertools.repeat(b"HTTP/1.1 102 Processing\r\n\r\n"), trickle_seconds=0.02),
}


@pytest.mark.parametrize("what", TRICKLES)
def test_what_trickles_for_ever_ends_at_the_deadline(server: ScriptedServer, open_client: Open, what: str) -> None:
    server.script = in_turn(TRICKLES[what])
    started = time.monotonic()
    with pytest.raises(TransientFailure, match="took over 1 s"):
        open_client(timeout_seconds=30, budget_seconds=0.7).request("GET", "x")
    assert 0.5 < time.monotonic() - started < 25


def test_a_download_that_trickles_ends_at_its_own_deadline(
    server: ScriptedServer, open_client: Open, tmp_path: Path
) -> None:
    server.script = in_turn(TRICKLES["a body with a length"])
    started = time.monotonic()
    with pytest.raises(TransientFailure, match="took over 1 s"):
        open_client(timeout_seconds=30, budget_seconds=0.1, download_seconds=0.7).download("x", tmp_path / "x")
    assert 0.5 < time.monotonic() - started < 25
    assert list(tmp_path.iterdir()) == []


def test_attempts_share_one_deadline(server: ScriptedServer, open_client: Open) -> None:
    server.script = in_turn(Say(503, (("Retry-After", "0"),), pause_seconds=0.1))
    started = time.monotonic()
    with pytest.raises(TransientFailure):
        open_client(budget_seconds=1, attempts=1000).request("GET", "x")
    assert 0.8 < time.monotonic() - started < 25
    assert 2 <= len(server.asked) <= 10


def test_a_login_takes_no_more_than_the_request_that_needs_it(server: ScriptedServer) -> None:
    server.script = in_turn(TRICKLES["headers"])
    auth = ClientCredentialsAuth(f"{server.url}/token", "id", "secret")
    started = time.monotonic()
    with (
        HttpClient(server.url, auth=auth, policy=HttpPolicy(budget_seconds=0.7)) as client,
        pytest.raises(TransientFailure, match=r"POST .*/token"),
    ):
        client.request("GET", "x")
    assert time.monotonic() - started < 25


def test_a_body_of_exactly_the_limit_is_read(server: ScriptedServer, open_client: Open) -> None:
    server.script = in_turn(Say(body=b"x" * 1000))
    assert len(open_client(max_answer_bytes=1000).request("GET", "x").content) == 1000
    with pytest.raises(PermanentFailure, match="answered 200 with more than 999 bytes"):
        open_client(max_answer_bytes=999).request("GET", "x")


def blocks() -> Iterator[bytes]:
    return itertools.repeat(bytes(1 << 16))


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_body_without_an_end_is_refused_in_little_memory(
    server: ScriptedServer, open_client: Open, framing: Any
) -> None:
    server.script = in_turn(Say(body=blocks, framing=framing))
    client = open_client(max_answer_bytes=4 * MIB)
    with pytest.raises(PermanentFailure, match="more than 4194304 bytes"), peak_below(16 * MIB):
        client.request("GET", "x")
    assert len(server.asked) == 1


def test_a_refusal_without_an_end_is_still_that_refusal(server: ScriptedServer, open_client: Open) -> None:
    server.script = in_turn(Say(404, body=blocks))
    with pytest.raises(UpstreamMissing), peak_below(16 * MIB):
        open_client(max_answer_bytes=MIB).request("GET", "x")


class peak_below:  # noqa: N801 - reads as what it says
    """Fails where the block allocates more at a time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def __enter__(self) -> None:
        tracemalloc.start()

    def __exit__(self, *_: object) -> None:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < self._limit, f"{peak / MIB:.0f} MiB at a time"


def bomb(size: int) -> bytes:
    return gzip.compress(bytes(size))


def test_a_gzip_bomb_is_refused_in_little_memory(server: ScriptedServer, open_client: Open) -> None:
    packed = bomb(256 * MIB)
    assert len(packed) < MIB
    server.script = in_turn(Say(headers=(("Content-Encoding", "gzip"),), body=packed))
    client = open_client(max_answer_bytes=4 * MIB)
    with pytest.raises(PermanentFailure, match="more than 4194304 bytes"), peak_below(16 * MIB):
        client.request("GET", "x")
    assert len(server.asked) == 1


@pytest.mark.parametrize("coding", ["gzip, gzip", "br", "zstd", "deflate", "gzip; q=1", "\xe9"])
def test_a_coding_that_nobody_asked_for_is_refused(server: ScriptedServer, open_client: Open, coding: str) -> None:
    body = gzip.compress(bomb(64 * MIB))
    server.script = in_turn(Say(headers=(("Content-Encoding", coding),), body=body))
    with pytest.raises(PermanentFailure, match="coding"), peak_below(16 * MIB):
        open_client().request("GET", "x")
    server.script = in_turn(Say(404, headers=(("Content-Encoding", coding),), body=body))
    with pytest.raises(UpstreamMissing), peak_below(16 * MIB):
        open_client().request("GET", "x")


def test_gzip_is_asked_for_and_unpacked(server: ScriptedServer, open_client: Open) -> None:
    text = b'{"ok": [' + b"1, " * 200_000 + b"1]}"
    server.script = in_turn(Say(headers=(("Content-Encoding", "gzip"),), body=gzip.compress(text)))
    assert open_client().request("GET", "x").content == text
    assert server.asked[0].headers["accept-encoding"] == "gzip"


def test_threads_share_few_connections(server: ScriptedServer, open_client: Open) -> None:
    server.script = in_turn(Say(body=b"x", pause_seconds=0.01))
    client = open_client(connections=4)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda number: client.request("GET", f"{number}").status_code, range(200)))
    assert answers == [200] * 200
    assert len(server.asked) == 200
    assert server.most_connections <= 4
    assert max(asked.connection for asked in server.asked) <= 4  # kept, and used again


def test_connections_to_many_places_are_few_too(tmp_path: Path) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(scripted_server(in_turn(Say(body=b"x")))) for _ in range(6)]
        client = stack.enter_context(HttpClient(servers[0].url, policy=HttpPolicy(connections=2)))
        for number in range(30):
            client.download(f"{servers[number % 6].url}/x", tmp_path / "x")
            deadline = time.monotonic() + 30  # a server learns of an end a little later
            while sum(one.open_connections for one in servers) > 2 and time.monotonic() < deadline:
                time.sleep(0.001)
            assert sum(one.open_connections for one in servers) <= 2


def test_an_answer_that_is_too_long_takes_no_connection_away(server: ScriptedServer, open_client: Open) -> None:
    client = open_client(connections=1, max_answer_bytes=10, timeout_seconds=10)
    for bad in (Say(body=blocks), Say(raw=b"x"), Say(cut_after=1, body=b"xx"), Say(404, body=blocks), Say(301)):
        server.script = in_turn(bad, bad, Say(body=b"x"))
        with suppress(OlError):
            client.request("POST", "x")
        server.script = in_turn(Say(body=b"x"))
        assert client.request("GET", "x").is_success


def test_a_thread_that_gets_no_connection_in_time_says_so(server: ScriptedServer, open_client: Open) -> None:
    server.script = in_turn(Say(pause_seconds=60))
    client = open_client(connections=1, timeout_seconds=1.0, attempts=1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.request, "GET", "first")
        while not server.asked:
            time.sleep(0.01)
        with pytest.raises(TransientFailure, match=r"second reached no server: PoolTimeout|second broke off"):
            client.request("GET", "second")
        with pytest.raises(TransientFailure):
            first.result()


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_connection_that_the_server_closed_meanwhile_costs_nothing(
    server: ScriptedServer, open_client: Open, method: str
) -> None:
    server.script = in_turn(Say(body=b"x", close=True))  # it promises to keep the connection, and closes it
    client = open_client()
    for _ in range(20):
        assert client.request(method, "x").is_success


def test_a_connection_that_ends_under_a_request_is_replaced(server: ScriptedServer, open_client: Open) -> None:
    def closes_on_reuse(asked: Asked) -> Say:
        again = [one.connection for one in server.asked].count(asked.connection) > 1
        return Say(raw=b"") if again else OK

    server.script = closes_on_reuse
    client = open_client()
    for _ in range(5):
        assert client.request("GET", "x").is_success
    client.request("GET", "x", headers={"Connection": "close"})
    server.asked.clear()
    server.script = in_turn(OK, Say(raw=b""), OK)
    client.request("GET", "x")
    with pytest.raises(TransientFailure, match="broke off"):  # it may have been acted on
        client.request("POST", "x", json={})
    assert [asked.method for asked in server.asked] == ["GET", "POST"]


class Bucket:
    """Canvas's quota, in short: each answer says what is left of it."""

    def __init__(self, *, quota: float, cost: float, outflow_per_second: float) -> None:
        self._quota, self._left, self._cost, self._outflow = quota, quota, cost, outflow_per_second
        self._at = time.monotonic()
        self._lock = threading.Lock()
        self.throttled = 0

    def __call__(self, _: Asked) -> Say:
        with self._lock:
            now = time.monotonic()
            self._left = min(self._quota, self._left + (now - self._at) * self._outflow)
            self._at = now
            if self._left < self._cost:
                self.throttled += 1
                left = (("X-Rate-Limit-Remaining", "0.0"), ("Content-Type", "text/plain"))
                return Say(403, left, b"403 Forbidden (Rate Limit Exceeded)\n")
            self._left -= self._cost
            return Say(200, (("X-Rate-Limit-Remaining", f"{self._left}"), ("X-Request-Cost", f"{self._cost}")), b"[]")


def pause(response: httpx.Response) -> float:
    return max(0.0, (300 - float(response.headers["x-rate-limit-remaining"])) / 1000)


def test_threads_keep_the_pace_together(server: ScriptedServer) -> None:
    bucket = Bucket(quota=600, cost=50, outflow_per_second=1000)
    server.script = bucket
    with (
        HttpClient(server.url, policy=HttpPolicy(pace=pause)) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        assert all(one.is_success for one in pool.map(lambda _: client.request("GET", "x"), range(40)))

    server.script = hasty = Bucket(quota=600, cost=50, outflow_per_second=1000)
    with HttpClient(server.url) as client, ThreadPoolExecutor(8) as pool:
        assert all(one.is_success for one in pool.map(lambda _: client.request("GET", "x"), range(40)))
    assert bucket.throttled <= hasty.throttled / 2


def test_an_answer_that_says_nothing_of_the_pace_ends_no_pause(server: ScriptedServer) -> None:
    slept: list[float] = []
    said = iter([30.0, None, None])
    runtime = Runtime(sleep=slept.append, clock=lambda: sum(slept))
    with HttpClient(server.url, policy=HttpPolicy(pace=lambda _: next(said)), runtime=runtime) as client:
        for _ in range(3):
            client.request("GET", "x")
    assert slept == [30.0]


@pytest.mark.parametrize("said", [float("inf"), 1e300, 3600.0])
def test_a_pace_that_leaves_no_turn_in_time_is_left_to_the_caller(server: ScriptedServer, said: float) -> None:
    policy = HttpPolicy(pace=lambda _: said, budget_seconds=5)
    with HttpClient(server.url, policy=policy) as client:
        client.request("GET", "x")
        with pytest.raises(TransientFailure, match="no turn in time") as caught:
            client.request("GET", "x")
    assert caught.value.retry_after_seconds == pytest.approx(3600, abs=5)
    assert len(server.asked) == 1


@pytest.mark.parametrize("said", [float("nan"), -1.0, 0.0, float("-inf")])
def test_a_pace_that_means_nothing_is_none(server: ScriptedServer, said: float) -> None:
    with HttpClient(server.url, policy=HttpPolicy(pace=lambda _: said, budget_seconds=5)) as client:
        for _ in range(3):
            client.request("GET", "x")
    assert len(server.asked) == 3
