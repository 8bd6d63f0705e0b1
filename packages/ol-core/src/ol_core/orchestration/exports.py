"""Exports that another system makes: submitted, looked at in turn, collected as each finishes, taken up after a kill.

The machine is plain Python: a source says how to submit, look and collect; clock and sleep are given. Each submission
is reported before anything is waited for, so whoever keeps the reports can hand them to the next process.

An export takes a slot until the remote system says that it ended, or does not know it, or until it is so old that it
counts as dead. Giving up the wait for it frees none.
"""

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from typing import TYPE_CHECKING, Generic, Literal, Protocol, TypeVar

from ol_core.failures import OlError, PermanentFailure, TransientFailure

if TYPE_CHECKING:
    from ol_core.environment import Environment

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")

_FIRST_DELAY_SECONDS = 0.2
_LONGEST_DELAY_SECONDS = 30.0
_LOST_AFTER_SECONDS = 60.0
"""How long looks in a row may not find an export before it counts as lost; it may not be visible at once."""
_DEAD_AFTER_DEADLINES = 5


@dataclass(frozen=True, slots=True)
class Submission:
    """An export that a remote system accepted; all that another process needs to go on with it.

    Attributes:
        partition: What is exported.
        version: Version of its content, read before it was submitted.
        remote_id: The export's id there.
        reference: What else the source needs to collect it, such as an address.
        submitted_at: When, in unix seconds.
    """

    partition: str
    version: str
    remote_id: str
    reference: str
    submitted_at: float


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at an export found.

    Attributes:
        state: `ready` to be collected, `failed` for good, `missing` where the remote system does not know it (yet) or
            has no file of it (yet), and `waiting` for everything else: a state that nobody has heard of is waited for,
            until the deadline.
        detail: The remote system's own word for it.
        retry_after_seconds: How long it asked to be left alone.
    """

    state: Literal["ready", "failed", "missing", "waiting"]
    detail: str
    retry_after_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Accepted:
    """What the remote system gave for an accepted export; see `Submission`."""

    remote_id: str
    reference: str = ""


class ExportSource(Protocol[T_co]):
    """A remote system that exports."""

    def submit(self, partitions: Sequence[str]) -> Mapping[str, Accepted | OlError]:
        """Ask for exports; say for each what became of the request. An `OlError` raised is that of all."""

    def look(self, submission: Submission) -> Look:
        """Look at an export. An `OlError` raised ends nothing: what cannot be read is waited for."""

    def collect(self, submission: Submission) -> T_co:
        """Fetch what was exported; raises `OlError`."""


@dataclass(frozen=True, slots=True)
class ExportLimits:
    """Bounds of the exports of one run.

    Attributes:
        in_flight: Most exports that the remote system works on at once.
        deadline_seconds: How long to wait for one, from its submission on, whichever process submitted it.
    """

    in_flight: int = 20
    deadline_seconds: float = 4200.0

    @classmethod
    def of(cls, environment: "Environment") -> "ExportLimits":
        """Return the environment's limits."""
        stated = environment.orchestration
        return cls(stated.exports_in_flight, stated.export_deadline_seconds)

    @property
    def dead_after_seconds(self) -> float:
        """How long an export whose end nobody saw takes a slot; some never end, and nothing waits for ever."""
        return _DEAD_AFTER_DEADLINES * self.deadline_seconds

    @property
    def longest_run_seconds(self) -> float:
        """When a run that waits for exports is ended: after three deadlines; the next run takes up what is left."""
        return 3 * self.deadline_seconds


@dataclass(frozen=True, slots=True)
class Clock:
    """What the machine takes from its process; tests pass their own."""

    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    unix: Callable[[], float] = time.time


_Part = Literal["result", "before", "none"]


@dataclass(order=True, slots=True)
class _Running:
    """An export on its way.

    Attributes:
        part: What its partition waits for: its `result`, or its end `before` another is submitted. `none`: it takes a
            slot, and that is all.
        deadline: Until when its partition waits.
        dead_at: Until when it takes a slot.
        missing_since: Since when looks have not found it.
    """

    look_at: float
    order: int
    submission: Submission = field(compare=False)
    part: _Part = field(compare=False)
    deadline: float = field(compare=False)
    dead_at: float = field(compare=False)
    delay: float = field(default=_FIRST_DELAY_SECONDS, compare=False)
    missing_since: float | None = field(default=None, compare=False)


def export_all(  # noqa: PLR0913 - what to export, how, and what to do with what becomes known
    source: ExportSource[T],
    wanted: Mapping[str, str],
    *,
    limits: ExportLimits = ExportLimits(),
    resume: Mapping[str, Submission] = {},
    on_submitted: Callable[[Sequence[Submission]], None] = lambda _: None,
    clock: Clock = Clock(),
) -> Iterator[tuple[str, T | OlError]]:
    """Export partitions; give what became of each as it becomes known, every one once.

    Args:
        source: The remote system.
        wanted: Partitions, in order, and the version that each has now.
        limits: Exports in flight, and how long each may take.
        resume: Submissions of earlier processes whose end nobody saw, of any partition and version, by id. Each takes a
            slot. A partition's newest is waited for: instead of being submitted again where it is of the version
            wanted, and before that where it is of another one, as both may write to the same place.
        on_submitted: Called with each batch that was accepted, before it is waited for: keep it, so that it can be
            taken up after a kill.
        clock: Sleep and time.
    """
    run = _Exports(source, wanted, limits, clock)
    run.take_up(resume.values())
    return islice(run.ends(on_submitted), len(wanted))


class _Exports(Generic[T]):
    """Exports on their way; one that fails never costs the others theirs."""

    def __init__(self, source: ExportSource[T], wanted: Mapping[str, str], limits: ExportLimits, clock: Clock) -> None:
        self._source, self._wanted, self._limits, self._clock = source, wanted, limits, clock
        self._waiting = deque(wanted)
        self._running: list[_Running] = []
        self._order = count()

    def take_up(self, submissions: Iterable[Submission]) -> None:
        """Go on with exports that other processes submitted."""
        now = self._clock.unix()
        for submission in sorted(submissions, key=lambda one: one.submitted_at, reverse=True):
            age = max(0.0, now - submission.submitted_at)
            if age >= self._limits.dead_after_seconds:
                return
            part: _Part = "none"
            if submission.partition in self._waiting:
                self._waiting.remove(submission.partition)
                is_wanted = submission.version == self._wanted[submission.partition]
                part = "result" if is_wanted and age < self._limits.deadline_seconds else "before"
            self._watch(submission, part, age)

    def ends(self, on_submitted: Callable[[Sequence[Submission]], None]) -> Iterator[tuple[str, T | OlError]]:
        """Submit and look, and give what became of each partition; without end."""
        while True:
            yield from self.submit(on_submitted)
            yield from self.look()

    def submit(self, on_submitted: Callable[[Sequence[Submission]], None]) -> Iterator[tuple[str, OlError]]:
        """Fill up what may be in flight, some at a time: each request and each report costs the same for many."""
        usable = max(1, self._limits.in_flight) - sum(one.part == "none" for one in self._running)
        free = usable - sum(one.part != "none" for one in self._running)
        if not self._waiting or free < max(1, usable // 4):
            return
        batch = [self._waiting.popleft() for _ in range(min(free, len(self._waiting)))]
        try:
            answers = self._source.submit(batch)
        except OlError as error:
            answers = dict.fromkeys(batch, error)
        accepted: list[Submission] = []
        for partition in batch:
            answer = answers.get(partition) or PermanentFailure(
                f"{partition}: the export was neither taken nor refused"
            )
            if isinstance(answer, OlError):
                yield partition, answer
                continue
            version = self._wanted[partition]
            accepted.append(Submission(partition, version, answer.remote_id, answer.reference, self._clock.unix()))
        if accepted:
            on_submitted(accepted)
        for submission in accepted:
            self._watch(submission, "result")

    def _watch(self, submission: Submission, part: _Part, age: float = 0.0) -> None:
        now = self._clock.monotonic()
        deadline = now + max(0.0, self._limits.deadline_seconds - age)
        dead_at = now + self._limits.dead_after_seconds - age
        look_at = min(deadline, now + _FIRST_DELAY_SECONDS)
        heapq.heappush(self._running, _Running(look_at, next(self._order), submission, part, deadline, dead_at))

    def look(self) -> Iterator[tuple[str, T | OlError]]:
        """Look at the export whose turn it is, and say what became of its partition where that is known now."""
        if not self._running:
            return
        export = heapq.heappop(self._running)
        self._clock.sleep(max(0.0, export.look_at - self._clock.monotonic()))
        found, now, part = self._look(export), self._clock.monotonic(), export.part
        if found.state == "waiting" and now < export.deadline:
            self._again(export, found, until=export.deadline)
            return
        export.part = "none"
        if found.state == "waiting" and now < export.dead_at:
            self._again(export, found, until=export.dead_at)
        submission = export.submission
        partition = submission.partition
        if part == "before":
            self._waiting.appendleft(partition)
        is_wanted = partition in self._waiting and submission.version == self._wanted[partition]
        if is_wanted and found.state == "ready":  # late, but before it is submitted again
            self._waiting.remove(partition)
            part = "result"
        if part == "result":
            yield partition, self._end(submission, found)

    def _look(self, export: _Running) -> Look:
        """Look; `missing` is only what counts as lost."""
        try:
            found = self._source.look(export.submission)
        except OlError as error:  # the export goes on; only the deadline ends the wait
            after = error.retry_after_seconds if isinstance(error, TransientFailure) else None
            found = Look("waiting", f"unknown ({error})", after or 0.0)
        now = self._clock.monotonic()
        if found.state != "missing":
            export.missing_since = None
            return found
        if export.missing_since is None:
            export.missing_since = now
        is_lost = now >= min(export.deadline, export.missing_since + _LOST_AFTER_SECONDS)
        return found if is_lost else Look("waiting", found.detail, found.retry_after_seconds)

    def _again(self, export: _Running, found: Look, *, until: float) -> None:
        export.delay = min(_LONGEST_DELAY_SECONDS, export.delay * 1.5)
        export.look_at = min(until, self._clock.monotonic() + max(export.delay, found.retry_after_seconds))
        export.order = next(self._order)
        heapq.heappush(self._running, export)

    def _end(self, submission: Submission, found: Look) -> T | OlError:
        """Return what an export comes to that is not waited for any longer."""
        export = f"{submission.partition}: export {submission.remote_id}"
        match found.state:
            case "ready":
                try:
                    return self._source.collect(submission)
                except OlError as error:
                    return error
            case "failed":
                return PermanentFailure(f"{export} is {found.detail}")
            case "missing":
                return TransientFailure(f"{export} was lost: {found.detail}; it is to be exported again")
            case "waiting":
                return TransientFailure(f"{export} is still {found.detail} at its deadline")
