"""Transfers through the IO manager against boto3's own, on the same server in the same run.

    uv run pytest -m benchmark tests/benchmarks/test_transfer.py -s

Times are wall seconds of transfers that alternate; the best of each counts, since a busy machine only adds to one.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from ol_core.objects import S3, S3FileObjectIOManager
from ol_devkit.servers.seaweedfs import SeaweedFS

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

SIZE_BYTES = 256 << 20
ROUNDS = 5
FLOOR = 0.9


@pytest.fixture
def store(seaweedfs_server: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> S3FileObjectIOManager:
    for name, value in seaweedfs_server.aws_variables.items():
        monkeypatch.setenv(name, value)
    s3 = S3(region="us-east-1", endpoint_url=seaweedfs_server.s3_url)
    return S3FileObjectIOManager(bucket=seaweedfs_server.bucket, prefix="transfer", s3=s3, writable=True)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def test_transfers_cost_no_more_than_boto3s(store: S3FileObjectIOManager, tmp_path: Path) -> None:
    import boto3

    file, copy = tmp_path / "large", tmp_path / "copy"
    file.write_bytes(os.urandom(SIZE_BYTES))
    bare = boto3.client("s3")
    up: dict[str, list[float]] = {"ours": [], "boto3": []}
    down: dict[str, list[float]] = {"ours": [], "boto3": []}
    for number in range(ROUNDS):
        key = f"round/{number}"
        path = f"{store.root}/{key}"
        up["boto3"].append(seconds(partial(bare.upload_file, str(file), store.bucket, f"bare/{key}")))
        up["ours"].append(seconds(partial(store.put, file, key=key, version="v")))
        down["boto3"].append(seconds(partial(bare.download_file, store.bucket, f"bare/{key}", str(copy))))
        down["ours"].append(seconds(partial(store.fetch, path, copy)))
    ratios = {}
    for name, times in (("upload", up), ("download", down)):
        best = {who: SIZE_BYTES / (1 << 20) / min(some) for who, some in times.items()}
        ratios[name] = best["ours"] / best["boto3"]
        print(  # noqa: T201 - the figures
            f"{name}: ours {best['ours']:.0f} MiB/s, boto3 {best['boto3']:.0f} MiB/s, ratio {ratios[name]:.2f}"
        )

    assert min(ratios.values()) >= FLOOR, ratios


LARGE = """
import resource, sys
from pathlib import Path
import boto3.s3.transfer
from ol_core.objects import S3, S3FileObjectIOManager

url, bucket, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
s3 = S3(region="us-east-1", endpoint_url=url)
s3.client()
store = S3FileObjectIOManager(bucket=bucket, prefix="large", s3=s3, writable=True)
with Path("large").open("wb") as writer:
    writer.truncate(size)
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20),) * 2)
stored = store.put(Path("large"), key="large/v", version="v")
store.fetch(stored.path, Path("copy"), sha256=stored.sha256)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(stored.size_bytes, Path("copy").stat().st_size, peak)
"""


def test_two_gibibytes_go_up_and_down_in_a_small_worker(seaweedfs_server: SeaweedFS, tmp_path: Path) -> None:
    """The address space is limited to 256 MiB above what the interpreter has when all is imported."""
    size = 2 << 30
    command = [sys.executable, "-c", LARGE, seaweedfs_server.s3_url, seaweedfs_server.bucket, str(size)]
    variables = {**seaweedfs_server.aws_variables, "PATH": os.defpath, "HOME": str(tmp_path)}
    del variables["AWS_ENDPOINT_URL"]
    done = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    sent, received, peak_kib = map(int, done.stdout.split())
    print(f"2 GiB up and down: peak of resident memory {peak_kib >> 10} MiB")  # noqa: T201 - the figure
    assert sent == received == size
