"""Canary values behind every reference: wherever a run goes wrong, none of them is written or said."""

import base64
import gzip
import json
import logging
import os
import re
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap
from ol_core.code_locations import installed, load
from ol_core.environment import load_environment
from ol_core.secrets import secrets_resource
from ol_core.secrets.commands import declared_references
from ol_devkit.campus import Campus, CampusContent, Scripted
from ol_devkit.daemon import FailedTick, FinishedRun, run_until_quiet
from ol_devkit.sandbox import sandbox

_ENCODED = re.compile(rb"[A-Za-z0-9+/_-]{24,}={0,2}")


@pytest.fixture
def restored_environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def break_everything(campus: Campus) -> None:
    """Each kind of credential is refused by somebody, and each kind of answer is wrong for somebody."""
    denied = [Scripted(status=401, body=b'{"detail": "bad credential"}')] * 500
    failing = [Scripted(status=500, body=b"<html>oops</html>")] * 500
    campus.script(("POST", "/mitx/lms/oauth2/access_token"), denied)
    campus.script(("POST", "/mitxonline/studio/api/courses/v0/export/"), failing)
    campus.script(("POST", "/learn/api/v1/webhooks/content_files/"), denied)


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every file, every value of its databases, and both unpacked and decoded where they are."""
    for file in sorted(one for one in folder.rglob("*") if one.is_file()):
        yield str(file), file.read_bytes()
        if file.suffix == ".gz":
            yield f"{file} unpacked", gzip.decompress(file.read_bytes())
        if file.suffix == ".db":
            for value in database_values(file):
                yield f"a value in {file}", value


def database_values(file: Path) -> Iterator[bytes]:
    with sqlite3.connect(file) as database:
        for (table,) in database.execute("select name from sqlite_master where type = 'table'").fetchall():
            for row in database.execute(f'select * from "{table}"'):
                for value in row:
                    data = value if isinstance(value, bytes) else str(value).encode()
                    yield zlib.decompress(data) if data[:1] == b"\x78" and isinstance(value, bytes) else data
    database.close()


def leaks(canaries: list[str], found: Iterator[tuple[str, bytes]]) -> list[str]:
    """Return where a canary stands, plainly, percent-encoded, or in base64."""
    places = []
    for place, content in found:
        decoded = b"\n".join(_decoded(one) for one in set(_ENCODED.findall(content)))
        if any(canary.encode() in content or canary.encode() in decoded for canary in canaries):
            places.append(place)
    return places


def _decoded(text: bytes) -> bytes:
    padded = text.rstrip(b"=") + b"=" * (-len(text.rstrip(b"=")) % 4)
    try:
        return base64.b64decode(padded, altchars=b"-_") if b"-" in text or b"_" in text else base64.b64decode(padded)
    except ValueError:
        return b""


@pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`")  # Dagster's own snapshot reads it
@pytest.mark.usefixtures("restored_environment")
def test_no_canary_is_found_where_everything_fails(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    content = CampusContent.generated(
        seed=9, openedx_courses=3, canvas_courses=2, deployments=("mitx", "mitxonline", "xpro")
    )
    with sandbox(tmp_path, content) as campus, dg.DagsterInstance.get() as instance:
        break_everything(campus)
        environment = load_environment()
        references = [ref for _, ref in declared_references(environment)]
        canaries = [secrets_resource(environment).get(ref) for ref in references]
        locations = load(installed())
        outcomes = list(run_until_quiet(instance, locations, lambda _location, _job: None))
        snapshots = {
            name: dg.serialize_value(RepositorySnap.from_def(definitions.get_repository_def()))
            for name, definitions in locations.items()
        }
    said = capfd.readouterr()

    assert len(set(canaries)) == len(canaries) == 8
    assert {one.location for one in outcomes if isinstance(one, FinishedRun) and not one.success} >= {
        "openedx",
        "canvas",
    }
    assert {one.sensor for one in outcomes if isinstance(one, FailedTick)} == {"mitx_openedx_sweep"}
    told = [
        ("stdout", said.out.encode()),
        ("stderr", said.err.encode()),
        ("the log", caplog.text.encode()),
        ("the outcomes", repr(outcomes).encode()),
        *((f"the snapshot of {name}", snapshot.encode()) for name, snapshot in snapshots.items()),
    ]
    assert all(b"oauth2/access_token" in text for place, text in told if place == "the outcomes")
    assert all("openedx_api" in snapshot for name, snapshot in snapshots.items() if name == "openedx")
    (tmp_path / "secrets.toml").unlink()
    assert leaks(canaries, iter(told)) == []
    assert leaks(canaries, contents(tmp_path)) == []


@pytest.mark.parametrize(
    "planted",
    [
        b"canary-1234567890",
        gzip.compress(b"canary-1234567890", mtime=0),
        base64.b64encode(b"user:canary-1234567890"),
        json.dumps({"a": base64.urlsafe_b64encode(b"???canary-1234567890").decode()}).encode(),
    ],
)
def test_a_planted_canary_is_found(tmp_path: Path, planted: bytes) -> None:
    (tmp_path / ("a.gz" if planted[:2] == b"\x1f\x8b" else "a.txt")).write_bytes(planted)
    with sqlite3.connect(tmp_path / "runs.db") as database:
        database.execute("create table t (v blob)")
        database.execute("insert into t values (?)", (zlib.compress(b"said canary-1234567890"),))
    database.close()

    assert len(leaks(["canary-1234567890"], contents(tmp_path))) == 2
