"""A million rows through a small worker: the address space is limited above what it has when all is imported."""

import os
import subprocess
import sys

from served_database import ServedDatabase

ROWS = 1_000_000
LIMIT_MIB = 32

READER = """
import resource, sys
import pyarrow as pa
from ol_core.databases import MySQLResource, PostgresResource
from ol_core.secrets import LocalSecrets

kind, port, name, ca_file, secrets, sql, whole = sys.argv[1:]
database = {"PostgresResource": PostgresResource, "MySQLResource": MySQLResource}[kind](
    host="localhost", port=int(port), database=name, user="db#user", password="db#password", ca_file=ca_file,
    secrets=LocalSecrets(file=secrets),
)
database.stream("SELECT 1 AS a").read_all()
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (used + (%d << 20),) * 2)
reader = database.stream(sql)
if whole == "whole":
    reader.read_all()
rows = size = 0
for batch in reader:
    rows, size = rows + batch.num_rows, size + batch.nbytes
peak = int(next(line for line in open("/proc/self/status") if line.startswith("VmPeak")).split()[1]) << 10
print(rows, size >> 20, peak - used >> 20)
"""


def read(served: ServedDatabase, how: str) -> "subprocess.CompletedProcess[str]":
    place = [str(served.server.port), served.name, str(served.server.ca_file), served.secrets().file]
    command = [sys.executable, "-c", READER % LIMIT_MIB, served.kind.__name__, *place, served.numbers(ROWS), how]
    variables = {"PATH": os.defpath, "HOME": str(served.folder), "ARROW_DEFAULT_MEMORY_POOL": "system"}
    return subprocess.run(command, env=variables, cwd=served.folder, capture_output=True, text=True, check=False)


def test_a_million_rows_stream_through_a_small_worker(served: ServedDatabase) -> None:
    done = read(served, "in batches")

    assert done.returncode == 0, done.stderr[-3000:]
    rows, size_mib, peak_mib = map(int, done.stdout.split())
    print(f"{rows} rows, {size_mib} MiB of Arrow, {peak_mib} MiB of address space")  # noqa: T201 - the figures
    assert rows == ROWS
    assert size_mib > LIMIT_MIB


def test_the_same_rows_at_once_do_not_fit(served: ServedDatabase) -> None:
    """So the limit bites."""
    done = read(served, "whole")

    assert done.returncode != 0
    assert "MemoryError" in done.stderr.splitlines()[-1]
