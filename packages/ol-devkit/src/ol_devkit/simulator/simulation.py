"""The daemon under judgement: ticks by a fake clock, runs as they are requested, a world that does as its script says.

A run takes its time of the same clock. Where it lasts beyond the next tick, the daemon ticks meanwhile, as it does in
truth, and what it requests then waits in the queue until the run is over.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal
from uuid import uuid4

import dagster as dg
from ol_core.orchestration.sweep import DAEMON_SENSOR_TIMEOUT_SECONDS

from ol_devkit.daemon import apply_changes, execute, tick_error
from ol_devkit.simulator.figures import Figures, RunRecord, TickRecord, peak_memory, reset_peak_memory
from ol_devkit.simulator.storage import Storage
from ol_devkit.simulator.subject import Subject, Ticker, each_once
from ol_devkit.simulator.watch import Watch
from ol_devkit.simulator.world import WorkerKilled, World

DaemonDeath = Literal["result lost", "cursor lost"]
"""When the daemon dies: before anything of a tick's result is applied, or after its runs are started."""

Act = Callable[["Simulation"], None]
"""Something that happens before a tick."""

Script = Mapping[int, Act]
"""What happens before which tick."""


@dataclass(slots=True)
class Simulation:
    """One subject in one world.

    Attributes:
        subject: What is judged.
        world: Its source.
        storage: The instance on which it runs.
        watch: What counts queries and events.
        script: What happens before which tick.
        tick_seconds: From one tick to the next.
        monitored_after_ticks: So many ticks after its worker died, Dagster's run monitoring marks a run as failed.
        figures: What was counted.
        skipped: So many ticks that are due will not take place.
        dies: How the daemon dies in its next tick; None where it lives.
        remembered: What a script wanted to know at its time, for the bars to compare.
        number: The tick that was the last.
    """

    subject: Subject
    world: World
    storage: Storage
    watch: Watch
    script: Script = field(default_factory=dict)
    tick_seconds: float = 60.0
    monitored_after_ticks: int = 5
    figures: Figures = field(default_factory=Figures)
    skipped: int = 0
    dies: DaemonDeath | None = None
    remembered: dict[str, object] = field(default_factory=dict)
    number: int = 0
    _next_tick_at: float = 0.0
    _until: int = 0
    _cursors: dict[str, str] = field(default_factory=dict)
    _due_at: dict[str, float] = field(default_factory=dict)
    _queue: deque[tuple[dg.RunRequest, str]] = field(default_factory=deque)
    _dead: list[tuple[str, str, int]] = field(default_factory=list)
    _spent_meanwhile: float = 0.0
    _in_tick: bool = False
    _running: str = ""
    _broken: Exception | None = None

    def __post_init__(self) -> None:
        self.world.on_kill = self.watch.kill

    def run(self, ticks: int) -> Figures:
        """Let so many further ticks pass; return all figures so far."""
        reset_peak_memory()
        before = self.storage.size()
        self._until = self.number + ticks
        self.world.clock.passing = self._time_passes
        try:
            while self.number < self._until:
                self.world.clock.advance(self._next_tick_at - self.world.clock())
                self._tick()
                self._work_off()
        finally:
            self.world.clock.passing = lambda: None
        self.figures.database_bytes += self.storage.size() - before
        self.figures.peak_memory_bytes = max(self.figures.peak_memory_bytes, peak_memory())
        self.figures.events, self.figures.queries = self.watch.events.copy(), self.watch.queries.copy()
        return self.figures

    def behind(self) -> dict[str, str]:
        """Return what the source has and is neither held nor known to be given up."""
        held, given_up = self.subject.held(self.storage.instance), self.subject.given_up(self.storage.instance)
        wanted = {
            partition: self.subject.wanted(partition, version) for partition, version in self.world.versions.items()
        }
        return {
            partition: version
            for partition, version in wanted.items()
            if version not in (held.get(partition), given_up.get(partition))
        }

    def _time_passes(self) -> None:
        """Tick while a run goes on; a tick that takes its time delays the next."""
        while (
            self.world.is_run
            and not self._in_tick
            and self.number < self._until
            and self.world.clock() >= self._next_tick_at
        ):
            started = time.process_time()
            try:
                with self._outside_of_run():
                    self._tick()
            except Exception as error:
                self._broken = error  # the run would take it for its own
                raise
            self._spent_meanwhile += time.process_time() - started

    @contextmanager
    def _outside_of_run(self) -> Iterator[None]:
        self.world.is_run = False
        try:
            yield
        finally:
            self.world.is_run = True

    def _tick(self) -> None:
        self._next_tick_at = max(self._next_tick_at, self.world.clock()) + self.tick_seconds
        self.number += 1
        if act := self.script.get(self.number):
            act(self)
        self._find_dead_workers()
        if self.skipped:
            self.skipped -= 1
            return
        self._in_tick, now = True, self.world.clock()
        for ticker in each_once(self.subject.tickers):
            if now >= self._due_at.get(ticker.name, 0.0):
                self._due_at[ticker.name] = now + ticker.interval_seconds
                self._evaluate(ticker)
        self._in_tick = False

    def _evaluate(self, ticker: Ticker) -> None:
        started = (time.process_time(), time.perf_counter(), self.world.clock())
        calls, events = self.world.calls.total(), self.watch.asset_events
        record = TickRecord(self.number, ticker.name)
        result: dg.SensorResult | None = None
        try:
            with _silence():
                result = ticker.evaluate(self.storage.instance, self._cursors.get(ticker.name))
        except Exception as error:  # noqa: BLE001 - like the daemon: the tick fails, the next one comes
            record.error = tick_error(error)
        record.source_seconds = self.world.clock() - started[2]
        if record.source_seconds > DAEMON_SENSOR_TIMEOUT_SECONDS:
            record.error, result = f"no answer within {DAEMON_SENSOR_TIMEOUT_SECONDS} s", None
        if result is not None:
            self._apply(ticker, result, record)
        record.slots = self._slots()
        record.cpu_seconds, record.wall_seconds = time.process_time() - started[0], time.perf_counter() - started[1]
        record.calls, record.asset_events = self.world.calls.total() - calls, self.watch.asset_events - events
        self.figures.ticks.append(record)

    def _apply(self, ticker: Ticker, result: dg.SensorResult, record: TickRecord) -> None:
        dies, self.dies = self.dies, None
        if dies == "result lost":
            record.error = "the daemon died"
            return
        apply_changes(self.storage.instance, result)
        for request in result.run_requests or []:
            record.requested += tuple((str(request.job_name), one) for one in requested_partitions(request))
            waits = bool(self._running or self._queue)
            self._queue.append((request, self._queued(request) if waits else ""))
        if dies is None and result.cursor is not None:
            self._cursors[ticker.name] = result.cursor
            record.cursor_bytes = len(result.cursor)

    def _queued(self, request: dg.RunRequest) -> str:
        """Let a run stand in the queue while others come first; return its id."""
        run = dg.DagsterRun(
            job_name=str(request.job_name),
            run_id=str(uuid4()),
            run_config=dict(request.run_config),
            tags=dict(request.tags),
            status=dg.DagsterRunStatus.NOT_STARTED,  # queued ones need the address of a code server
        )
        self.storage.instance.add_run(run)
        return run.run_id

    def _work_off(self) -> None:
        while self._queue:
            request, queued = self._queue.popleft()
            if queued:
                self.storage.instance.delete_run(queued)
            self._execute(request)

    def _execute(self, request: dg.RunRequest) -> None:
        run_id, started = str(uuid4()), (time.process_time(), self.world.clock(), self._spent_meanwhile)
        record = RunRecord(str(request.job_name), tuple(requested_partitions(request)))
        self._running, self.world.is_run = record.job, True
        try:
            with self.watch.worker():
                record.ended = (
                    "succeeded"
                    if execute(self.storage.instance, self.subject.definitions, request, run_id=run_id).success
                    else "failed"
                )
        except WorkerKilled:
            self._dead.append((run_id, record.job, self.number))
        finally:
            self._running, self.world.is_run = "", False
        if self._broken is not None:
            raise self._broken
        meanwhile = self._spent_meanwhile - started[2]
        record.cpu_seconds = time.process_time() - started[0] - meanwhile
        record.lasted_seconds = self.world.clock() - started[1]
        self.figures.runs.append(record)

    def _slots(self) -> int:
        """Return the most runs of one job that are queued, going on, or dead and not known to be."""
        jobs = Counter(job for job in (self._running, *(job for _, job, _ in self._dead)) if job)
        jobs.update(str(request.job_name) for request, _ in self._queue)
        return max(jobs.values(), default=0)

    def _find_dead_workers(self) -> None:
        found = [run_id for run_id, _, died in self._dead if self.number - died >= self.monitored_after_ticks]
        self._dead = [one for one in self._dead if one[0] not in found]
        for run_id in found:
            if run := self.storage.instance.get_run_by_id(run_id):
                self.storage.instance.report_run_failed(run, "its worker is gone")


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what sensors log from the terminal; runs log through the same machinery, and their events count."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)


def requested_partitions(request: dg.RunRequest) -> list[str]:
    """Return the partitions that a run is requested for: one, or those in the configuration of its op."""
    if request.partition_key:
        return [request.partition_key]
    ops = request.run_config.get("ops", {})
    return [partition for op in ops.values() for partition in op.get("config", {}).get("wanted", {})]
