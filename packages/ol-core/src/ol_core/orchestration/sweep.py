"""A sweep: ask a source for the version of everything that it has, a part in each tick, without ever falling asleep.

Plain Python. `Discovery` says what exists, or that nobody knows. A `Sweep` has a deadline that counts from its
construction, at the entry of a tick; it asks in batches, a few at a time, and gives back where it got to. The order is
another one in each rotation and does not depend on what comes and goes, so nobody is left out for ever.
"""

import asyncio
import base64
import hashlib
import inspect
import itertools
import json
import os
import time
import zlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ol_core.failures import OlError, PermanentFailure, TransientFailure

DAEMON_SENSOR_TIMEOUT_SECONDS = 60
"""How long Dagster's daemon waits for a tick unless DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS says otherwise (1.13)."""

_OUTAGE_CALLS = 5
"""So many calls in a row that fail transiently are an outage of the source, not the fault of what is asked for."""

_SAMPLE = 20


@dataclass(frozen=True, slots=True)
class Known:
    """The source said what it has, to the end.

    Attributes:
        keys: Partition keys of all that exists.
        version: Version of the list itself; "" where nothing is made of it.
    """

    keys: Collection[str]
    version: str = ""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody knows what the source has; nothing may be concluded from it, least of all that something is gone.

    Attributes:
        reason: What went wrong.
        seen: Keys that exist, as far as the source said.
    """

    reason: str
    seen: Collection[str] = ()


Discovery = Known | Unknown

T = TypeVar("T")


def discovered(  # noqa: PLR0913 - a list, what it is a list of, and how long it may take
    listed: Iterable[T],
    *,
    what: str,
    key: Callable[[T], str],
    version: Callable[[Collection[T]], str],
    budget_seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Discovery:
    """Read a source's list to its end; nobody knows what exists where that fails or takes too long.

    Args:
        listed: What the source lists, page by page.
        what: What it is a list of, in the plural, for messages.
        key: Gives the partition key of an entry.
        version: Gives the version of the whole list.
        budget_seconds: How long it may take.
        clock: Seconds that only grow.
    """
    deadline = clock() + budget_seconds
    found: list[T] = []
    try:
        for one in listed:
            found.append(one)
            if clock() > deadline:
                reason = f"the list of {what} is longer than can be read in {budget_seconds:.0f} s"
                return Unknown(f"{reason}; raise DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS", [key(one) for one in found])
    except OlError as error:
        return Unknown(f"the list of {what}: {type(error).__name__}: {error}", [key(one) for one in found])
    return Known([key(one) for one in found], version(found))


Answers = Mapping[str, str | OlError]
"""Version of each key of a batch, or why it is not known."""

Look = Callable[[Sequence[str]], Answers] | Callable[[Sequence[str]], Awaitable[Answers]]
"""Asks the source for the versions of a batch; raises `OlError` where it fails for all of them."""


def tick_budget_seconds() -> float:
    """Return how long a tick may take: three quarters of what Dagster's daemon waits for it."""
    return 0.75 * float(os.environ.get("DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS") or DAEMON_SENSOR_TIMEOUT_SECONDS)


@dataclass(frozen=True, slots=True)
class SweepCursor:
    """Where a sweep got to; small, and kept by Dagster from tick to tick.

    Attributes:
        rotation: Number of the rotation; it decides the order.
        after: Place of the last key that was read or failed in this rotation; "" before the first.
        is_open: Whether the rotation goes on.
        started_at: When the rotation began, in unix seconds.
        inventory: What was last reported of the inventory.
        read: Keys that were read in this rotation.
        failed: Keys that could not be.
        sample: Some of those, with their reasons.
        discovery: Why it is not known what exists; "" where it is.
        listing: Version of the list of what exists, as it was last known.
        reported: What was last reported of the coverage.
        pending: Versions that were found and not requested yet.
    """

    rotation: int = 0
    after: str = ""
    is_open: bool = False
    started_at: float = 0.0
    inventory: Mapping[str, str] = field(default_factory=dict)
    read: int = 0
    failed: int = 0
    sample: Mapping[str, str] = field(default_factory=dict)
    discovery: str = ""
    listing: str = ""
    reported: str = ""
    pending: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | None) -> "SweepCursor":
        """Read a cursor; whatever cannot be read starts afresh, which costs one rotation and loses nothing."""
        try:
            stated = json.loads(text or "{}")
            packed = stated.pop("pending", "")
            pending = json.loads(zlib.decompress(base64.b85decode(packed))) if packed else {}
            return cls(**stated, pending={key: str(version) for key, version in pending.items()})
        except (ValueError, TypeError, AttributeError, zlib.error):
            return cls()

    def __str__(self) -> str:
        """Return it as text."""
        packed = zlib.compress(json.dumps(self.pending, separators=(",", ":")).encode()) if self.pending else b""
        stated = {name: getattr(self, name) for name in self.__slots__ if name != "pending"}
        return json.dumps({**stated, "pending": base64.b85encode(packed).decode()}, separators=(",", ":"))

    def next_rotation(self, *, now: float) -> "SweepCursor":
        """Return the beginning of the next rotation."""
        return replace(
            self, rotation=self.rotation + 1, after="", is_open=True, started_at=now, read=0, failed=0, sample={}
        )


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What a tick found.

    Attributes:
        changed: Versions that are not held, and may be requested.
        unchanged: Keys that were read and need nothing.
        failed: What went wrong for each key that could not be read.
        not_reached: Keys that are left to the next ticks.
        cursor: Where to go on.
    """

    changed: Mapping[str, str]
    unchanged: Collection[str]
    failed: Mapping[str, OlError]
    not_reached: Collection[str]
    cursor: SweepCursor


class Sweep:
    """Asks for versions until its deadline.

    Args:
        look: Asks the source for a batch.
        batch_size: Keys of one call.
        concurrency: Calls at a time.
        budget_seconds: Time from construction to the end; by default what a tick may take.
        look_seconds: Longest that one call may take: none starts later than this before the end.
        clock: Seconds that only grow.
    """

    def __init__(  # noqa: PLR0913 - the bounds
        self,
        look: Look,
        *,
        batch_size: int = 1,
        concurrency: int = 4,
        budget_seconds: float | None = None,
        look_seconds: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        budget = tick_budget_seconds() if budget_seconds is None else budget_seconds
        self._look, self._batch_size, self._concurrency = look, batch_size, concurrency
        self._look_seconds, self._clock = min(look_seconds, budget / 3), clock
        self.deadline = clock() + budget

    def seconds_left(self) -> float:
        """Return how long it is to the deadline."""
        return self.deadline - self._clock()

    def run(
        self, keys: Collection[str], cursor: SweepCursor, *, is_settled: Callable[[str, str], bool], room: int
    ) -> SweepResult:
        """Read versions from where the cursor stands, until the deadline, the end of the rotation, or no room.

        Args:
            keys: All that exists.
            cursor: Where to go on in an open rotation.
            is_settled: Whether a key needs nothing at a version: it holds it, or has no attempt left.
            room: Most changed versions to give back; the sweep stops before one that would be too many.

        Raises:
            TransientFailure: nothing could be read, and nothing had been in this rotation; or the source went down.
            PermanentFailure: the same, where the source refused.
        """
        places = sorted((_place(cursor.rotation, key), key) for key in keys)
        todo = [(place, key) for place, key in places if place > cursor.after]
        ordered = [key for _, key in todo]
        batches = [ordered[start : start + self._batch_size] for start in range(0, len(ordered), self._batch_size)]
        answers = asyncio.run(self._ask(batches, is_settled, room)) if room > 0 else []
        _raise_outage(answers, cursor)
        down = list(itertools.takewhile(_is_down, reversed(answers)))
        if len(down) >= _OUTAGE_CALLS:  # it went down: who was asked last is asked again
            answers = answers[: -len(down)]
        changed: dict[str, str] = {}
        unchanged: list[str] = []
        failed: dict[str, OlError] = {}
        reached = 0
        for key, answer in (pair for batch in answers for pair in batch.items()):
            if isinstance(answer, OlError):
                failed[key] = answer
            elif is_settled(key, answer):
                unchanged.append(key)
            elif len(changed) == room:
                break
            else:
                changed[key] = answer
            reached += 1
        sample = {key: f"{type(error).__name__}: {error}" for key, error in failed.items()}
        after = todo[reached - 1][0] if reached else cursor.after
        moved = replace(
            cursor,
            after=after,
            is_open=reached < len(todo),
            read=cursor.read + len(changed) + len(unchanged),
            failed=cursor.failed + len(failed),
            sample=dict(list({**cursor.sample, **sample}.items())[:_SAMPLE]),
        )
        return SweepResult(changed, unchanged, failed, ordered[reached:], moved)

    async def _ask(
        self, batches: Sequence[Sequence[str]], is_settled: Callable[[str, str], bool], room: int
    ) -> list[dict[str, str | OlError]]:
        """Return the answers to the first batches, as many as there is time and room for, in order."""
        answers: dict[int, dict[str, str | OlError]] = {}
        found = in_a_row = 0
        todo = iter(enumerate(batches))
        pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="sweep")

        async def work() -> None:
            nonlocal found, in_a_row
            while found < room and in_a_row < _OUTAGE_CALLS and self.seconds_left() >= self._look_seconds:
                index, batch = next(todo, (None, ()))
                if index is None:
                    return
                answers[index] = await self._answer(batch, pool)
                in_a_row = in_a_row + 1 if _is_down(answers[index]) else 0
                found += sum(
                    1 for key, one in answers[index].items() if isinstance(one, str) and not is_settled(key, one)
                )

        try:
            await asyncio.gather(*(work() for _ in range(self._concurrency)))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # a call that hangs must not hold the tick
        return [answers[index] for index in range(len(answers))]

    async def _answer(self, batch: Sequence[str], pool: ThreadPoolExecutor) -> dict[str, str | OlError]:
        try:
            call: Awaitable[Answers]
            if inspect.iscoroutinefunction(self._look):
                call = self._look(batch)
            else:
                call = asyncio.get_running_loop().run_in_executor(pool, self._look, batch)  # type: ignore[arg-type]  # not a coroutine
            answer = await asyncio.wait_for(call, self._look_seconds)
        except TimeoutError:
            return dict.fromkeys(batch, TransientFailure(f"no answer within {self._look_seconds:.0f} s"))
        except OlError as error:
            return dict.fromkeys(batch, error)
        return {key: answer.get(key, PermanentFailure(f"the answer does not name {key}")) for key in batch}


def _place(rotation: int, key: str) -> str:
    return hashlib.sha1(f"{rotation}/{key}".encode(), usedforsecurity=False).hexdigest()[:20]


def _is_down(answers: Answers) -> bool:
    return all(isinstance(answer, TransientFailure) for answer in answers.values())


def _raise_outage(answers: Sequence[Answers], cursor: SweepCursor) -> None:
    """Raise where all that was asked failed, unless these are but a few bad ones among many that were read before."""
    errors = [answer for batch in answers for answer in batch.values()]
    failures = [error for error in errors if isinstance(error, OlError)]
    if not failures or len(failures) < len(errors):
        return
    first = failures[0]
    transient = all(isinstance(error, TransientFailure) for error in failures)
    if cursor.read and not (transient and len(answers) >= _OUTAGE_CALLS):
        return
    kind = TransientFailure if transient else PermanentFailure
    raise kind(f"none of {len(failures)} versions can be read: {type(first).__name__}: {first}") from first
