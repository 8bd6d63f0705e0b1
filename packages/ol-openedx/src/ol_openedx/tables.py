"""The raw tables of a deployment: their names, their schemas, and course runs as rows."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from ol_openedx.client import CourseRun

COURSE_RUNS = "course_runs"


def table_name(deployment: str, kind: str) -> str:
    """Return the raw table's name, such as `raw__mitxonline__openedx__course_blocks`."""
    return f"raw__{deployment}__openedx__{kind}"


def course_runs_schema() -> "pa.Schema":
    """Return the columns of `course_runs`: one row per course run; times are naive UTC."""
    import pyarrow as pa

    timestamp = pa.timestamp("us")
    return pa.schema(
        [
            pa.field("course_id", pa.string(), nullable=False),
            ("name", pa.string()),
            ("org", pa.string()),
            ("number", pa.string()),
            ("run", pa.string()),
            ("start_at", timestamp),
            ("end_at", timestamp),
            ("enrollment_start_at", timestamp),
            ("enrollment_end_at", timestamp),
            ("pacing", pa.string()),
            ("is_hidden", pa.bool_()),
            ("version", pa.string()),
        ]
    )


def course_runs_table(runs: Iterable["CourseRun"], versions: Mapping[str, str]) -> "pa.Table":
    """Return course runs as rows of `course_runs`, ordered by id."""
    import pyarrow as pa

    rows = [
        {
            "course_id": run.course_id,
            "name": run.name,
            "org": run.org,
            "number": run.number,
            "run": run.run,
            "start_at": run.start_at,
            "end_at": run.end_at,
            "enrollment_start_at": run.enrollment_start_at,
            "enrollment_end_at": run.enrollment_end_at,
            "pacing": run.pacing,
            "is_hidden": run.is_hidden,
            "version": versions.get(run.course_id),
        }
        for run in sorted(runs, key=lambda run: run.course_id)
    ]
    return pa.Table.from_pylist(rows, schema=course_runs_schema())
