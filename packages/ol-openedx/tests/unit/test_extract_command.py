"""`ol openedx extract`."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from ol_openedx.archive import TABLE_KINDS, table_schema
from ol_openedx.commands import openedx
from olx_archives import pack, read, small_course


@pytest.fixture
def archives(tmp_path: Path) -> dict[str, Path]:
    """Two good archives of one course and one that is cut."""
    changed = small_course() | {"video/broken.xml": "<", "chapter/lost.xml": "<chapter/>"}
    contents = {"a": pack(small_course()), "b": pack(changed, root=""), "cut": pack(small_course())[:-9]}
    paths = {name: tmp_path / f"{name}.tar.gz" for name in contents}
    for name, content in contents.items():
        paths[name].write_bytes(content)
    return paths


def extract(*arguments: object) -> Result:
    return CliRunner().invoke(openedx, ["extract", *map(str, arguments)])


def test_tables_hold_all_archives_with_their_names_first(archives: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = extract(archives["a"], archives["b"], "--out", out)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == sorted(f"{kind}.parquet" for kind in TABLE_KINDS)
    for kind in TABLE_KINDS:
        table = pq.read_table(out / f"{kind}.parquet")
        assert table.column_names == ["archive", *table_schema(kind).names]
    metadata = pq.read_table(out / "course_metadata.parquet").to_pylist()
    assert [(row["archive"], row["course_id"], row["orphan_block_count"]) for row in metadata] == [
        ("a.tar.gz", "course-v1:Org+C1+R1", 0),
        ("b.tar.gz", "course-v1:Org+C1+R1", 1),
    ]
    blocks = pq.read_table(out / "course_blocks.parquet").to_pylist()
    assert [
        {name: row[name] for name in row if name != "archive"} for row in blocks if row["archive"] == "a.tar.gz"
    ] == [
        {name: row[name] for name in table_schema("course_blocks").names}
        for row in read(small_course()).rows["course_blocks"]
    ]


def test_the_summary_is_a_table_for_people(archives: dict[str, Path], tmp_path: Path) -> None:
    result = extract(archives["a"], archives["b"], "--out", tmp_path / "out")
    lines = result.stdout.splitlines()
    assert lines[0].split() == [
        "ARCHIVE", "COURSE", "BLOCKS", "ORPHANS", "DRAFTS", "VIDEOS", "STATIC_FILES", "STATIC_BYTES", "QUARANTINED",
        "SECONDS",
    ]  # fmt: skip
    assert lines[1].split()[:6] == ["a.tar.gz", "course-v1:Org+C1+R1", "8", "0", "0", "1"]
    assert lines[2].split()[:4] == ["b.tar.gz", "course-v1:Org+C1+R1", "8", "1"]
    assert "chapter 1, course 1, discussion 1, html 1, problem 1, sequential 1, vertical 1, video 1" in result.stdout
    assert "malformed_xml 1" in result.stdout
    assert str(tmp_path / "out" / "course_blocks.parquet") in result.stdout


def test_a_bad_archive_is_reported_and_the_others_are_extracted(archives: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = extract(archives["cut"], archives["b"], "--out", out)
    assert result.exit_code == 1
    assert "archive 'cut.tar.gz': the gzip stream is damaged" in result.stderr
    assert [row["archive"] for row in pq.read_table(out / "course_metadata.parquet").to_pylist()] == ["b.tar.gz"]


def test_json_tells_a_program_everything(archives: dict[str, Path], tmp_path: Path) -> None:
    result = extract(*archives.values(), "--out", tmp_path / "out", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["tables"] == {kind: str(tmp_path / "out" / f"{kind}.parquet") for kind in TABLE_KINDS}
    first, second, cut = found["archives"]
    assert [archive["status"] for archive in found["archives"]] == ["ok", "ok", "failed"]
    assert first["error"] is None
    assert first["block_count"] == sum(first["blocks_by_type"].values()) == 8
    assert second["quarantined_by_reason"] == {"malformed_xml": 1}
    assert (second["orphan_block_count"], second["static_file_count"]) == (1, 2)
    assert second["content_digest"] != first["content_digest"]
    assert cut["archive"] == "cut.tar.gz"
    assert "cut.tar.gz" in cut["error"]


def test_where_no_archive_can_be_read_the_tables_stay(archives: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    extract(archives["a"], "--out", out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    result = extract(archives["cut"], "--out", out, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["tables"] == {}
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_archives_of_one_file_name_are_told_apart_by_their_paths(archives: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "other" / "a.tar.gz"
    other.parent.mkdir()
    other.write_bytes(archives["a"].read_bytes())
    extract(archives["a"], other, "--out", tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "course_metadata.parquet").to_pylist()
    assert [row["archive"] for row in rows] == [str(archives["a"]), str(other)]


@pytest.mark.parametrize("arguments", [[], ["missing.tar.gz", "--out", "out"], ["."], [".", "--out", "out"]])
def test_wrong_use_exits_with_2(arguments: list[str]) -> None:
    assert extract(*arguments).exit_code == 2


def test_without_a_place_to_write_it_says_so(archives: dict[str, Path], tmp_path: Path) -> None:
    assert extract(archives["a"]).exit_code == 2
    (tmp_path / "file").touch()
    assert extract(archives["a"], "--out", tmp_path / "file").exit_code == 2
    result = extract(archives["a"], "--out", tmp_path / "file" / "below")
    assert result.exit_code == 1
    assert "the tables cannot be written to" in result.stderr


def test_the_command_and_the_reader_import_no_dagster(archives: dict[str, Path], tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from ol_openedx.commands import openedx\n"
        "assert 'pyarrow' not in sys.modules and 'defusedxml' not in sys.modules\n"
        "openedx(sys.argv[1:], standalone_mode=False)\n"
        "assert 'dagster' not in sys.modules\n"
        "assert 'pyarrow' in sys.modules\n"
    )
    arguments = [sys.executable, "-c", program, "extract", str(archives["a"]), "--out", str(tmp_path / "out")]
    subprocess.run(arguments, check=True, capture_output=True)
