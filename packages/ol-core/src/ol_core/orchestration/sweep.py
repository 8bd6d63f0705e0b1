"""A sweep: ask a source for the version of everything that it has, a part in each tick, without ever falling asleep.

Plain Python. A `Sweep` has a deadline that counts from its construction, at the entry of a tick; it asks in batches, a
few at a time, and gives back where it got to. The order is another one in each rotation and does not depend on what
comes and goes, so nobody is left out for ever. Where some in a row fail, a few others are asked before the source is
taken to be down, so a few bad ones stop nobody.
"""

import asyncio
import base64
import hashlib
import inspect
import itertools
import json
import os
import random
import time
import zlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from pydantic import TypeAdapter

from ol_core.failures import OlError, PermanentFailure, TransientFailure, UpstreamMissing

DAEMON_SENSOR_TIMEOUT_SECONDS = 60
"""How long Dagster's daemon waits for a tick unless DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS says otherwise (1.13)."""

_OUTAGE_CALLS = 5
"""After so many calls in a row that fail transiently, as many others decide whether it is an outage of the source."""

_SAMPLE = 20


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
        rotation: Number of the rotation.
        after: Place of the last key that was read or failed in this rotation; "" before the first.
        is_open: Whether the rotation goes on.
        started_at: When the rotation began, in unix seconds; it decides the order.
        inventory: What was last reported of the inventory.
        read: Keys that were read in this rotation.
        failed: Keys that could not be.
        sample: Some of those, with their reasons.
        discovery: Why it is not known what exists; "" where it is.
        listing: Version of the list of what exists, as it was last known.
        reported: What was last reported of the coverage.
        pending: Versions that were found and not requested yet.
        not_before: Until when the source asked to be left alone, in unix seconds; 0 where it did not.
        reads_on: Whether the list of what exists is read on in the next tick.
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
    not_before: float = 0.0
    reads_on: bool = False

    @classmethod
    def parse(cls, text: str | None) -> "SweepCursor":
        """Read a cursor; whatever cannot be read starts afresh, which costs one rotation and loses nothing."""
        try:
            stated = json.loads(text or "{}")
            packed = stated.pop("pending", "")
            pending = json.loads(zlib.decompress(base64.b85decode(packed))) if packed else {}
            return _CURSOR.validate_python({**stated, "pending": pending})
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


_CURSOR = TypeAdapter(SweepCursor)


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What a tick found.

    Attributes:
        changed: Versions that are not held, and may be requested.
        unchanged: Keys that were read and need nothing.
        failed: What went wrong for each key that could not be read.
        not_reached: Keys that are left to the next ticks.
        cursor: Where to go on.
        retry_after_seconds: How long the source asked to be left alone, where it stopped the sweep; else 0.
    """

    changed: Mapping[str, str]
    unchanged: Collection[str]
    failed: Mapping[str, OlError]
    not_reached: Collection[str]
    cursor: SweepCursor
    retry_after_seconds: float = 0.0


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
            TransientFailure: the source is down.
            PermanentFailure: nothing was answered in this rotation, since the source refuses; that something does not
                exist is an answer.
        """
        places = sorted((_place(cursor, key), key) for key in keys)
        todo = [(place, key) for place, key in places if place > cursor.after]
        ordered = [key for _, key in todo]
        batches = [ordered[start : start + self._batch_size] for start in range(0, len(ordered), self._batch_size)]
        asked = asyncio.run(self._ask(batches, keys, is_settled, room)) if room > 0 else _Asked()
        answers, tail = asked.divided()  # who was asked while the source was down is asked again
        errors = [answer for batch in [*answers, *tail] for answer in batch.values() if isinstance(answer, OlError)]
        if errors and not _heard([*answers, asked.probed]) and not (answers and cursor.after):
            raise _failure(errors)
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
        wait = _wait([answer for batch in tail for answer in batch.values()])
        return SweepResult(changed, unchanged, failed, ordered[reached:], moved, wait)

    async def _ask(
        self,
        batches: Sequence[Sequence[str]],
        keys: Collection[str],
        is_settled: Callable[[str, str], bool],
        room: int,
    ) -> "_Asked":
        """Ask for the first batches, as many as there is time and room for, unless the source is down."""
        asked, found, todo = _Asked(), 0, iter(enumerate(batches))
        pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="sweep")

        async def work() -> None:
            nonlocal found
            while found < room and asked.failed_in_a_row < _OUTAGE_CALLS and self._has_time():
                index, batch = next(todo, (None, ()))
                if index is None:
                    return
                answers = asked.answers[index] = await self._answer(batch, pool)
                asked.failed_in_a_row = asked.failed_in_a_row + 1 if _is_down(answers) else 0
                found += sum(1 for key, one in answers.items() if isinstance(one, str) and not is_settled(key, one))

        try:
            while True:
                before, asked.failed_in_a_row = len(asked.answers), 0
                await asyncio.gather(*(work() for _ in range(self._concurrency)))
                if len(asked.answers) == before or not asked.is_suspect:
                    return asked
                await self._probe(asked, keys, pool)
                if asked.is_down:
                    return asked
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # a call that hangs must not hold the tick

    async def _probe(self, asked: "_Asked", keys: Collection[str], pool: ThreadPoolExecutor) -> None:
        """Ask for a few others, wherever they stand in the order, until one is answered."""
        failed = {key for batch in asked.answers.values() if _is_down(batch) for key in batch}
        others = sorted(set(keys) - failed)
        todo = iter(random.sample(others, min(_OUTAGE_CALLS, len(others))))  # other ones in each tick
        asked.probed.clear()

        async def work() -> None:
            while self._has_time() and _is_down(asked.probed) and (key := next(todo, None)) is not None:
                asked.probed |= await self._answer([key], pool)

        await asyncio.gather(*(work() for _ in range(self._concurrency)))

    def _has_time(self) -> bool:
        return self.seconds_left() >= self._look_seconds

    async def _answer(self, batch: Sequence[str], pool: ThreadPoolExecutor) -> dict[str, str | OlError]:
        try:
            call: Awaitable[Answers]
            if inspect.iscoroutinefunction(self._look):
                call = self._look(batch)
            else:
                call = asyncio.get_running_loop().run_in_executor(pool, self._look, batch)  # type: ignore[arg-type]  # not a coroutine
            answer = await asyncio.wait_for(call, self._look_seconds)
            return {key: answer.get(key, PermanentFailure(f"the answer does not name {key}")) for key in batch}
        except TimeoutError:
            return dict.fromkeys(batch, TransientFailure(f"no answer within {self._look_seconds:.0f} s"))
        except OlError as error:
            return dict.fromkeys(batch, error)
        except Exception as error:  # noqa: BLE001 - a defect that one batch meets must not cost the others theirs
            failed = PermanentFailure(f"the answer cannot be used: {type(error).__name__}: {error}")
            failed.__cause__ = error
            return dict.fromkeys(batch, failed)


@dataclass(slots=True)
class _Asked:
    """What was asked in a tick.

    Attributes:
        answers: Answers to batches, by their places.
        failed_in_a_row: Calls that failed transiently, up to the last one.
        probed: Answers to what was asked to learn whether the source is down.
    """

    answers: dict[int, dict[str, str | OlError]] = field(default_factory=dict)
    failed_in_a_row: int = 0
    probed: dict[str, str | OlError] = field(default_factory=dict)

    @property
    def is_suspect(self) -> bool:
        """Whether the source may be down: some failed in a row, or all did."""
        return self.failed_in_a_row >= _OUTAGE_CALLS or all(map(_is_down, self.answers.values()))

    @property
    def is_down(self) -> bool:
        """Whether the source is down: others fail too; where nobody can be asked, because some failed in a row."""
        return (
            self.is_suspect and _is_down(self.probed) and (bool(self.probed) or self.failed_in_a_row >= _OUTAGE_CALLS)
        )

    def divided(self) -> tuple[list[dict[str, str | OlError]], list[dict[str, str | OlError]]]:
        """Return the answers in their order, and apart from them those at the end that are an outage's."""
        ordered = [self.answers[index] for index in range(len(self.answers))]
        down = list(itertools.takewhile(_is_down, reversed(ordered))) if self.is_down else []
        return ordered[: len(ordered) - len(down)], down[::-1]


def _place(cursor: SweepCursor, key: str) -> str:
    return hashlib.sha1(f"{cursor.started_at}/{key}".encode(), usedforsecurity=False).hexdigest()[:20]


def _is_down(answers: Answers) -> bool:
    return all(isinstance(answer, TransientFailure) for answer in answers.values())


def _heard(batches: Iterable[Answers]) -> bool:
    return any(isinstance(answer, str | UpstreamMissing) for batch in batches for answer in batch.values())


def _failure(errors: Sequence[OlError]) -> OlError:
    first, wait = errors[0], _wait(errors)
    said = f"none of {len(errors)} versions can be read: {type(first).__name__}: {first}"
    is_transient = all(isinstance(error, TransientFailure) for error in errors)
    failed = TransientFailure(said, retry_after_seconds=wait or None) if is_transient else PermanentFailure(said)
    failed.__cause__ = first
    return failed


def _wait(answers: Iterable[str | OlError]) -> float:
    """Return the longest time that the source asked to be left alone."""
    failures = (answer for answer in answers if isinstance(answer, TransientFailure))
    return max((failure.retry_after_seconds or 0.0 for failure in failures), default=0.0)
