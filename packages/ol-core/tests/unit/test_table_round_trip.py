"""Whatever rows go into a raw table come out of it, and are known again."""

import tempfile
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ol_core.tables import RawTableIOManager, reading

POINT = pa.struct([("x", pa.int64()), ("y", pa.float64()), ("label", pa.string())])
SCHEMA = pa.schema(
    [
        pa.field("course_id", pa.string(), nullable=False),
        ("flag", pa.bool_()),
        ("small", pa.int32()),
        ("large", pa.int64()),
        ("real", pa.float64()),
        ("short", pa.float32()),
        ("exact", pa.decimal128(12, 3)),
        ("text", pa.string()),
        ("raw", pa.binary()),
        ("fixed", pa.binary(4)),
        ("day", pa.date32()),
        ("hour", pa.time64("us")),
        ("naive", pa.timestamp("us")),
        ("aware", pa.timestamp("us", tz="UTC")),
        ("points", pa.list_(POINT)),
        ("tags", pa.map_(pa.string(), pa.int64())),
        ("weights", pa.map_(pa.string(), pa.list_(pa.float32()))),
    ]
)
COURSES = ["a", "course-v1:Ü+x/y z", ""]
text = st.text(st.characters(codec="utf-8"), max_size=12)
long = st.integers(-(2**63), 2**63 - 1)
naive = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31))  # noqa: DTZ001 - of a column that has no zone
values: dict[str, st.SearchStrategy[Any]] = {
    "flag": st.booleans(),
    "small": st.integers(-(2**31), 2**31 - 1),
    "large": long,
    "real": st.floats(),
    "short": st.floats(width=32),
    "exact": st.decimals(Decimal(-999_999), Decimal(999_999), places=3),
    "text": text,
    "raw": st.binary(max_size=12),
    "fixed": st.binary(min_size=4, max_size=4),
    "day": st.dates(date(1, 1, 1), date(9999, 12, 31)),
    "hour": st.times(time(0), time(23, 59, 59)),
    "naive": naive,
    "aware": naive.map(lambda moment: moment.replace(tzinfo=UTC)),
    "points": st.lists(
        st.none() | st.fixed_dictionaries({"x": st.none() | long, "y": st.floats(), "label": st.none() | text}),
        max_size=3,
    ),
    "weights": st.dictionaries(text, st.lists(st.floats(width=32), max_size=2), max_size=2).map(
        lambda weights: list(weights.items())
    ),
    "tags": st.dictionaries(text, st.none() | long, max_size=3).map(lambda tags: list(tags.items())),
}
row = st.fixed_dictionaries(
    {"course_id": st.sampled_from(COURSES), **{name: st.none() | some for name, some in values.items()}}
)


def comparable(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(repr(sorted(row.items())) for row in rows)


@pytest.mark.parametrize("compared", ["sorted", "streamed"])
def test_rows_come_out_as_they_went_in_and_are_unchanged_the_second_time(
    compared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if compared == "streamed":
        monkeypatch.setattr(reading, "ARROW_BYTES_SORTED", -1)

    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(row, max_size=8))
    def held(rows: list[dict[str, Any]]) -> None:
        content = pa.Table.from_pylist(rows, schema=SCHEMA)
        with tempfile.TemporaryDirectory() as folder:
            uri = f"sqlite:///{Path(folder)}/catalog.db"
            tables = RawTableIOManager(kind="sql", uri=uri, warehouse=folder, writable=True)
            first = tables.replace_partitions("t", SCHEMA, COURSES, content.to_batches(max_chunksize=3))
            again = tables.replace_partitions("t", SCHEMA, COURSES, content.to_batches(max_chunksize=2))
            found = tables.read("t").select(SCHEMA.names).cast(SCHEMA)

        assert (first.rows, first.total_rows) == (len(rows), len(rows))
        assert again.unchanged
        assert comparable(found.to_pylist()) == comparable(content.to_pylist())

    held()
