"""The raw tables of an instance: their names, their schemas, and what the API says as rows."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ol_canvas.cartridge import TABLE_KINDS
from ol_canvas.cartridge import table_schema as cartridge_schema

if TYPE_CHECKING:
    import pyarrow as pa

    from ol_canvas.cartridge import Cartridge
    from ol_canvas.client import CanvasCourse

COURSES = "api__courses"
API_KINDS = {
    "api__course_files": "One row per file of a course, as the API lists it.",
    "api__course_pages": "One row per wiki page of a course.",
    "api__course_assignments": "One row per assignment of a course.",
    "api__course_modules": "One row per module of a course.",
    "api__course_module_items": "One row per item of a module.",
}
CARTRIDGE_KINDS = {
    "cartridge__course_items": "One row per item of content in a course's cartridge.",
    "cartridge__course_files": "One row per file in a course's cartridge: size in bytes, CRC-32.",
    "cartridge__course_quarantine": "One row for whatever in a cartridge could not be used.",
}
COURSE_KINDS = {**API_KINDS, **CARTRIDGE_KINDS}
"""Tables that are replaced course by course, and what they hold."""

_OF_CARTRIDGE = dict(zip(CARTRIDGE_KINDS, TABLE_KINDS, strict=True))


def table_name(instance: str, kind: str) -> str:
    """Return the raw table's name, such as `raw__canvas__api__course_files`."""
    return f"raw__{instance}__{kind}"


def table_schema(kind: str) -> "pa.Schema":
    """Return the columns of a raw table; times are naive UTC, ids are text."""
    import pyarrow as pa

    if kind in _OF_CARTRIDGE:
        return cartridge_schema(_OF_CARTRIDGE[kind])
    text, flag, number, time = pa.string(), pa.bool_(), pa.int64(), pa.timestamp("us")
    columns: dict[str, list[tuple[str, pa.DataType]]] = {
        COURSES: [
            ("name", text),
            ("course_code", text),
            ("sis_course_id", text),
            ("workflow_state", text),
            ("start_at", time),
            ("end_at", time),
            ("account_id", text),
            ("term_id", text),
        ],
        "api__course_files": [
            ("file_id", text),
            ("folder_path", text),
            ("display_name", text),
            ("filename", text),
            ("content_type", text),
            ("size_bytes", number),
            ("locked", flag),
            ("hidden", flag),
            ("updated_at", time),
        ],
        "api__course_pages": [
            ("page_id", text),
            ("url", text),
            ("title", text),
            ("published", flag),
            ("front_page", flag),
            ("updated_at", time),
        ],
        "api__course_assignments": [
            ("assignment_id", text),
            ("name", text),
            ("points_possible", pa.float64()),
            ("due_at", time),
            ("published", flag),
            ("submission_types", text),
        ],
        "api__course_modules": [
            ("module_id", text),
            ("name", text),
            ("position", number),
            ("published", flag),
            ("items_count", number),
        ],
        "api__course_module_items": [
            ("module_id", text),
            ("item_id", text),
            ("title", text),
            ("item_type", text),
            ("position", number),
            ("content_id", text),
            ("published", flag),
        ],
    }
    keys = {"course_id", "file_id", "page_id", "assignment_id", "module_id", "item_id"}
    named = [("course_id", text), *columns[kind]]
    return pa.schema([pa.field(name, type_, nullable=name not in keys) for name, type_ in named])


def courses_table(courses: Iterable["CanvasCourse"]) -> "pa.Table":
    """Return courses as rows of the courses table, ordered by id."""
    import pyarrow as pa

    rows = [asdict(course) for course in sorted(courses, key=lambda course: course.course_id)]
    return pa.Table.from_pylist(rows, schema=table_schema(COURSES))


def metadata_rows(metadata: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return a course's metadata document as rows of each of the API's tables."""
    course_id = metadata["course_id"]
    modules = metadata["modules"]
    rows: dict[str, list[dict[str, Any]]] = {
        "api__course_files": metadata["files"],
        "api__course_pages": metadata["pages"],
        "api__course_assignments": [
            {**one, "submission_types": json.dumps(one["submission_types"])} for one in metadata["assignments"]
        ],
        "api__course_modules": [{**one, "items_count": len(one["items"])} for one in modules],
        "api__course_module_items": [
            {"module_id": one["module_id"], **item} for one in modules for item in one["items"]
        ],
    }
    return {kind: [{**_timed(row), "course_id": course_id} for row in some] for kind, some in rows.items()}


def _timed(row: dict[str, Any]) -> dict[str, Any]:
    return {name: _time(value) if name.endswith("_at") else value for name, value in row.items()}


def _time(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value).astimezone(UTC).replace(tzinfo=None) if value else None


def cartridge_rows(cartridge: "Cartridge") -> dict[str, list[dict[str, Any]]]:
    """Return what is in a cartridge as rows of each of the cartridge's tables."""
    return {kind: list(cartridge.rows(of_cartridge)) for kind, of_cartridge in _OF_CARTRIDGE.items()}
