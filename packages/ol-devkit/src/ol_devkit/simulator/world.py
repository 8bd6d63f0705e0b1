"""The world outside: a source with partitions and versions, and everything that can go wrong with it.

A world knows no protocol. What speaks to it, a scripted asset or a transport of HTTP, asks it and says in its own way
what it heard.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ol_devkit.simulator.clock import FakeClock

Refusal = Literal["down", "throttled"]
"""What a source says to whoever calls it at a bad moment."""

Fault = Literal["permanent", "transient"]
"""How the export of a partition fails."""

State = Literal["missing", "waiting", "failed", "ready"]
"""What the source says of an export."""

Listing = Literal["whole", "unreadable", "empty", "smaller"]
"""What the source says when it is asked what it has; `smaller` leaves out 60 %."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """An export that was begun: when (seconds of the fake clock), of which partition, at which version."""

    at: float
    partition: str
    version: str


class WorkerKilled(BaseException):
    """The process that executes a run is gone, in the midst of what it did."""


@dataclass(slots=True)
class World:
    """A source, as it is now; a script changes it.

    Attributes:
        clock: Time, which calls take.
        versions: The version that it has of each partition.
        faults: Partitions whose exports fail, and how.
        refusal: What it says to every call; None where it answers.
        retry_after_seconds: How long it asks to be left alone where it throttles.
        listing: What it says when it is asked what it has.
        call_seconds: How long a call takes.
        export_seconds: How long an export takes.
        kill_after: The worker of the run that goes on or comes next dies after so many further calls; None for never.
        on_kill: Called when a worker dies.
        is_run: Whether a run calls, and no tick.
        calls: Calls so far, by kind.
        asked: How often ticks asked for the version of each partition.
        begun: Exports begun so far.
        ready_at: When each export is or was ready, by its id.
        most_running: Most exports that went on at once.
    """

    clock: FakeClock
    versions: dict[str, str]
    faults: dict[str, Fault] = field(default_factory=dict)
    refusal: Refusal | None = None
    retry_after_seconds: float = 0.0
    listing: Listing = "whole"
    call_seconds: float = 0.0
    export_seconds: float = 1.0
    kill_after: int | None = None
    on_kill: Callable[[], None] = lambda: None
    is_run: bool = False
    calls: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    begun: list[Attempt] = field(default_factory=list)
    ready_at: dict[str, float] = field(default_factory=dict)
    most_running: int = 0
    _running: list[float] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def call(self, kind: str) -> Refusal | None:
        """Count a call, let its time pass, and return what the source says to it; None where it answers.

        Raises:
            WorkerKilled: a run made it, as scripted.
        """
        with self._lock:
            self.calls[kind] += 1
        self.clock.advance(self.call_seconds)
        if self.is_run and self.kill_after is not None:
            if self.kill_after <= 0:
                self.kill_after = None
                self.on_kill()
                raise WorkerKilled
            self.kill_after -= 1
        return self.refusal

    def listed(self) -> list[str]:
        """Return what it says that it has; where its list is unreadable, what was read before it broke off."""
        partitions = list(self.versions)
        match self.listing:
            case "whole":
                return partitions
            case "empty":
                return []
            case "smaller":
                return partitions[: len(partitions) * 2 // 5]
            case "unreadable":
                return partitions[:1]

    @property
    def attempts(self) -> Counter[tuple[str, str]]:
        """Exports begun so far, by partition and version."""
        return Counter((one.partition, one.version) for one in self.begun)

    def version(self, partition: str) -> str | None:
        """Return the version of a partition; None where there is no such partition."""
        if not self.is_run:
            with self._lock:
                self.asked[partition] += 1
        return self.versions.get(partition)

    def begin(self, partition: str) -> str:
        """Begin to export a partition as it is now; return the export's id."""
        self.begun.append(Attempt(self.clock(), partition, self.versions[partition]))
        export = f"{partition}/{len(self.begun)}"
        self.ready_at[export] = self.clock() + self.export_seconds
        self._running = [*(ready for ready in self._running if ready > self.clock()), self.ready_at[export]]
        self.most_running = max(self.most_running, len(self._running))
        return export

    def state(self, export: str) -> State:
        """Return what became of an export."""
        if export not in self.ready_at:
            return "missing"
        if self.clock() < self.ready_at[export]:
            return "waiting"
        return "failed" if self.faults.get(export.rpartition("/")[0]) == "permanent" else "ready"


def partitions_of(number: int) -> Mapping[str, str]:
    """Return so many partitions, each at version 1; course keys, which every source's protocol takes."""
    return {f"course-v1:Org+C{place:05d}+R": "1" for place in range(number)}
