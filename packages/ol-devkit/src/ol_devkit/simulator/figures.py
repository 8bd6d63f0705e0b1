"""What a simulation counts."""

import contextlib
import re
import resource
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

_ERRORS = 5


@dataclass(slots=True)
class TickRecord:
    """A tick of a sensor, or of automation conditions.

    Attributes:
        number: Which tick of the simulation.
        name: What was evaluated.
        error: Why it failed; empty where it did not.
        requested: Jobs and partitions that it requested.
        calls: Calls of the source.
        source_seconds: How long these took, by the fake clock.
        cpu_seconds: CPU time of this process, the script of the source included.
        wall_seconds: Real time.
        asset_events: Materializations, observations and evaluations that it wrote.
        cursor_bytes: Size of its cursor; 0 where it was not saved.
        slots: Most runs of one job that were queued or held a slot when it ended, its own requests included.
    """

    number: int
    name: str
    error: str = ""
    requested: tuple[tuple[str, str], ...] = ()
    calls: int = 0
    source_seconds: float = 0.0
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    asset_events: int = 0
    cursor_bytes: int = 0
    slots: int = 0


@dataclass(slots=True)
class RunRecord:
    """A run.

    Attributes:
        job: Its job.
        requested: Partitions that it was requested for.
        ended: How.
        cpu_seconds: CPU time of this process, without that of the ticks meanwhile.
        lasted_seconds: How long it lasted by the fake clock.
    """

    job: str
    requested: tuple[str, ...]
    ended: Literal["succeeded", "failed", "killed"] = "killed"
    cpu_seconds: float = 0.0
    lasted_seconds: float = 0.0


@dataclass(slots=True)
class Figures:
    """All that was counted.

    Attributes:
        ticks: Every tick.
        runs: Every run.
        events: Events written, by type.
        queries: Statements sent to Dagster's databases, by their first word.
        database_bytes: Growth of the databases.
        peak_memory_bytes: Most memory that this process held at once.
    """

    ticks: list[TickRecord] = field(default_factory=list)
    runs: list[RunRecord] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    queries: Counter[str] = field(default_factory=Counter)
    database_bytes: int = 0
    peak_memory_bytes: int = 0

    def requested(self, job: str) -> Counter[str]:
        """Return how often each partition was requested of a job."""
        return Counter(partition for tick in self.ticks for of, partition in tick.requested if of == job)

    def runs_of(self, job: str) -> list[RunRecord]:
        """Return the runs of a job."""
        return [run for run in self.runs if run.job == job]

    @property
    def failed_ticks(self) -> list[TickRecord]:
        """Ticks that failed."""
        return [tick for tick in self.ticks if tick.error]

    def as_json(self) -> dict[str, Any]:
        """Return a summary: counts, and the mean and the worst of what a tick takes."""
        ticks = len(self.ticks) or 1
        return {
            "ticks": len(self.ticks),
            "failed_ticks": len(self.failed_ticks),
            "tick_errors": dict(Counter(tick.error for tick in self.failed_ticks).most_common(_ERRORS)),
            "runs": len(self.runs),
            "runs_by_end": dict(Counter(run.ended for run in self.runs)),
            "partitions_requested": sum(len(tick.requested) for tick in self.ticks),
            "events": self.events.total(),
            "events_by_type": dict(self.events),
            "queries": self.queries.total(),
            "tick_cpu_seconds_mean": round(sum(tick.cpu_seconds for tick in self.ticks) / ticks, 4),
            "tick_cpu_seconds_max": round(max((tick.cpu_seconds for tick in self.ticks), default=0.0), 3),
            "tick_wall_seconds_max": round(max((tick.wall_seconds for tick in self.ticks), default=0.0), 3),
            "tick_calls_max": max((tick.calls for tick in self.ticks), default=0),
            "run_cpu_seconds": round(sum(run.cpu_seconds for run in self.runs), 2),
            "run_cpu_seconds_by_job": {
                job: round(sum(run.cpu_seconds for run in self.runs_of(job)), 2)
                for job in sorted({run.job for run in self.runs})
            },
            "cursor_bytes_max": max((tick.cursor_bytes for tick in self.ticks), default=0),
            "database_bytes": self.database_bytes,
            "peak_memory_bytes": self.peak_memory_bytes,
        }


def reset_peak_memory() -> None:
    """Forget how much memory this process has held, where the system can (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory() -> int:
    """Return how many bytes of memory this process has held at once; since the reset where the system knows."""
    with contextlib.suppress(OSError):
        if found := re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii")):
            return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
