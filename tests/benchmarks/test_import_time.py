"""What each module of ol-core costs to import, against Dagster's own import, and what it pulls in.

    uv run pytest -m benchmark tests/benchmarks/test_import_time.py -s

CPU seconds of a fresh interpreter, the bare interpreter's taken off; the best of each counts.
"""

import json
import pkgutil
import subprocess
import sys

import ol_core
import pytest

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(900)]

ROUNDS = 3
LIBRARIES = (
    "boto3", "click", "dagster", "duckdb", "gcsfs", "httpx", "hvac", "pandas", "psycopg", "pyarrow", "pydantic",
    "pydantic_settings", "pyiceberg", "pymysql", "requests", "s3fs", "sqlalchemy", "tenacity", "upath", "yaml",
)  # fmt: skip
HEAVY = {"boto3", "duckdb", "gcsfs", "hvac", "pandas", "psycopg", "pyarrow", "pyiceberg", "pymysql", "s3fs"}
"""Imported where they are used, by no module as it loads."""

EXTENDS = {"ol_core.tables.snapshots": {"pyiceberg"}}
"""A subclass needs its library as it is defined; such a module is itself imported where it is used."""

SHARE_OF_DAGSTER = 0.5
"""What a module may cost beside Dagster, as a share of Dagster's own import."""

SCRIPT = """
import json, resource, sys
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
before = cpu()
if sys.argv[1]:
    __import__(sys.argv[1])
print(json.dumps([cpu() - before, [name for name in sys.argv[2].split(",") if name in sys.modules]]))
"""


def imported(module: str) -> tuple[float, set[str]]:
    """Return the CPU seconds of an import, and which libraries are there after it."""
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, module, ",".join(LIBRARIES)]
    answers = [
        json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(ROUNDS)
    ]
    return min(seconds for seconds, _ in answers), set(answers[0][1])


def beside(module: str) -> float:
    """Return what a module costs beside Dagster, as a share of Dagster's own import, both measured now."""
    dagster, _ = imported("dagster")
    seconds, libraries = imported(module)
    return (seconds - (dagster if "dagster" in libraries else 0.0)) / dagster


def test_every_module_is_light() -> None:
    modules = ["ol_core", *(found.name for found in pkgutil.walk_packages(ol_core.__path__, "ol_core."))]
    dagster, with_dagster = imported("dagster")
    print(f"{'dagster':42} {dagster:6.2f} s")  # noqa: T201 - the figures
    too_slow, heavy = [], []
    for module in modules:
        seconds, libraries = imported(module)
        own = seconds - (dagster if "dagster" in libraries else 0.0)
        pulled = libraries - (with_dagster if "dagster" in libraries else set())
        shown = ", ".join(sorted(({"dagster"} & libraries) | pulled)) or "the standard library"
        print(f"{module:42} {seconds:6.2f} s  {shown}")  # noqa: T201 - the figures
        if own > SHARE_OF_DAGSTER * dagster and module not in EXTENDS and (own := beside(module)) > SHARE_OF_DAGSTER:
            too_slow.append((module, round(own, 2)))
        if pulled & HEAVY - EXTENDS.get(module, set()):
            heavy.append((module, sorted(pulled)))
    root_seconds, root_libraries = imported("ol_core")

    assert root_libraries == set()
    assert root_seconds < dagster / 10
    assert heavy == []
    assert too_slow == []
