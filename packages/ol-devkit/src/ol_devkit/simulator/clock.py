"""Time that moves only when it is told to: what `time.time` says, and a monotonic clock to hand to who takes one."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Self

import time_machine


class FakeClock:
    """Stops time from its entry to its exit; it starts at the real time, as Dagster's databases stamp runs with that.

    Attributes:
        began_at: When it starts, in unix seconds.
        passing: Called after time has moved in the thread that entered; what happens meanwhile is up to it.
    """

    def __init__(self) -> None:
        self.passing: Callable[[], None] = lambda: None
        now = datetime.now(UTC)
        self.began_at = now.timestamp()
        self._travel = time_machine.travel(now, tick=False)
        self._lock = threading.Lock()
        self._now = 0.0

    def __enter__(self) -> Self:
        self._coordinates, self._thread = self._travel.start(), threading.get_ident()
        return self

    def __exit__(self, *_: object) -> None:
        self._travel.stop()

    def __call__(self) -> float:
        """Return the seconds since the start."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass; also what takes the place of `time.sleep`."""
        if seconds <= 0:
            return
        with self._lock:
            self._now += seconds
            self._coordinates.shift(seconds)
        if threading.get_ident() == self._thread:
            self.passing()
