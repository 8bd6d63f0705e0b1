"""Exports that another system makes: submitted, looked at in turn, collected as each finishes, taken up after a kill.

The machine is plain Python: a source says how to submit, look and collect; clock and sleep are given. Each submission
is reported before anything is waited for, so whoever keeps the reports can hand them to the next process.
"""

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Generic, Literal, Protocol, TypeVar

from ol_core.failures import OlError, PermanentFailure, TransientFailure

if TYPE_CHECKING:
    from ol_core.environment import Environment

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")

_FIRST_DELAY_SECONDS = 0.2
_LONGEST_DELAY_SECONDS = 30.0
_LOST_AFTER = 5
"""Looks in a row that do not find an export before it counts as lost; it may not be visible at once."""


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
        state: `ready` to be collected, `failed` for good, `missing` where the remote system does not know it (yet), and
            `waiting` for everything else: a state that nobody has heard of is waited for, until the deadline.
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
        """Look at an export. A `TransientFailure` raised ends nothing; any other `OlError` is the export's end."""

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
    def longest_run_seconds(self) -> float:
        """When a run that waits for exports is ended: after three deadlines; the next run takes up what is left."""
        return 3 * self.deadline_seconds


@dataclass(frozen=True, slots=True)
class Clock:
    """What the machine takes from its process; tests pass their own."""

    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    unix: Callable[[], float] = time.time


@dataclass(order=True, slots=True)
class _Running:
    look_at: float
    order: int
    submission: Submission = field(compare=False)
    deadline: float = field(compare=False)
    delay: float = field(default=_FIRST_DELAY_SECONDS, compare=False)
    missing: int = field(default=0, compare=False)


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
        resume: Submissions of earlier processes. One of the version wanted is waited for instead of submitted again.
        on_submitted: Called with each batch that was accepted, before it is waited for: keep it, so that it can be
            taken up after a kill.
        clock: Sleep and time.
    """
    run = _Exports(source, wanted, limits, clock)
    for partition, submission in resume.items():
        if wanted.get(partition) == submission.version:
            run.take_up(submission)
    while run.running or run.waiting:
        yield from run.submit(on_submitted)
        yield from run.look()


class _Exports(Generic[T]):
    """Exports on their way; one that fails never costs the others theirs."""

    def __init__(self, source: ExportSource[T], wanted: Mapping[str, str], limits: ExportLimits, clock: Clock) -> None:
        self._source, self._wanted, self._limits, self._clock = source, wanted, limits, clock
        self.waiting = deque(wanted)
        self.running: list[_Running] = []
        self._order = count()

    def take_up(self, submission: Submission) -> None:
        """Wait for an export that another process submitted."""
        self.waiting.remove(submission.partition)
        self._watch(submission)

    def submit(self, on_submitted: Callable[[Sequence[Submission]], None]) -> Iterator[tuple[str, OlError]]:
        """Fill up what may be in flight, some at a time: each request and each report costs the same for many."""
        in_flight = max(1, self._limits.in_flight)
        free = in_flight - len(self.running)
        if not self.waiting or (self.running and free < max(1, in_flight // 4)):
            return
        batch = [self.waiting.popleft() for _ in range(min(free, len(self.waiting)))]
        try:
            answers = self._source.submit(batch) if batch else {}
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
            self._watch(submission)

    def _watch(self, submission: Submission) -> None:
        now = self._clock.monotonic()
        age = max(0.0, self._clock.unix() - submission.submitted_at)
        deadline = now + max(0.0, self._limits.deadline_seconds - age)
        heapq.heappush(
            self.running, _Running(min(deadline, now + _FIRST_DELAY_SECONDS), next(self._order), submission, deadline)
        )

    def look(self) -> Iterator[tuple[str, T | OlError]]:
        """Look at the export whose turn it is; nothing where none is running."""
        if not self.running:
            return
        export = heapq.heappop(self.running)
        self._clock.sleep(max(0.0, export.look_at - self._clock.monotonic()))
        try:
            found = self._look(export)
            outcome = self._source.collect(export.submission) if found is None else found
        except OlError as error:
            yield export.submission.partition, error
            return
        if isinstance(outcome, Look):
            self._again(export, outcome)
        else:
            yield export.submission.partition, outcome

    def _look(self, export: _Running) -> Look | None:
        """Return None where the export is to be collected, and what it is else while there is time to wait."""
        partition, remote_id = export.submission.partition, export.submission.remote_id
        try:
            found = self._source.look(export.submission)
        except TransientFailure as error:  # the export goes on; only the deadline ends the wait
            found = Look("waiting", f"unknown ({error})", error.retry_after_seconds or 0.0)
        if found.state == "ready":
            return None
        if found.state == "failed":
            raise PermanentFailure(f"{partition}: export {remote_id} is {found.detail}")
        export.missing = export.missing + 1 if found.state == "missing" else 0
        if export.missing >= _LOST_AFTER:
            raise TransientFailure(f"{partition}: export {remote_id} was lost; it is to be exported again")
        if self._clock.monotonic() >= export.deadline:
            raise TransientFailure(f"{partition}: export {remote_id} is still {found.detail} at its deadline")
        return found

    def _again(self, export: _Running, found: Look) -> None:
        export.delay = min(_LONGEST_DELAY_SECONDS, export.delay * 1.5)
        now = self._clock.monotonic()
        export.look_at = min(export.deadline, now + max(export.delay, found.retry_after_seconds))
        export.order = next(self._order)
        heapq.heappush(self.running, export)
