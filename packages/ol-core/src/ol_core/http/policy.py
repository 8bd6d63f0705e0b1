"""What a client takes from its process, and how patient and how generous it is."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx


@dataclass(frozen=True, slots=True)
class Runtime:
    """What a client takes from its process; tests pass their own."""

    transport: httpx.BaseTransport | None = None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class HttpPolicy:
    """How a client treats its server.

    Attributes:
        timeout_seconds: Longest silence of the server; connecting gets at most 10 of them.
        attempts: Most times that one request is sent; of a download, most attempts in a row that bring nothing new.
        budget_seconds: Longest that a request takes with all attempts and waits, however slowly an answer trickles in.
        download_seconds: The same for a download.
        max_answer_bytes: Longest body that is read whole, after decompression.
        max_download_bytes: Longest file that is downloaded; None for any.
        connections: Most connections at a time; more threads wait for one, at most `timeout_seconds`.
        outage_after: After so many requests in a row that failed with all retries, the server counts as down.
        outage_seconds: How long nothing is sent then, so that a sweep over thousands fails soon.
        pace: Tells from an answer how many seconds to wait before the next request, None where it does not say; while
            it asks for a wait, the requests of all threads go one by one, so far apart.
    """

    timeout_seconds: float = 60.0
    attempts: int = 6
    budget_seconds: float = 300.0
    download_seconds: float = 3600.0
    max_answer_bytes: int = 64 << 20
    max_download_bytes: int | None = None
    connections: int = 20
    outage_after: int = 3
    outage_seconds: float = 30.0
    pace: Callable[[httpx.Response], float | None] = field(default=lambda _: None)
