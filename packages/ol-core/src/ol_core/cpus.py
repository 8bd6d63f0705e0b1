"""How many CPUs this process may use, by which everything is sized that works on them in parallel.

A container sees all CPUs of its node. A pool sized by those holds too many tasks in memory at once.
"""

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath


def usable_cpus(root: Path = Path("/")) -> int:
    """Return the CPUs of this process's affinity, or fewer where a quota of its cgroups (v1 or v2) is lower.

    Args:
        root: Where `proc` and `sys` are.

    Returns:
        A whole number, at least 1: who may use 1.5 CPUs keeps one busy.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([affinity, *_quotas(root)])))


@lru_cache(maxsize=1)
def limit_library_threads() -> None:
    """Size the thread pools of pyarrow and PyIceberg, which count the node's CPUs otherwise."""
    import pyarrow as pa

    cpus = usable_cpus()
    pa.set_cpu_count(min(cpus, pa.cpu_count()))
    os.environ.setdefault("PYICEBERG_MAX_WORKERS", str(cpus))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quota, in CPUs, of every cgroup around this process that has one."""
    mount = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        place = PurePosixPath(path.lstrip("/"))
        for group in (place, *place.parents):  # a quota of any of them binds; a container sees its own as the topmost
            if not controllers:
                quota, _, period = _text(mount / group / "cpu.max").strip().partition(" ")
            elif "cpu" in controllers.split(","):
                quota = _text(mount / "cpu" / group / "cpu.cfs_quota_us").strip()
                period = _text(mount / "cpu" / group / "cpu.cfs_period_us").strip()
            else:
                continue
            if quota.isdigit() and period.isdigit():  # else "max", or -1
                yield int(quota) / int(period)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except OSError:
        return ""
