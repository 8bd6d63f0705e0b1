"""`ol demo` as a person runs it: the real command, no server, no credential, no environment variable."""

import gzip
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
from ol_devkit.generators import OlxExport, generate_olx_course
from ol_devkit.sandbox import SEED

OL = Path(sys.executable).with_name("ol")


@dataclass(frozen=True)
class Demo:
    data_dir: Path
    code: int
    summary: dict[str, Any]
    progress: str

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.data_dir / "warehouse.duckdb"), read_only=True) as warehouse:
            return warehouse.sql(sql).fetchall()


def demo(data_dir: Path, *options: str) -> Demo:
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    command = [str(OL), "demo", "--data-dir", str(data_dir), "--json", *options]
    done = subprocess.run(command, env=environment, cwd=data_dir.parent, capture_output=True, text=True, check=False)
    return Demo(data_dir, done.returncode, json.loads(done.stdout), done.stderr)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return demo(tmp_path_factory.mktemp("generated") / "data", "--courses", "3")


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "olx").mkdir()
    for index, name in enumerate(("good", "cut", "flipped")):
        with (folder / "olx" / f"{name}.tar.gz").open("wb") as stream:
            generate_olx_course(SEED, index, "small").write(stream, OlxExport.nth(0))
    cut, flipped = folder / "olx" / "cut.tar.gz", folder / "olx" / "flipped.tar.gz"
    cut.write_bytes(cut.read_bytes()[:-2000])
    content = bytearray(flipped.read_bytes())
    content[-6] ^= 0xFF
    flipped.write_bytes(content)
    (folder / "olx" / "empty.tar.gz").write_bytes(gzip.compress(b"\0" * 10240))
    return demo(folder / "data", "--olx", str(folder / "olx"), "--courses", "1")


def test_everything_is_built(generated: Demo) -> None:
    assert generated.code == 0, generated.progress
    assert generated.summary["failed"] == []
    assert generated.summary["quarantined"] == []
    assert generated.summary["rows"]["mart.marts__course_catalog"] == 6
    assert generated.summary["webhooks"] == {"received": 6, "verified": 6}
    assert generated.query("select platform, count(*) from mart.marts__course_catalog group by 1 order by 1") == [
        ("canvas", 3),
        ("openedx", 3),
    ]


def test_the_catalog_says_what_was_generated(generated: Demo) -> None:
    truths = [generate_olx_course(SEED, index, "small").truth for index in range(3)]
    rows = generated.query(
        "select content_count, video_count, round(video_hours * 3600, 1), file_count, file_bytes, "
        "orphan_count, draft_count from mart.marts__course_catalog where platform = 'openedx'"
    )
    assert sorted(rows) == sorted(
        (
            len(truth.published),
            truth.videos,
            round(truth.video_seconds, 1),
            truth.static_files,
            truth.static_bytes,
            len(truth.orphans),
            len(truth.drafts),
        )
        for truth in truths
    )


def test_a_second_run_confirms_that_all_is_current(generated: Demo) -> None:
    again = demo(generated.data_dir)

    assert again.code == 0
    assert again.summary["up_to_date"] is True
    assert again.summary["runs"] == []
    assert again.summary["rows"] == generated.summary["rows"]


def test_a_bad_archive_fails_alone_with_its_reason(damaged: Demo) -> None:
    assert damaged.code == 1
    assert len(damaged.summary["failed"]) == 3
    assert all("mitx/openedx/raw_data/course_xml" in failure["asset"] for failure in damaged.summary["failed"])
    assert damaged.query(
        "select count(*) filter (where has_content), count(*) "
        "from mart.marts__course_catalog where platform = 'openedx'"
    ) == [(1, 4)]


def test_a_second_run_reports_what_stands_and_tries_it_no_more(damaged: Demo) -> None:
    again = demo(damaged.data_dir)

    assert again.code == 1
    assert again.summary["runs"] == []
    assert again.summary["failed"] == damaged.summary["failed"]
