"""`ol canvas inspect`."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cartridge_builder import physics
from click.testing import CliRunner
from ol_canvas.commands import canvas


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.imscc"
    path.write_bytes(physics().pack().getvalue())
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.imscc"
    path.write_bytes(physics().pack().getvalue()[:500])
    return path


def test_a_table_for_each_cartridge(good: Path) -> None:
    result = CliRunner().invoke(canvas, ["inspect", str(good)])
    assert result.exit_code == 0
    lines = {" ".join(line.split()) for line in result.stdout.splitlines()}
    assert {
        str(good),
        "title Physics & You",
        "version 1.1.0",
        "items: page 2",
        "files 1",
        "bytes 7",
        "quarantined 0",
    } <= lines


def test_a_bad_cartridge_is_reported_and_the_others_are_read(good: Path, bad: Path) -> None:
    result = CliRunner().invoke(canvas, ["inspect", str(bad), str(good), str(good.parent / "none"), "--json"])
    assert result.exit_code == 1
    reports = json.loads(result.stdout)
    assert [report["status"] for report in reports] == ["failed", "ok", "failed"]
    assert "bad.imscc" in reports[0]["error"]
    assert reports[1]["items_by_type"]["page"] == 2
    assert reports[1]["content_digest"]
    assert "failed: " in CliRunner().invoke(canvas, ["inspect", str(bad)]).stdout


def test_quarantine_is_listed(good: Path) -> None:
    course = physics()
    course.members["quiz/assessment_meta.xml"] = b"<quiz>\n<"
    good.write_bytes(course.pack().getvalue())
    result = CliRunner().invoke(canvas, ["inspect", str(good)])
    assert "malformed_xml: quiz/assessment_meta.xml, line 2: " in result.stdout
    (report,) = json.loads(CliRunner().invoke(canvas, ["inspect", "--json", str(good)]).stdout)
    (entry,) = report["quarantine"]
    assert (entry["path"], entry["line"], entry["reason"], entry["size_bytes"]) == (
        "quiz/assessment_meta.xml",
        2,
        "malformed_xml",
        8,
    )


def test_parquet_of_all_readable_cartridges(good: Path, bad: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.imscc"
    other.write_bytes(good.read_bytes())
    out = tmp_path / "deep" / "out"
    assert CliRunner().invoke(canvas, ["inspect", str(good), str(bad), str(other), "--out", str(out)]).exit_code == 1
    assert sorted(path.name for path in out.iterdir()) == [
        "course_files.parquet",
        "course_items.parquet",
        "course_quarantine.parquet",
    ]
    items = pq.read_table(out / "course_items.parquet")
    assert items.column_names[:3] == ["cartridge", "course_id", "item_id"]
    assert items.column("cartridge").unique().to_pylist() == [str(good), str(other)]
    assert items.num_rows == 2 * 14


def test_tables_stay_where_no_cartridge_can_be_read(good: Path, bad: Path, tmp_path: Path) -> None:
    assert CliRunner().invoke(canvas, ["inspect", str(good), "--out", str(tmp_path / "out")]).exit_code == 0
    kept = pq.read_table(tmp_path / "out" / "course_items.parquet")
    assert CliRunner().invoke(canvas, ["inspect", str(bad), "--out", str(tmp_path / "out")]).exit_code == 1

    assert kept.num_rows
    assert pq.read_table(tmp_path / "out" / "course_items.parquet") == kept


def test_a_folder_that_cannot_be_written_is_named(good: Path) -> None:
    done = CliRunner().invoke(canvas, ["inspect", str(good), "--out", str(good / "out")])

    assert done.exit_code == 1
    assert done.stderr == f"Error: the tables cannot be written to {good / 'out'}: Not a directory\n"


def test_the_command_imports_no_dagster() -> None:
    check = (
        "import sys, ol_canvas.commands, ol_canvas.cartridge.parquet\n"
        "sys.exit(any(name.partition('.')[0] in ('dagster', 'pyarrow') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
