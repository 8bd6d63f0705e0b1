"""`ol demo` as people run it: the installed command, in a process of its own, on a bare environment."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
from ol_core.environment import development
from ol_core.tables import RawTableIOManager
from ol_devkit.generators import CartridgeCourse, OlxCourse


@dataclass(frozen=True)
class Demo:
    """Runs the command; only PATH, HOME (a folder that is not there) and TMPDIR are set."""

    folder: Path

    def start(self, data_dir: Path, *arguments: str) -> "subprocess.Popen[str]":
        for name in ("temporary", "working"):
            (self.folder / name).mkdir(exist_ok=True)
        return subprocess.Popen(
            [str(Path(sys.executable).parent / "ol"), "demo", "--json", "--data-dir", str(data_dir), *arguments],
            env={"PATH": os.defpath, "HOME": str(self.folder / "home"), "TMPDIR": str(self.folder / "temporary")},
            cwd=self.folder / "working",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, data_dir: Path, *arguments: str) -> "Outcome":
        with self.start(data_dir, *arguments) as process:
            output, said = process.communicate(timeout=280)
        return Outcome(data_dir, process.returncode, output, said)


@dataclass(frozen=True)
class Outcome:
    data_dir: Path
    code: int
    output: str
    said: str

    @property
    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads(self.output)  # exactly one document: anything else is not JSON
        return summary

    @property
    def failed(self) -> dict[str, dict[str, str]]:
        """What failed, by the name of the file that it came from."""
        return {Path(failure["archive"]).name: failure for failure in self.summary["failed"]}

    def catalog(self) -> dict[str, dict[str, Any]]:
        """Rows of the course catalog, by course id."""
        with duckdb.connect(str(self.data_dir / "warehouse.duckdb"), read_only=True) as warehouse:
            found = warehouse.sql("select * from mart.marts__course_catalog").to_arrow_table().to_pylist()
        assert len({row["course_id"] for row in found}) == len(found)
        return {row["course_id"]: row for row in found}

    def raw(self, table: str) -> list[dict[str, Any]]:
        """Rows of an Iceberg table."""
        tables = RawTableIOManager.of(development(data_dir=self.data_dir, campus_url="http://127.0.0.1"))
        rows: list[dict[str, Any]] = tables.read(table).to_pylist()
        return rows

    def files(self) -> dict[str, int]:
        """Size of each object and of each file of the tables."""
        folders = [self.data_dir / name for name in ("objects", "tables")]
        found = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
        return {str(file.relative_to(self.data_dir)): file.stat().st_size for file in found}

    def says_of_course_run(self, course_id: str, course: OlxCourse) -> dict[str, Any]:
        """Check that the catalog says what the generator knows of a course run; return its row."""
        row, truth = self.catalog()[course_id], course.truth
        assert row["block_counts"] == counts(truth.published_by_type)
        assert row["content_count"] == len(truth.published)
        assert row["video_count"] == truth.videos
        assert row["video_hours"] == pytest.approx(truth.video_seconds / 3600, abs=1e-6)
        assert (row["file_count"], row["file_bytes"]) == (truth.static_files, truth.static_bytes)
        assert (row["orphan_count"], row["draft_count"]) == (len(truth.orphans), len(truth.drafts))
        assert (row["platform"], row["quarantined_count"]) == ("openedx", 0)
        return row

    def says_of_canvas_course(self, course_id: str, course: CartridgeCourse) -> dict[str, Any]:
        """Check that the catalog says what the generator knows of a Canvas course; return its row."""
        row, items = self.catalog()[course_id], course.truth.items
        assert row["block_counts"] == counts(items)
        assert row["content_count"] == sum(items.values())
        assert (row["file_count"], row["file_bytes"]) == (items["file"], course.truth.file_bytes)
        assert (row["platform"], row["quarantined_count"]) == ("canvas", 0)
        return row


def counts(by_type: Mapping[str, int]) -> str:
    return ";".join(f"{name}={count}" for name, count in sorted(by_type.items()))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return Demo(tmp_path_factory.mktemp("around"))
