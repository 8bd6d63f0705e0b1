"""How long what this thread waits for may still take.

A read timeout bounds the silence between two bytes, so a server that sends one byte a minute is never late for it. The
deadline is looked at before every wait for the network.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadline:
    """An end, and how long it was away at first.

    Attributes:
        seconds: From its beginning to its end.
        ends_at: On the clock.
        clock: Seconds that only grow.
    """

    seconds: float
    ends_at: float
    clock: Callable[[], float]

    def seconds_left(self) -> float:
        """Return the seconds to the end; negative after it."""
        return self.ends_at - self.clock()


_NEVER = Deadline(math.inf, math.inf, lambda: 0.0)
_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


@contextmanager
def within(seconds: float, clock: Callable[[], float]) -> Iterator[None]:
    """Give what this thread does in the block so many seconds."""
    token = _current.set(Deadline(seconds, clock() + seconds, clock))
    try:
        yield
    finally:
        _current.reset(token)


def deadline() -> Deadline:
    """Return the deadline in force; where there is none, one that never comes."""
    return _current.get() or _NEVER
