"""Streaming downloads from a real loopback server that also cuts, stalls and redirects."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import httpx
import pytest
from ol_core.failures import PermanentFailure, TransientFailure, UpstreamMissing
from ol_core.http import BearerAuth, HttpClient, HttpPolicy, Runtime

CONTENT = bytes(range(256)) * 16_384  # 4 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class FileServer(BaseHTTPRequestHandler):
    """What a path does is its first part; `cut` and `busy` do it for the first `n` requests."""

    seen: ClassVar[list[tuple[str, dict[str, str]]]] = []

    def do_GET(self) -> None:
        self.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        what, _, rest = self.path.strip("/").partition("/")
        again = [path for path, _ in self.seen].count(self.path) > int(rest or 0)
        if what == "redirect":
            self.send_response(302)
            self.send_header(
                "Location", f"http://localhost:{self.connection.getsockname()[1]}/whole?X-Amz-Signature=s3cr3t"
            )
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif what == "missing":
            self.send_error(404)
        elif what == "busy" and not again:
            self.send_error(503)
        elif what == "chunked":
            self._chunked(complete=again)
        else:
            self._whole(cut=what == "cut" and not again)

    def _whole(self, *, cut: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/gzip")
        self.send_header("Content-Encoding", "gzip")  # as stored in a bucket; the bytes are not ours to change
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:-1000] if cut else CONTENT)
        self.close_connection = cut

    def _chunked(self, *, complete: bool) -> None:
        self.protocol_version = "HTTP/1.1"
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(CONTENT), CONTENT))
        if complete:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), FileServer) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()
        thread.join()


@pytest.fixture
def client(server: str) -> Iterator[HttpClient]:
    FileServer.seen.clear()
    policy = HttpPolicy(attempts=3)
    with HttpClient(server, auth=BearerAuth("tok-canary"), policy=policy, runtime=Runtime(sleep=lambda _: None)) as one:
        yield one


@pytest.mark.parametrize("path", ["whole", "redirect", "cut/1", "busy/2", "chunked/1"])
def test_a_file_arrives_whole_and_without_a_credential(client: HttpClient, tmp_path: Path, path: str) -> None:
    destination = tmp_path / "course.tar.gz"
    download = client.download(f"{client.base_url}/{path}", destination)
    assert (download.sha256, download.size_bytes) == (SHA256, len(CONTENT))
    assert destination.read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [destination]
    assert all("authorization" not in headers for _, headers in FileServer.seen)


def test_what_the_server_says_about_the_type_is_kept(client: HttpClient, tmp_path: Path) -> None:
    assert client.download(f"{client.base_url}/whole", tmp_path / "x").content_type == "application/gzip"


@pytest.mark.parametrize("path", ["cut/9", "chunked/9", "busy/9"])
def test_what_stays_broken_is_transient_and_leaves_nothing_behind(
    client: HttpClient, tmp_path: Path, path: str
) -> None:
    destination = tmp_path / "course.tar.gz"
    destination.write_text("the file before")
    with pytest.raises(TransientFailure):
        client.download(f"{client.base_url}/{path}", destination)
    assert len(FileServer.seen) == 3
    assert destination.read_text() == "the file before"
    assert list(tmp_path.iterdir()) == [destination]


def test_a_missing_file_is_missing(client: HttpClient, tmp_path: Path) -> None:
    with pytest.raises(UpstreamMissing, match="404"):
        client.download(f"{client.base_url}/missing", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_length_that_does_not_fit_is_a_cut_body(tmp_path: Path) -> None:
    transport = httpx.MockTransport(
        lambda _: httpx.Response(200, content=iter([b"abc"]), headers={"Content-Length": "4"})
    )
    client = HttpClient("https://files.example", runtime=Runtime(transport, lambda _: None))
    with pytest.raises(TransientFailure, match="gave 3 of 4 bytes"):
        client.download("https://files.example/x?verifier=s3cr3t", tmp_path / "x")


def test_a_download_that_takes_for_ever_is_given_up(tmp_path: Path) -> None:
    now = [0.0]

    def drip() -> Iterator[bytes]:
        while True:
            now[0] += 10
            yield b"x" * (1 << 20)

    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=drip()))
    policy = HttpPolicy(download_seconds=60)
    client = HttpClient("https://files.example", policy=policy, runtime=Runtime(transport, clock=lambda: now[0]))
    with pytest.raises(TransientFailure, match="took over 60 s"):
        client.download("https://files.example/x", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("location", ["ftp://files.example/x", "/loop"])
def test_a_redirect_that_leads_nowhere_is_permanent(tmp_path: Path, location: str) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(302, headers={"Location": location}))
    client = HttpClient("https://files.example", runtime=Runtime(transport, lambda _: None))
    with pytest.raises(PermanentFailure):
        client.download("https://files.example/loop", tmp_path / "x")
