"""The tables: their schemas, and Parquet files of them."""

import hashlib
import io
from pathlib import Path
from typing import cast

import ol_openedx.archive as package
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ol_openedx.archive import TABLE_KINDS, ArchiveError, table_schema, write_parquet_tables
from olx_archives import member, pack, read, small_course

TREE = small_course() | {
    "chapter/lost.xml": "<chapter/>",
    "drafts/problem/d.xml": "<problem/>",
    "video/broken.xml": "<",
    "static/straße.png": b"x",
}


def test_the_kinds_are_those_of_the_raw_tables() -> None:
    assert TABLE_KINDS == (
        "course_metadata",
        "course_blocks",
        "course_video",
        "course_policy",
        "course_static_assets_manifest",
        "course_quarantine",
    )


def test_the_public_names_are_there_and_sorted() -> None:
    assert list(package.__all__) == sorted(
        package.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name)
    )
    assert all(hasattr(package, name) for name in package.__all__)


@pytest.mark.parametrize("kind", TABLE_KINDS)
def test_rows_have_exactly_the_columns_of_their_schema(kind: str) -> None:
    schema = table_schema(kind)
    rows = read(TREE).rows[kind]
    assert rows
    assert all(list(row) == schema.names or set(row) == set(schema.names) for row in rows)
    required = [field.name for field in schema if not field.nullable]
    assert all(row[name] is not None for row in rows for name in required)
    pa.Table.from_pylist(rows, schema=schema).validate(full=True)


def test_course_id_comes_first_and_types_are_as_documented() -> None:
    for kind in TABLE_KINDS:
        assert table_schema(kind).names[0] == "course_id"
        assert not table_schema(kind).field("course_id").nullable
    blocks = table_schema("course_blocks")
    assert blocks.field("start_at").type == pa.timestamp("us")
    assert blocks.field("block_index") == pa.field("block_index", pa.int64(), nullable=True)
    assert table_schema("course_video").field("duration_seconds").type == pa.float64()


def test_the_manifest_lists_static_files_and_nothing_else() -> None:
    """O3: `static/` was left out and policies with secrets were in."""
    rows = read(TREE).rows["course_static_assets_manifest"]
    assert [(row["path"], row["size_bytes"], row["content_type"]) for row in rows] == [
        ("images/logo.png", 4, "image/png"),
        ("notes.txt", 5, "text/plain"),
        ("straße.png", 1, "image/png"),
    ]
    assert rows[1]["sha256"] == hashlib.sha256(b"notes").hexdigest()


def test_counts_add_up() -> None:
    link = member("course/static/link", b"2", linkname="x")
    found = read(pack(TREE | {".DS_Store": "", "video/a.srt": ""}, more=[(link, b"")]))
    summary = found.summary
    assert summary.block_count == len(found.blocks()) == sum(summary.blocks_by_type.values())
    assert summary.orphan_block_count == len(found.blocks("orphan")) == 1
    assert summary.draft_block_count == len(found.blocks("draft")) == 1
    assert summary.quarantined_count == len(found.quarantine) == sum(summary.quarantined_by_reason.values()) == 3
    assert summary.static_file_count == len(found.rows["course_static_assets_manifest"])
    members = len(TREE) + 3
    refused = summary.quarantined_by_reason["link_member"]
    assert summary.member_count + summary.skipped_count + refused == members


FRAGMENTS = [
    '<problem url_name="prob"/>',
    '<vertical url_name="unit"/>',
    "<vertical>",
    "</vertical>",
    "<section/>",
    "<html/>",
    ' filename="page"',
    ' start="x"',
    "{",
    '"',
    "&",
    "\x00",
    "é",
]
EDITABLE = [path for path in sorted(small_course()) if path.endswith((".xml", ".json"))]


@settings(max_examples=60, deadline=None)
@given(
    edits=st.lists(
        st.tuples(st.sampled_from(EDITABLE), st.integers(0, 200), st.sampled_from(FRAGMENTS)), min_size=1, max_size=6
    ),
    missing=st.sets(st.sampled_from(EDITABLE), max_size=2),
)
def test_whatever_the_files_hold_the_rows_hold_together(edits: list[tuple[str, int, str]], missing: set[str]) -> None:
    tree = {path: content for path, content in small_course().items() if path not in missing}
    for path, position, fragment in edits:
        text = str(tree.get(path, ""))
        tree[path] = text[: position % (len(text) + 1)] + fragment + text[position % (len(text) + 1) :]
    try:
        found = read(tree)
    except ArchiveError:
        return
    ids = [(row["state"], row["block_id"]) for row in found.rows["course_blocks"]]
    assert len(ids) == len(set(ids))
    assert [row["block_index"] for row in found.blocks()] == list(range(found.summary.block_count))
    assert sum(cast("int", row["child_count"]) for row in found.blocks()) == found.summary.block_count - 1
    for kind, rows in found.rows.items():
        pa.Table.from_pylist(rows, schema=table_schema(kind)).validate(full=True)


def test_parquet_files_hold_the_rows(tmp_path: Path) -> None:
    found = read(TREE)
    summary = write_parquet_tables(io.BytesIO(pack(TREE)), name="course.tar.gz", out=tmp_path / "new")
    assert summary == found.summary
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(
        f"{kind}.parquet" for kind in TABLE_KINDS
    )
    for kind in TABLE_KINDS:
        table = pq.read_table(tmp_path / "new" / f"{kind}.parquet")
        assert table.schema == table_schema(kind)
        assert table.to_pylist() == [{name: row[name] for name in table.column_names} for row in found.rows[kind]]


def test_a_refused_archive_leaves_the_files_as_they_were(tmp_path: Path) -> None:
    write_parquet_tables(io.BytesIO(pack(TREE)), name="a", out=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ArchiveError):
        write_parquet_tables(io.BytesIO(pack(TREE)[:-1]), name="b", out=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_same_archive_gives_the_same_bytes(tmp_path: Path) -> None:
    """O18: the same version was rewritten with other bytes."""
    for name in ("a", "b"):
        write_parquet_tables(io.BytesIO(pack(TREE)), name="x", out=tmp_path / name)
    for kind in TABLE_KINDS:
        assert (tmp_path / "a" / f"{kind}.parquet").read_bytes() == (tmp_path / "b" / f"{kind}.parquet").read_bytes()


def test_many_rows_come_in_batches() -> None:
    tree = small_course() | {f"static/{number}": b"" for number in range(2500)}
    assert len(read(tree).rows["course_static_assets_manifest"]) == 2502
