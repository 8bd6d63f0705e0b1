"""File objects on a real S3 server, with a proxy before it that breaks requests, and processes that are killed."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import dagster as dg
import pytest
from ol_core.failures import PermanentFailure, TransientFailure, UpstreamMissing
from ol_core.objects import S3, FileObjectIOManager, ObjectFile, S3FileObjectIOManager
from ol_core.objects.s3 import PART_BYTES
from ol_devkit.servers.faults import Fault, FaultProxy, fault_proxy
from ol_devkit.servers.seaweedfs import SeaweedFS

KEY = dg.AssetKey(["mitx", "course_xml"])
PARTS = 5


@pytest.fixture(autouse=True)
def _credentials(seaweedfs_server: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in seaweedfs_server.aws_variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL")


@pytest.fixture
def proxy(seaweedfs_server: SeaweedFS) -> Iterator[FaultProxy]:
    with fault_proxy(seaweedfs_server.s3_url) as running:
        yield running


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return f"{request.node.name.replace('[', '-').replace(']', '')}-{time.time_ns()}"


@pytest.fixture
def store(seaweedfs_server: SeaweedFS, prefix: str) -> S3FileObjectIOManager:
    return store_at(seaweedfs_server, seaweedfs_server.s3_url, prefix)


@pytest.fixture
def broken(seaweedfs_server: SeaweedFS, proxy: FaultProxy, prefix: str) -> S3FileObjectIOManager:
    return store_at(seaweedfs_server, proxy.url, prefix)


def store_at(server: SeaweedFS, url: str, prefix: str) -> S3FileObjectIOManager:
    s3 = S3(region="us-east-1", endpoint_url=url)
    return S3FileObjectIOManager(bucket=server.bucket, prefix=prefix, s3=s3, writable=True)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file of several parts."""
    file = tmp_path / "course.tar.gz"
    file.write_bytes(random.Random(1).randbytes(PARTS * PART_BYTES + 17))
    return file


def visible(store: S3FileObjectIOManager) -> list[str]:
    answer = store.s3.client().list_objects_v2(Bucket=store.bucket, Prefix=store.prefix + "/")
    return [one["Key"] for one in answer.get("Contents", [])]


def unfinished(store: S3FileObjectIOManager) -> list[str]:
    answer = store.s3.client().list_multipart_uploads(Bucket=store.bucket, Prefix=store.prefix + "/")
    return [one["Key"] for one in answer.get("Uploads", [])]


def test_an_object_carries_its_checksum_and_is_written_once(store: S3FileObjectIOManager, large: Path) -> None:
    first = store.put(large, key="a/v.tar.gz", version="v")
    other = large.with_name("other")
    other.write_bytes(b"other bytes of equal content")
    head = store.s3.client().head_object(Bucket=store.bucket, Key=f"{store.prefix}/a/v.tar.gz")

    assert store.put(other, key="a/v.tar.gz", version="v") == first
    assert (head["ContentLength"], head["ContentType"]) == (large.stat().st_size, "application/gzip")
    assert head["Metadata"] == {"sha256": first.sha256}
    assert first.path == f"s3://{store.bucket}/{store.prefix}/a/v.tar.gz"
    with store.open(first.path, sha256=first.sha256) as stream:
        assert stream.read() == large.read_bytes()


def test_of_many_writers_of_one_key_one_wins_whole(store: S3FileObjectIOManager, tmp_path: Path) -> None:
    def write(number: int) -> str:
        file = tmp_path / str(number)
        file.write_bytes(bytes([number]) * (3 * PART_BYTES))
        return store.put(file, key="a/v", version="v").sha256

    with ThreadPoolExecutor(4) as pool:
        claimed = set(pool.map(write, range(4)))
    with store.open(f"s3://{store.bucket}/{store.prefix}/a/v") as stream:
        content = stream.read()

    assert len(set(content)) == 1
    assert len(content) == 3 * PART_BYTES
    assert sha256(content).hexdigest() in claimed


def test_streams_and_file_objects_of_any_url_take_the_same_way(
    store: S3FileObjectIOManager, seaweedfs_server: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", seaweedfs_server.s3_url)
    by_url = FileObjectIOManager(url=store.root, writable=True)
    stored = by_url.put((b"x" * 1000 for _ in range(10)), key="a/v.txt", version="v")

    assert stored.size_bytes == 10_000
    assert store.put(Path("never read"), key="a/v.txt", version="v") == stored


UPLOADS = [
    Fault("status", "PUT", "partNumber=3", status=500),
    Fault("status", "PUT", "partNumber=2", status=503, times=2, body=b"<Error><Code>SlowDown</Code></Error>"),
    Fault("drop_request", "PUT", "partNumber=4", after_bytes=PART_BYTES // 2),
    Fault("drop_answer", "PUT", "partNumber=1"),
    Fault("drop_answer", "POST", "uploadId="),
    Fault("status", "POST", "uploads", status=503),
    Fault("drop_answer", "HEAD", skip=1),
    Fault("delay", "PUT", "partNumber=2", seconds=1.0),
]


@pytest.mark.parametrize("fault", UPLOADS, ids=lambda fault: f"{fault.kind}-{fault.method}-{fault.contains or 'any'}")
def test_a_fault_on_the_way_up_loses_nothing(
    broken: S3FileObjectIOManager, proxy: FaultProxy, large: Path, fault: Fault
) -> None:
    proxy.inject(fault)
    stored = broken.put(large, key="a/v", version="v")
    proxy.inject()

    assert proxy.injected
    with broken.open(stored.path, sha256=stored.sha256) as stream:
        assert stream.read() == large.read_bytes()
    assert unfinished(broken) == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault("drop_answer", "GET", "a/v", after_bytes=100_000),
        Fault("drop_answer", "GET", "a/v", after_bytes=PART_BYTES - 1, skip=2, times=2),
        Fault("status", "GET", "a/v", status=500, skip=1),
        Fault("status", "GET", "a/v", status=503, times=2, body=b"<Error><Code>SlowDown</Code></Error>"),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}-{fault.skip}",
)
def test_a_fault_on_the_way_down_loses_nothing(
    broken: S3FileObjectIOManager, proxy: FaultProxy, large: Path, fault: Fault
) -> None:
    stored = broken.put(large, key="a/v", version="v")
    proxy.inject(fault)

    with broken.open(stored.path, sha256=stored.sha256) as stream:
        assert stream.read() == large.read_bytes()
    assert proxy.injected


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", "PUT", "partNumber=3", status=500, times=99),
        Fault("drop_request", "PUT", "partNumber=3", after_bytes=1000, times=99),
    ],
    ids=lambda fault: fault.kind,
)
def test_a_server_that_stays_broken_shows_nothing_and_a_rerun_completes(
    broken: S3FileObjectIOManager, proxy: FaultProxy, large: Path, fault: Fault
) -> None:
    proxy.inject(fault)
    with pytest.raises(TransientFailure, match=r"cannot store s3://.*nothing of it is visible"):
        broken.put(large, key="a/v", version="v")
    assert visible(broken) == []
    assert unfinished(broken) == []

    proxy.inject()
    assert broken.put(large, key="a/v", version="v").size_bytes == large.stat().st_size
    assert len(visible(broken)) == 1


def test_what_is_changed_or_gone_is_not_given_out(store: S3FileObjectIOManager, large: Path) -> None:
    stored = store.put(large, key="a/v", version="v")
    with pytest.raises(PermanentFailure, match="it was changed"), store.open(stored.path, sha256="0" * 64):
        pass
    store.s3.client().delete_object(Bucket=store.bucket, Key=f"{store.prefix}/a/v")

    with pytest.raises(UpstreamMissing, match=r"cannot read s3://.*materialize"), store.open(stored.path):
        pass


def test_a_bucket_that_is_not_there_is_permanent(broken: S3FileObjectIOManager, proxy: FaultProxy, large: Path) -> None:
    """SeaweedFS would make the bucket, so the answer is that of AWS."""
    proxy.inject(Fault("status", "POST", "uploads", status=404, body=b"<Error><Code>NoSuchBucket</Code></Error>"))

    with pytest.raises(PermanentFailure, match=r"S3 answers NoSuchBucket \(404\); check bucket, region and what"):
        broken.put(large, key="a/v", version="v")


def test_a_misspelt_bucket_or_endpoint_is_not_tried_again(seaweedfs_server: SeaweedFS, large: Path) -> None:
    s3 = S3(region="us-east-1", endpoint_url=seaweedfs_server.s3_url)
    blanks = S3FileObjectIOManager(bucket="Landing zone!", s3=s3, writable=True)
    with pytest.raises(PermanentFailure, match=r"(?s)Invalid bucket name .*; check bucket, endpoint_url and the AWS"):
        blanks.put(large, key="a/v", version="v")

    schemeless = S3FileObjectIOManager(bucket="landing", s3=S3(endpoint_url="store.example:8333"), writable=True)
    with pytest.raises(PermanentFailure, match=r"Invalid endpoint: store.example:8333; check bucket, endpoint_url"):
        schemeless.put(large, key="a/v", version="v")


def test_a_bucket_that_is_not_there_is_told_apart_from_an_object(store: S3FileObjectIOManager, tmp_path: Path) -> None:
    with pytest.raises(
        PermanentFailure, match=r"cannot read s3://nowhere/a: S3 answers NoSuchBucket \(404\)"
    ) as failure:
        store.fetch("s3://nowhere/a", tmp_path / "a")
    assert not isinstance(failure.value, UpstreamMissing)


def test_credentials_that_are_refused_are_permanent_and_not_told(seaweedfs_server: SeaweedFS, tmp_path: Path) -> None:
    code = f"""
        from pathlib import Path
        from ol_core.failures import PermanentFailure
        from ol_core.objects import S3, S3FileObjectIOManager
        s3 = S3(region="us-east-1", endpoint_url="{seaweedfs_server.s3_url}")
        store = S3FileObjectIOManager(bucket="{seaweedfs_server.bucket}", s3=s3, writable=True)
        try:
            store.put(Path(__import__("sys").executable), key="refused/v", version="v")
        except PermanentFailure as error:
            print(error)
    """
    said = python(code, tmp_path, **{**seaweedfs_server.aws_variables, "AWS_SECRET_ACCESS_KEY": "canary-wrong"})

    assert "S3 answers" in said
    assert "check bucket, region and what the role of this process may do" in said
    assert "canary" not in said


def python(code: str, folder: Path, **variables: str) -> str:
    """Run a script in a process of its own; return what it printed."""
    variables.pop("AWS_ENDPOINT_URL", None)
    environment = {"PATH": os.defpath, "HOME": str(folder), "TMPDIR": str(folder), **variables}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


UPLOAD = """
from pathlib import Path
from ol_core.objects import S3, FileObjectIOManager, S3FileObjectIOManager
s3 = S3(region="us-east-1", endpoint_url="{url}")
store = {store}
print("ready", flush=True)
print(store.put(Path("{file}"), key="a/v", version="v").sha256)
"""


@pytest.mark.parametrize("kind", ["s3", "folder"])
def test_a_process_killed_at_any_moment_leaves_no_half_object(  # noqa: PLR0917 - fixtures
    store: S3FileObjectIOManager, seaweedfs_server: SeaweedFS, large: Path, tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "objects"
    made = {
        "s3": f'S3FileObjectIOManager(bucket="{store.bucket}", prefix="{store.prefix}", s3=s3, writable=True)',
        "folder": f'FileObjectIOManager(url="{folder}", writable=True)',
    }[kind]
    code = UPLOAD.format(url=seaweedfs_server.s3_url, store=made, file=large)
    variables = {**seaweedfs_server.aws_variables, "PATH": os.defpath, "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    variables.pop("AWS_ENDPOINT_URL")
    longest = {"s3": 1.5, "folder": 0.1}[kind]

    def whole() -> bool:
        """Whether the object is there; it is never there in part."""
        if kind == "folder":
            target = folder / "a" / "v"
            return target.exists() and target.read_bytes() == large.read_bytes()
        found = visible(store)
        if not found:
            return False
        with store.open(f"{store.root}/a/v") as stream:
            assert stream.read() == large.read_bytes()
        return True

    killed = 0
    for moment in [longest * number / 6 for number in range(6)]:
        with subprocess.Popen([sys.executable, "-c", code], env=variables, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(moment)
            process.send_signal(signal.SIGKILL)
        killed += process.returncode == -signal.SIGKILL
        if whole():
            break
    assert killed

    subprocess.run([sys.executable, "-c", code], env=variables, check=True, capture_output=True)
    assert whole()
    if kind == "folder":
        assert [one.name for one in (folder / "a").iterdir()] == ["v"]


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, large: Path) -> None:
    code = f"""
        import resource, signal
        from pathlib import Path
        from ol_core.failures import TransientFailure
        from ol_core.objects import FileObjectIOManager
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        try:
            FileObjectIOManager(url="{tmp_path}/full", writable=True).put(Path("{large}"), key="a/v", version="v")
        except TransientFailure as error:
            print(error)
    """

    assert "File too large; nothing of it is visible" in python(code, tmp_path)
    assert list((tmp_path / "full" / "a").iterdir()) == []


MEMORY = """
    import resource
    from pathlib import Path
    from ol_core.objects import S3, S3FileObjectIOManager
    import boto3.s3.transfer
    from concurrent.futures import ThreadPoolExecutor
    s3 = S3(region="us-east-1", endpoint_url="{url}")
    s3.client()
    store = S3FileObjectIOManager(bucket="{bucket}", prefix="{prefix}", s3=s3, writable=True)
    file, copy = Path("large"), Path("copy")
    with file.open("wb") as writer:
        writer.truncate({size})
        writer.write(b"begin")
        writer.seek({size} - 3)
        writer.write(b"end")
    used = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) << 10
    limit = used + (256 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    stored = store.put(file, key="large/v", version="v")
    store.fetch(stored.path, copy, sha256=stored.sha256)
    print(stored.size_bytes, copy.stat().st_size)
"""


def in_little_memory(server: SeaweedFS, folder: Path, prefix: str, size: int) -> None:
    code = MEMORY.format(url=server.s3_url, bucket=server.bucket, prefix=prefix, size=size)

    assert python(code, folder, **server.aws_variables).split() == [str(size), str(size)]
    (folder / "large").unlink()
    (folder / "copy").unlink()


def test_a_large_file_goes_up_and_down_in_constant_memory(
    seaweedfs_server: SeaweedFS, tmp_path: Path, prefix: str
) -> None:
    """The benchmark does it with 2 GiB; the limit is the same."""
    in_little_memory(seaweedfs_server, tmp_path, prefix, 512 << 20)


def test_assets_hand_over_and_receive_files(store: S3FileObjectIOManager, large: Path) -> None:
    partitions = dg.StaticPartitionsDefinition(["a", "b/c"])
    seen: list[tuple[Path, bool]] = []

    @dg.asset(partitions_def=partitions)
    def archive() -> ObjectFile:
        return ObjectFile(large, version="v1", suffix=".xml.tar.gz")

    @dg.asset(partitions_def=partitions)
    def size(archive: Path) -> None:
        seen.append((archive, archive.read_bytes() == large.read_bytes()))

    with dg.DagsterInstance.ephemeral() as instance:
        result, _ = (
            dg.materialize([archive, size], instance=instance, resources={"io_manager": store}, partition_key=one)
            for one in ("b/c", "a")
        )
        (event,) = result.asset_materializations_for_node("archive")

    assert [equal for _, equal in seen] == [True, True]
    assert not any(path.exists() for path, _ in seen)
    assert event.metadata["key"].value == "archive/b%2Fc/v1.xml.tar.gz"
    assert event.metadata["version"].value == "v1"
    assert large.exists()
