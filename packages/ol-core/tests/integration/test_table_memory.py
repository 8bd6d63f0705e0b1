"""Rows stream into a raw table: what that takes of memory, and a disk that is full."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
from ol_core.tables import RawTableIOManager

STREAMED = """
import resource, signal, sys
import pyarrow as pa, pyarrow.compute as pc
from ol_core.tables import RawTableIOManager

folder, batches = sys.argv[1], int(sys.argv[2])
tables = RawTableIOManager(kind="sql", uri=f"sqlite:///{folder}/catalog.db", warehouse=folder, writable=True)
schema = pa.schema([pa.field("course_id", pa.string(), nullable=False), ("text", pa.string())])
filling = pa.scalar("some text that compresses well " * 33)

def rows(count, said):
    for number in range(count):
        numbers = pa.array(range(number * 4000, number * 4000 + 4000)).cast(pa.string())
        text = pc.binary_join_element_wise(numbers, filling, said)
        course = "a" if number < count / 2 else "b"
        yield pa.RecordBatch.from_arrays([pa.array([course] * 4000), text], schema=schema)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

for table in ("partitioned", "whole"):
    for count, said in ((2, "x"), (batches, "y"), (batches, "y")):
        if table == "whole":
            commit = tables.replace(table, pa.RecordBatchReader.from_batches(schema, rows(count, said)))
        else:
            commit = tables.replace_partitions(table, schema, ["a", "b"], rows(count, said))
        before = peak() if count == 2 and table == "partitioned" else before
        print(table, commit.total_rows, commit.unchanged, peak() - before)
"""


def test_memory_does_not_grow_with_the_rows_that_stream_through(tmp_path: Path) -> None:
    batches = 60  # of 4 MB: 240 MB per table
    command = [sys.executable, "-c", STREAMED, str(tmp_path / "tables"), str(batches)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[:3] for line in lines] == [
        [table, rows, unchanged]
        for table in ("partitioned", "whole")
        for rows, unchanged in (("8000", "False"), ("240000", "False"), ("240000", "True"))
    ]
    assert max(int(line[3]) for line in lines) < 200, done.stdout  # and not the 240 of the rows


FULL = """
import resource, signal, sys
import pyarrow as pa
from ol_core.tables import RawTableIOManager

folder = sys.argv[1]
tables = RawTableIOManager(kind="sql", uri=f"sqlite:///{folder}/catalog.db", warehouse=folder, writable=True)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
tables.replace("t", pa.table({"n": list(range(200_000))}))
"""


def test_a_full_disk_leaves_the_table_as_it_was(tmp_path: Path) -> None:
    root = tmp_path / "tables"
    tables = RawTableIOManager(kind="sql", uri=f"sqlite:///{root}/catalog.db", warehouse=str(root), writable=True)
    before = tables.replace("t", pa.table({"n": [1, 2]}))

    command = [sys.executable, "-c", FULL, str(root), "5000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "TransientFailure: t: cannot keep rows in " in done.stderr.splitlines()[-1]
    assert tables.read("t")["n"].to_pylist() == [1, 2]
    assert tables.snapshots() == {"t": before.version}
