"""Downloads that break off are taken up where they did, and two files are never mixed."""

import base64
import hashlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ol_core.http import HttpClient, HttpPolicy, Runtime
from ol_devkit.servers.scripted import Asked, Say, ScriptedServer, in_turn, scripted_server

OLD = random.Random(1).randbytes(3_000_000)
NEW = random.Random(2).randbytes(3_000_000)
DATES = (("Last-Modified", "Wed, 01 Jan 2020 00:00:00 GMT"), ("Date", "Wed, 01 Jan 2020 01:00:00 GMT"))


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


class Bucket:
    """Serves a file as S3 does: with an ETag, in ranges, and only while `If-Range` fits; breaks off as it is told.

    Args:
        contents: The file; another one each time that `change` is called.
        cuts: After how many bytes each answer breaks off; None for not.
        validators: Headers that tell the file; `{}` is replaced by its hash.
    """

    def __init__(
        self,
        *contents: bytes,
        cuts: tuple[int | None, ...] = (None,),
        validators: tuple[tuple[str, str], ...] = (("ETag", '"{}"'),),
    ) -> None:
        self._contents, self._cuts, self._validators = list(contents), list(cuts), validators
        self.honours_if_range = self.honours_range = self.repeats_validators = True

    def change(self) -> None:
        self._contents.pop(0)

    def __call__(self, asked: Asked) -> Say:
        content = self._contents[0]
        name = hashlib.sha256(content).hexdigest()
        validators = tuple((header, value.format(name)) for header, value in self._validators)
        cut = self._cuts.pop(0) if len(self._cuts) > 1 else self._cuts[0]
        wanted, condition = asked.headers.get("range"), asked.headers.get("if-range")
        same = condition in {value for _, value in validators} or not self.honours_if_range
        if not wanted or not self.honours_range or not same:
            return Say(200, validators, content, cut_after=cut)
        first = int(wanted.removeprefix("bytes=").rstrip("-"))
        if first >= len(content):
            return Say(416, (("Content-Range", f"bytes */{len(content)}"),))
        said = (("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}"),)
        return Say(206, said + (validators if self.repeats_validators else ()), content[first:], cut_after=cut)


def ranges(server: ScriptedServer) -> list[int]:
    """First byte that each request asked for."""
    return [int(asked.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-")) for asked in server.asked]


def fetched(client: HttpClient, tmp_path: Path, **options: Any) -> bytes:
    file = tmp_path / "course.tar.gz"
    download = client.download("file", file, **options)
    content = file.read_bytes()
    assert (download.size_bytes, download.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert list(tmp_path.iterdir()) == [file]
    return content


def b64(name: str, content: bytes) -> str:
    return base64.b64encode(hashlib.new(name, content).digest()).decode()


@pytest.mark.parametrize("validators", [(("ETag", '"{}"'),), DATES, (("ETag", '"{}"'), *DATES)])
def test_what_broke_off_is_taken_up_where_it_did(
    server: ScriptedServer, client: HttpClient, tmp_path: Path, validators: tuple[tuple[str, str], ...]
) -> None:
    server.script = Bucket(OLD, cuts=(1_000_000, 500_000, 0, 100, None), validators=validators)
    assert fetched(client, tmp_path) == OLD
    assert ranges(server) == [0, 1_000_000, 1_500_000, 1_500_000, 1_500_100]
    assert {asked.headers["accept-encoding"] for asked in server.asked} == {"identity"}


def test_attempts_that_bring_something_are_not_counted(server: ScriptedServer, tmp_path: Path) -> None:
    server.script = Bucket(OLD, cuts=(100_000,))
    with client_of(server, attempts=2) as client:
        assert fetched(client, tmp_path) == OLD
    assert ranges(server) == list(range(0, len(OLD), 100_000))


def test_a_file_that_changed_in_between_is_fetched_whole(
    server: ScriptedServer, client: HttpClient, tmp_path: Path
) -> None:
    bucket = Bucket(OLD, NEW, cuts=(1_000_000, None))

    def changing(asked: Asked) -> Say:
        if "range" in asked.headers:
            bucket.change()
        return bucket(asked)

    server.script = changing
    assert fetched(client, tmp_path) == NEW
    assert ranges(server) == [0, 1_000_000]


@pytest.mark.parametrize("validators", [(("ETag", '"{}"'),), (("ETag", '"{}"'), *DATES), (("X", "{}"), *DATES)])
@pytest.mark.parametrize("repeats", [True, False])
@pytest.mark.parametrize("content", [NEW, NEW + b"more", NEW[:-7]])
def test_a_file_that_changed_is_not_mixed_by_a_server_that_ignores_the_condition(
    server: ScriptedServer, client: HttpClient, tmp_path: Path, *, validators: Any, repeats: bool, content: bytes
) -> None:
    bucket = Bucket(OLD, content, cuts=(1_000_000, None), validators=validators)
    bucket.honours_if_range, bucket.repeats_validators = False, repeats
    if validators[0][0] == "X":  # by dates alone these two are the same file: only its length tells
        bucket.repeats_validators = False

    def changing(asked: Asked) -> Say:
        if "range" in asked.headers and len(server.asked) == 2:
            bucket.change()
        return bucket(asked)

    server.script = changing
    assert fetched(client, tmp_path) == content


@pytest.mark.parametrize(
    "validators",
    [
        (),
        (("ETag", 'W/"{}"'),),
        (("ETag", "{}"),),
        (("ETag", 'W/"{}"'), *DATES),
        DATES[:1],
        (DATES[0], ("Date", DATES[0][1])),
    ],
)
def test_without_a_strong_validator_it_is_fetched_whole(
    server: ScriptedServer, client: HttpClient, tmp_path: Path, validators: Any
) -> None:
    server.script = Bucket(OLD, cuts=(1_000_000, 2_000_000, None), validators=validators)
    assert fetched(client, tmp_path) == OLD
    assert ranges(server) == [0, 0, 0]


def test_a_server_that_knows_no_ranges_sends_it_whole(
    server: ScriptedServer, client: HttpClient, tmp_path: Path
) -> None:
    server.script = bucket = Bucket(OLD, cuts=(1_000_000, None))
    bucket.honours_range = False
    assert fetched(client, tmp_path) == OLD
    assert ranges(server) == [0, 1_000_000]


def test_a_range_that_is_refused_is_followed_by_the_whole_in_the_same_attempt(
    server: ScriptedServer, tmp_path: Path
) -> None:
    etag = (("ETag", '"1"'),)
    server.script = in_turn(Say(200, etag, OLD, cut_after=1000), Say(416), Say(200, etag, OLD))
    with client_of(server, attempts=1) as client:
        assert fetched(client, tmp_path) == OLD
    assert ranges(server) == [0, 1000, 0]


def test_a_file_whose_last_byte_came_before_the_cut_is_whole_in_the_end(
    server: ScriptedServer, client: HttpClient, tmp_path: Path
) -> None:
    end = Say(200, (("ETag", '"1"'),), OLD, framing="chunked", cut_after=len(OLD))
    whole = Say(200, (("ETag", '"1"'),), OLD)
    server.script = in_turn(end, Say(416, (("Content-Range", f"bytes */{len(OLD)}"),)), whole)
    assert fetched(client, tmp_path) == OLD


@pytest.mark.parametrize(
    "content_range",
    [
        None,
        "",
        "bytes 0-2999999/3000000",
        "bytes 999-2999999/3000000",
        "bytes 1001-2999999/3000000",
        "bytes 1000-2999999/2999999",
        "bytes 1000-x/3000000",
        "bytes */3000000",
        "items 1000-2999999/3000000",
    ],
)
def test_another_part_than_was_asked_for_is_not_used(
    server: ScriptedServer, client: HttpClient, tmp_path: Path, content_range: str | None
) -> None:
    etag = (("ETag", '"1"'),)
    said = (("Content-Range", content_range),) if content_range is not None else ()
    wrong = Say(206, etag + said, b"x" * 2_999_000)
    server.script = in_turn(Say(200, etag, OLD, cut_after=1000), wrong, Say(200, etag, OLD))
    assert fetched(client, tmp_path) == OLD
    assert ranges(server) == [0, 1000, 0]


def test_a_shorter_part_than_was_asked_for_is_gone_on_from(
    server: ScriptedServer, client: HttpClient, tmp_path: Path
) -> None:
    def a_million_at_a_time(_: Asked) -> Say:
        first = ranges(server)[-1]
        if not first:
            return Say(200, (("ETag", '"1"'),), OLD, cut_after=1)
        last = min(first + 999_999, len(OLD) - 1)
        said = ("Content-Range", f"bytes {first}-{last}/{len(OLD)}")
        return Say(206, (("ETag", '"1"'), said), OLD[first : last + 1])

    server.script = a_million_at_a_time
    assert fetched(client, tmp_path) == OLD
    assert ranges(server) == [0, 1, 1_000_001, 2_000_001]


def test_a_digest_covers_what_was_taken_up(server: ScriptedServer, client: HttpClient, tmp_path: Path) -> None:
    stated = (("Repr-Digest", f"sha-256=:{b64('sha256', OLD)}:"), ("ETag", '"1"'))
    rest = ("Content-Range", f"bytes 1000-{len(OLD) - 1}/{len(OLD)}")
    mixed = Say(206, (*stated, rest), NEW[1000:])  # another file under the same ETag: only the digest tells
    server.script = in_turn(Say(200, stated, OLD, cut_after=1000), mixed, Say(200, stated, OLD))
    assert fetched(client, tmp_path) == OLD


def test_what_is_taken_up_goes_through_the_redirect_again(server: ScriptedServer, tmp_path: Path) -> None:
    with scripted_server(Bucket(OLD, cuts=(1_000_000, None))) as bucket, client_of(server) as client:
        server.script = in_turn(Say(302, (("Location", f"{bucket.url}/signed"),)))
        assert fetched(client, tmp_path) == OLD
        assert ranges(bucket) == [0, 1_000_000]
