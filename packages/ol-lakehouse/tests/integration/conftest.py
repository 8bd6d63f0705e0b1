"""A real Iceberg catalog with small raw tables of both systems, and the warehouse that the job builds from it.

mitx: A is in order apart from an orphan, a draft and a finding; B is listed and has no archive. mitxonline: A again
(the same run id, another course); C has an archive and is not listed. xpro: tables without rows. Canvas: 7 is in order
apart from an unpublished quiz and a locked file; 8 hides everything but its id; 9 is not listed and its cartridge
could not be read.
"""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

START, END = dt.datetime.fromisoformat("2024-01-08T00:00"), dt.datetime.fromisoformat("2024-05-01T00:00")
A, B, C = "course-v1:MITx+6.00x+2024", "course-v1:MITx+2.01x+2025", "MITx/8.01/2013"

SCHEMAS = {
    "course_runs": "course_id name org number run start_at:ts end_at:ts enrollment_start_at:ts enrollment_end_at:ts "
    "pacing is_hidden:bool version",
    "course_metadata": "course_id olx_course_id org course run display_name language start_at:ts end_at:ts "
    "enrollment_start_at:ts enrollment_end_at:ts self_paced:bool course_image archive_format content_digest "
    "block_count:int orphan_block_count:int draft_block_count:int video_count:int static_file_count:int "
    "static_bytes:int member_count:int quarantined_count:int attributes",
    "course_blocks": "course_id block_id block_type url_name display_name parent_block_id block_index:int depth:int "
    "state path is_inline:bool child_count:int format graded:bool start_at:ts due_at:ts attributes",
    "course_video": "course_id block_id url_name display_name state edx_video_id youtube_id duration_seconds:double "
    "html5_sources transcripts encoded_videos",
    "course_policy": "course_id run kind path is_current:bool content",
    "course_static_assets_manifest": "course_id path size_bytes:int sha256 content_type",
    "course_quarantine": "course_id path line:int reason detail size_bytes:int",
    "raw__canvas__api__courses": "course_id name course_code sis_course_id workflow_state start_at:ts end_at:ts "
    "account_id term_id",
    "raw__canvas__api__course_files": "course_id file_id folder_path display_name filename content_type "
    "size_bytes:int locked:bool hidden:bool updated_at:ts",
    "raw__canvas__api__course_pages": "course_id page_id url title published:bool front_page:bool updated_at:ts",
    "raw__canvas__api__course_assignments": "course_id assignment_id name points_possible:double due_at:ts "
    "published:bool submission_types",
    "raw__canvas__api__course_modules": "course_id module_id name position:int published:bool items_count:int",
    "raw__canvas__api__course_module_items": "course_id module_id item_id title item_type position:int content_id "
    "published:bool",
    "raw__canvas__cartridge__course_items": "course_id item_id item_type title path workflow_state module_id "
    "module_title module_position:int position:int size_bytes:int",
    "raw__canvas__cartridge__course_files": "course_id path size_bytes:int crc32 content_type",
    "raw__canvas__cartridge__course_quarantine": "course_id path line:int reason detail size_bytes:int",
}
OPENEDX_KINDS = tuple(name for name in SCHEMAS if not name.startswith("raw__"))


def block(course_id: str, name: str, kind: str, **values: object) -> dict[str, object]:
    return {
        "course_id": course_id,
        "block_id": name,
        "block_type": kind,
        "url_name": name,
        "state": "published",
    } | values


def metadata(course_id: str, **counts: object) -> dict[str, object]:
    zeros = ("block_count", "orphan_block_count", "draft_block_count", "video_count", "static_file_count")
    rest = ("static_bytes", "member_count", "quarantined_count")
    return {"course_id": course_id, "archive_format": "course"} | dict.fromkeys((*zeros, *rest), 0) | counts


def video(name: str, state: str, seconds: float | None) -> dict[str, object]:
    return {"course_id": A, "block_id": name, "url_name": name, "state": state, "duration_seconds": seconds}


def item(item_id: str, kind: str, **values: object) -> dict[str, object]:
    return {"course_id": "7", "item_id": item_id, "item_type": kind} | values


IN_MODULE = {"module_id": "m1", "module_title": "Week 1", "module_position": 1}

ROWS: dict[str, list[dict[str, object]]] = {
    "raw__mitx__openedx__course_runs": [
        {"course_id": A, "name": "Computing", "org": "MITx", "number": "6.00x", "run": "2024", "start_at": START},
        {"course_id": B, "name": "Mechanics", "org": "MITx", "number": "2.01x", "run": "2025", "version": "2"},
    ],
    "raw__mitx__openedx__course_metadata": [
        metadata(
            A, display_name="Computing (archive)", org="MITx", course="6.00x", run="2024", end_at=END,
            block_count=8, orphan_block_count=1, draft_block_count=1, video_count=2, static_file_count=2,
            static_bytes=350, quarantined_count=1,
        )
    ],
    "raw__mitx__openedx__course_blocks": [
        block(A, "course", "course", block_index=0, depth=0, display_name="Computing"),
        block(A, "ch1", "chapter", parent_block_id="course", block_index=1, depth=1),
        block(A, "seq1", "sequential", parent_block_id="ch1", block_index=2, depth=2),
        block(A, "vert1", "vertical", parent_block_id="seq1", block_index=3, depth=3),
        block(A, "html1", "html", parent_block_id="vert1", block_index=4, depth=4),
        block(A, "v1", "video", parent_block_id="vert1", block_index=5, depth=4),
        block(A, "v2", "video", parent_block_id="vert1", block_index=6, depth=4),
        block(A, "lti1", "lti_consumer", parent_block_id="vert1", block_index=7, depth=4),
        block(A, "lost", "html", state="orphan"),
        block(A, "html1", "html", state="draft", parent_block_id="vert1", depth=4),
    ],
    "raw__mitx__openedx__course_video": [
        video("v1", "published", 1800.0), video("v2", "published", None), video("v3", "orphan", 7200.0),
    ],
    "raw__mitx__openedx__course_policy": [
        {"course_id": A, "run": "2024", "kind": "policy", "path": "policies/2024/policy.json", "is_current": True},
    ],
    "raw__mitx__openedx__course_static_assets_manifest": [
        {"course_id": A, "path": "a.png", "size_bytes": 100, "sha256": "0" * 64},
        {"course_id": A, "path": "b.pdf", "size_bytes": 250, "sha256": "1" * 64},
    ],
    "raw__mitx__openedx__course_quarantine": [
        {"course_id": A, "path": "html/bad.xml", "line": 3, "reason": "malformed_xml", "detail": "mismatched tag"},
    ],
    "raw__mitxonline__openedx__course_runs": [{"course_id": A, "name": "Computing again"}],
    "raw__mitxonline__openedx__course_metadata": [
        metadata(A, block_count=2), metadata(C, display_name="Mechanics, 2013", org="MITx", block_count=1),
    ],
    "raw__mitxonline__openedx__course_blocks": [
        block(A, "course", "course", block_index=0, depth=0),
        block(A, "ch1", "chapter", parent_block_id="course", block_index=1, depth=1),
        block(C, "i4x://MITx/8.01/course/2013", "course", block_index=0, depth=0),
    ],
    "raw__canvas__api__courses": [
        {"course_id": "7", "name": "Writing", "course_code": "21W", "workflow_state": "available", "start_at": START},
        {"course_id": "8"},
    ],
    "raw__canvas__api__course_files": [{"course_id": "7", "file_id": "70", "size_bytes": 10}],
    "raw__canvas__api__course_pages": [{"course_id": "7", "page_id": "71", "title": "Intro", "published": True}],
    "raw__canvas__api__course_assignments": [{"course_id": "7", "assignment_id": "72", "name": "Essay"}],
    "raw__canvas__api__course_modules": [{"course_id": "7", "module_id": "73", "name": "Week 1", "position": 1}],
    "raw__canvas__api__course_module_items": [{"course_id": "7", "module_id": "73", "item_id": "74", "position": 1}],
    "raw__canvas__cartridge__course_items": [
        item("m1", "module", title="Week 1", workflow_state="active", **IN_MODULE),
        item("i1", "page", title="Intro", workflow_state="active", position=1, **IN_MODULE),
        item("i2", "assignment", title="Essay", workflow_state="published", position=2, **IN_MODULE),
        item("i3", "quiz", title="Not yet", workflow_state="unpublished", position=3, **IN_MODULE),
        item("i4", "weblink", position=4, **IN_MODULE),
        item("i5", "syllabus"),
        item("i6", "file", workflow_state="locked"),
        item("i7", "file", workflow_state="hidden"),
    ],
    "raw__canvas__cartridge__course_files": [
        {"course_id": "7", "path": "web_resources/a.png", "size_bytes": 5, "crc32": "00000000"},
        {"course_id": "7", "path": "web_resources/b.png", "size_bytes": 7, "crc32": "00000001"},
    ],
    "raw__canvas__cartridge__course_quarantine": [
        {"course_id": "9", "path": "imsmanifest.xml", "line": 1, "reason": "malformed_xml"},
    ],
}  # fmt: skip


def write_raw_tables(data_dir: Path, *, deployments: tuple[str, ...] = ("mitx", "mitxonline", "xpro")) -> None:
    """Create every raw table of the deployments and of Canvas, with ROWS where it names the table."""
    import pyarrow as pa
    from pyiceberg.catalog.sql import SqlCatalog

    types = {"ts": pa.timestamp("us"), "int": pa.int64(), "bool": pa.bool_(), "double": pa.float64(), "": pa.string()}
    folder = data_dir / "tables"
    folder.mkdir(parents=True)
    catalog = SqlCatalog("test", uri=f"sqlite:///{folder / 'catalog.db'}", warehouse=str(folder))
    catalog.create_namespace("ol_warehouse_raw_data")
    names = {f"raw__{deployment}__openedx__{kind}": kind for deployment in deployments for kind in OPENEDX_KINDS}
    for name, key in (names | {key: key for key in SCHEMAS if key.startswith("raw__")}).items():
        columns = (column.partition(":") for column in SCHEMAS[key].split())
        schema = pa.schema([pa.field(column, types[kind]) for column, _, kind in columns])
        table = catalog.create_table(f"ol_warehouse_raw_data.{name}", schema=schema)
        if name in ROWS:
            table.append(pa.Table.from_pylist(ROWS[name], schema=schema))
    catalog.close()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """OL_DATA_DIR with raw tables."""
    folder = tmp_path_factory.mktemp("data")
    write_raw_tables(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OL_DATA_DIR", str(folder))
        yield folder
