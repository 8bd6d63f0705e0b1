"""Downloads that fail, are refused, are too long or are wrong: nothing is lost or left behind."""

import base64
import hashlib
import itertools
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ol_core.failures import OlError, PermanentFailure, TransientFailure, UpstreamMissing
from ol_core.http import BearerAuth, HttpClient, HttpPolicy, Runtime
from ol_devkit.servers.scripted import Say, ScriptedServer, in_turn, scripted_server

OLD = random.Random(1).randbytes(3_000_000)
NEW = random.Random(2).randbytes(3_000_000)
MIB = 1 << 20


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server(in_turn(Say())) as one:
        yield one


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[HttpClient]:
    with client_of(server) as one:
        yield one


def client_of(server: ScriptedServer, **policy: Any) -> HttpClient:
    return HttpClient(server.url, policy=HttpPolicy(**policy), runtime=Runtime(sleep=lambda _: None))


def fetched(client: HttpClient, tmp_path: Path, **options: Any) -> bytes:
    file = tmp_path / "course.tar.gz"
    download = client.download("file", file, **options)
    content = file.read_bytes()
    assert (download.size_bytes, download.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert list(tmp_path.iterdir()) == [file]
    return content


@pytest.mark.parametrize("fault", [Say(503), Say(429), Say(raw=b""), Say(body=OLD, cut_after=7), Say(pause_seconds=60)])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_file_arrives_whole_after_any_fault(
    server: ScriptedServer, tmp_path: Path, *, fault: Say, framing: Any
) -> None:
    stored = (("Content-Encoding", "gzip"), ("Content-Type", "application/gzip"))  # its bytes are not ours to change
    server.script = in_turn(fault, Say(200, stored, OLD, framing=framing))
    with client_of(server, timeout_seconds=1) as client:
        assert fetched(client, tmp_path) == OLD
        assert client.download("file", tmp_path / "course.tar.gz").content_type == "application/gzip"


@pytest.mark.parametrize("fault", [Say(503), Say(500), Say(raw=b""), Say(body=OLD, cut_after=7), Say(pause_seconds=60)])
def test_what_stays_broken_is_transient_and_leaves_the_file_of_before(
    server: ScriptedServer, tmp_path: Path, fault: Say
) -> None:
    file = tmp_path / "course.tar.gz"
    file.write_text("the file before")
    server.script = in_turn(fault)
    with client_of(server, attempts=3, timeout_seconds=1) as client, pytest.raises(TransientFailure):
        client.download("file", file)
    assert len(server.asked) == (1 if fault.status == 500 else 3)
    assert file.read_text() == "the file before"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(("status", "kind"), [(404, UpstreamMissing), (410, UpstreamMissing), (403, PermanentFailure)])
def test_a_file_that_is_not_given_is_told_once(
    server: ScriptedServer, client: HttpClient, tmp_path: Path, *, status: int, kind: type[OlError]
) -> None:
    server.script = in_turn(Say(status, body=lambda: itertools.repeat(bytes(1 << 16))))
    with pytest.raises(kind, match=str(status)):
        client.download("file", tmp_path / "x")
    assert len(server.asked) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_failure_names_the_whole_address(server: ScriptedServer, client: HttpClient, tmp_path: Path) -> None:
    server.script = in_turn(Say(body=OLD))
    with pytest.raises(PermanentFailure, match=f"GET {server.url}/file gave"):
        client.download("file", tmp_path / "x", sha256="0" * 64)


def test_a_length_that_does_not_fit_is_a_cut_body(tmp_path: Path) -> None:
    """Where a transport lets it pass; the one of this package does not."""
    transport = httpx.MockTransport(
        lambda _: httpx.Response(200, content=iter([b"abc"]), headers={"Content-Length": "4"})
    )
    client = HttpClient("https://files.example", runtime=Runtime(transport, lambda _: None))
    with pytest.raises(TransientFailure, match="gave 3 of 4 bytes"):
        client.download("https://files.example/x?verifier=s3cr3t", tmp_path / "x")


@pytest.mark.parametrize("status", [201, 202, 204, 206, 207])
def test_a_success_without_a_file_is_none(
    server: ScriptedServer, client: HttpClient, tmp_path: Path, status: int
) -> None:
    server.script = in_turn(Say(status, framing="close"))
    with pytest.raises(TransientFailure):
        client.download("file", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def b64(name: str, content: bytes) -> str:
    return base64.b64encode(hashlib.new(name, content).digest()).decode()


STATED = {
    "Repr-Digest": "sha-256=:{sha256}:",
    "Content-Digest": "unknown=:AAAA:, sha-512=:{sha512}:",
    "Digest": "SHA-256={sha256}",
    "Content-MD5": "{md5}",
    "x-amz-checksum-sha256": "{sha256}",
}


@pytest.mark.parametrize("header", STATED)
def test_a_digest_that_the_server_states_is_verified(
    server: ScriptedServer, client: HttpClient, tmp_path: Path, header: str
) -> None:
    digests = {name: b64(name, OLD) for name in ("sha256", "sha512", "md5")}
    stated = ((header, STATED[header].format(**digests)),)
    damaged = OLD[:1000] + bytes([OLD[1000] ^ 1]) + OLD[1001:]
    server.script = in_turn(Say(200, stated, damaged), Say(200, stated, OLD))
    assert fetched(client, tmp_path) == OLD
    assert len(server.asked) == 2

    server.asked.clear()
    server.script = in_turn(Say(200, stated, damaged))
    with pytest.raises(PermanentFailure, match=r"gave 3000000 bytes of .* was stated, twice"):
        client.download("file", tmp_path / "other")
    assert len(server.asked) == 2
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("header", "stated"),
    [
        ("x-amz-checksum-sha256", "b2xk-3"),
        ("Content-MD5", "not base64!"),
        ("Content-MD5", "AAAA"),
        ("Repr-Digest", "sha-256=:AAAA:"),
        ("Digest", "crc32c=AAAAAA=="),
        ("Digest", ",,=;"),
    ],
)
def test_a_digest_that_means_nothing_is_passed_over(
    server: ScriptedServer, client: HttpClient, tmp_path: Path, *, header: str, stated: str
) -> None:
    server.script = in_turn(Say(200, ((header, stated),), OLD))
    assert fetched(client, tmp_path) == OLD


def test_the_file_must_be_the_one_that_the_caller_knows(
    server: ScriptedServer, client: HttpClient, tmp_path: Path
) -> None:
    sha256 = hashlib.sha256(OLD).hexdigest()
    server.script = in_turn(Say(body=NEW), Say(body=OLD))
    assert fetched(client, tmp_path, sha256=sha256) == OLD
    server.script = in_turn(Say(body=NEW))
    with pytest.raises(PermanentFailure, match=sha256):
        client.download("file", tmp_path / "other", sha256=sha256)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_file_beyond_the_limit_is_refused(server: ScriptedServer, tmp_path: Path, framing: Any) -> None:
    server.script = in_turn(Say(body=lambda: itertools.repeat(bytes(1 << 16)), framing=framing))
    with client_of(server, max_download_bytes=MIB) as client, pytest.raises(PermanentFailure, match="1048576 bytes"):
        client.download("file", tmp_path / "x")
    assert len(server.asked) == 1
    assert list(tmp_path.iterdir()) == []
    server.script = in_turn(Say(body=bytes(MIB), framing=framing))
    with client_of(server, max_download_bytes=MIB) as client:
        assert len(fetched(client, tmp_path)) == MIB


def test_memory_does_not_grow_with_the_file(server: ScriptedServer, client: HttpClient, tmp_path: Path) -> None:
    block = bytes(MIB)
    server.script = in_turn(Say(body=lambda: itertools.repeat(block, 200), framing="chunked"))
    tracemalloc.start()
    try:
        client.download("file", tmp_path / "x")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "x").stat().st_size == 200 * MIB
    assert peak < 8 * MIB


@pytest.mark.parametrize("place", ["missing/x", "folder", "file/x", "x" * 253])
def test_a_place_that_cannot_be_written_is_permanent(
    server: ScriptedServer, client: HttpClient, tmp_path: Path, *, place: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    server.script = in_turn(Say(body=OLD))
    with pytest.raises(PermanentFailure, match="cannot be written"):
        client.download("file", tmp_path / place)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_is_transient(server: ScriptedServer, client: HttpClient, tmp_path: Path) -> None:
    server.script = in_turn(Say(body=OLD))
    (tmp_path / "x.part").symlink_to("/dev/full")
    with pytest.raises(TransientFailure, match="cannot be written: No space left"):
        client.download("file", tmp_path / "x")
    assert len(server.asked) == 1
    assert list(tmp_path.iterdir()) == []


def test_no_credential_follows_a_redirect_there_or_back(tmp_path: Path) -> None:
    """Canvas sends a download from its own address to a signed one elsewhere; a hostile one may send it back."""
    with scripted_server(in_turn(Say())) as origin, scripted_server(in_turn(Say())) as bucket:
        elsewhere = bucket.url.replace("127.0.0.1", "localhost")
        origin.script = in_turn(
            Say(
                302, (("Location", f"{elsewhere}/signed?X-Amz-Signature=c"), ("Set-Cookie", "session=canary")), b"moved"
            ),
            Say(body=OLD),
        )
        bucket.script = in_turn(Say(307, (("Location", f"{origin.url}/back"), ("Set-Cookie", "session=canary"))))
        address = origin.url.replace("://", "://user:pass-canary@")
        with HttpClient(address, auth=BearerAuth("tok-canary"), runtime=Runtime(sleep=lambda _: None)) as client:
            client.request("GET", "x", accept=(302,))
            assert "authorization" in origin.asked.pop().headers
            origin.script = in_turn(Say(302, (("Location", f"{elsewhere}/signed"),)), Say(body=OLD))
            client.download("file", tmp_path / "x")
            assert (tmp_path / "x").read_bytes() == OLD
            origin.script = in_turn(Say(302, (("Location", f"{elsewhere}/signed"),)), Say(body=OLD))
            client.download(f"{origin.url}/file", tmp_path / "x")
        asked = [*origin.asked, *bucket.asked]
    assert [one.target for one in asked] == ["/file", "/back"] * 2 + ["/signed"] * 2
    for one in asked:
        assert not {"authorization", "cookie", "referer"} & set(one.headers)
        assert "canary" not in repr(one)


@pytest.mark.parametrize("location", ["ftp://files.example/x", "/loop", "http://a..b/"])
def test_a_redirect_that_leads_nowhere_is_permanent(
    server: ScriptedServer, client: HttpClient, tmp_path: Path, location: str
) -> None:
    endless = Say(302, (("Location", location),), lambda: itertools.repeat(bytes(1 << 16)), framing="close")
    server.script = in_turn(endless)
    with pytest.raises(PermanentFailure):
        client.download("loop", tmp_path / "x")
