"""Raw tables against bare PyIceberg: `Table.overwrite` with a filter, on the same catalog in the same run.

    uv run pytest -m benchmark tests/benchmarks/test_raw_tables.py -s

Times are of rounds that alternate; the best of each counts, since a busy machine only adds to one. Ours also stages the
rows on the disk, checks them and compares them with what the table holds, which `overwrite` does not.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from ol_core.environment import RAW_NAMESPACE
from ol_core.tables import RawTableIOManager
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.expressions import In

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore:Delete operation did not match any records"),
]

SCHEMA = pa.schema(
    [
        pa.field("course_id", pa.string(), nullable=False),
        ("block_id", pa.string()),
        ("block_type", pa.string()),
        ("title", pa.string()),
        ("position", pa.int64()),
        ("points", pa.float64()),
    ]
)
COMMITS = 120


@pytest.fixture
def tables(tmp_path: Path) -> RawTableIOManager:
    root = tmp_path / "tables"
    return RawTableIOManager(kind="sql", uri=f"sqlite:///{root}/catalog.db", warehouse=str(root), writable=True)


def rows(course: str, count: int, salt: int) -> pa.Table:
    numbers = range(salt, salt + count)
    return pa.table(
        {
            "course_id": [course] * count,
            "block_id": [f"block-v1:{course}+type@problem+block@{number:032x}" for number in numbers],
            "block_type": ["problem", "video", "html", "vertical"] * (count // 4),
            "title": [f"Question {number % 97} of the week" for number in numbers],
            "position": list(numbers),
            "points": [number / 3 for number in numbers],
        },
        schema=SCHEMA,
    )


def bare(tables: RawTableIOManager, name: str, parts: list[pa.Table]) -> None:
    """What one would write with PyIceberg alone."""
    catalog = SqlCatalog("ol", uri=tables.uri, warehouse=tables.warehouse)
    courses = {str(part["course_id"][0]) for part in parts}
    where = In("course_id", courses)  # type: ignore[misc,call-arg]
    catalog.load_table((RAW_NAMESPACE, name)).overwrite(pa.concat_tables(parts), where)
    catalog.close()


def ours(tables: RawTableIOManager, name: str, parts: list[pa.Table]) -> None:
    tables.replace_partitions(name, SCHEMA, [str(part["course_id"][0]) for part in parts], parts)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@pytest.mark.parametrize(("courses", "count"), [(1, 400_000), (40, 10_000)], ids=["one large", "forty small"])
def test_rows_are_written_about_as_fast(tables: RawTableIOManager, courses: int, count: int) -> None:
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    for name in times:
        tables.ensure(name, SCHEMA)
    for number in range(5):
        parts = [rows(f"course-v1:MITx+{course}+2026", count, number) for course in range(courses)]
        times["bare"].append(seconds(partial(bare, tables, "bare", parts)))
        times["ours"].append(seconds(partial(ours, tables, "ours", parts)))
    best = {who: courses * count / min(some) for who, some in times.items()}
    ratio = best["ours"] / best["bare"]
    print(  # noqa: T201 - the figures
        f"{courses} x {count} rows: ours {best['ours']:,.0f} rows/s, bare {best['bare']:,.0f} rows/s, ratio {ratio:.2f}"
    )

    assert tables.read("ours").num_rows == tables.read("bare").num_rows == courses * count
    assert ratio >= 0.7


def test_a_commit_does_not_become_slow_with_the_snapshots(tables: RawTableIOManager) -> None:
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    for name in times:
        tables.ensure(name, SCHEMA)
    for number in range(COMMITS):
        parts = [rows(f"course-v1:MITx+{number % 30}+2026", 8, number)]
        times["bare"].append(seconds(partial(bare, tables, "bare", parts)))
        times["ours"].append(seconds(partial(ours, tables, "ours", parts)))
    early = {who: min(some[30:40]) for who, some in times.items()}
    late = {who: min(some[-10:]) for who, some in times.items()}
    print(  # noqa: T201 - the figures
        *(
            f"commit {when}: ours {1000 * best['ours']:.0f} ms, bare {1000 * best['bare']:.0f} ms, "
            f"ratio {best['ours'] / best['bare']:.2f}"
            for when, best in (("30", early), (str(COMMITS), late))
        ),
        sep="\n",
    )

    assert late["ours"] <= late["bare"]
