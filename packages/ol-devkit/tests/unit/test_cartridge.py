import io
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from defusedxml.ElementTree import fromstring
from ol_devkit.campus.cartridge_reader import read_course
from ol_devkit.generators import CartridgeCourse, CartridgeExport, canvas_identity, generate_cartridge

REWRITTEN = ("imsmanifest.xml", "course_settings/")


def export(course: CartridgeCourse, number: int = 0) -> bytes:
    stream = io.BytesIO()
    course.write(stream, CartridgeExport(number))
    return stream.getvalue()


def files_of(cartridge: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(cartridge)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_no_op_export_rewrites_manifest_and_settings_and_nothing_else() -> None:
    course = generate_cartridge(1, 0)
    first, second = files_of(export(course, 0)), files_of(export(course, 1))
    assert list(first) != list(second)
    changed = {name for name in first if first[name] != second[name]}
    assert first.keys() == second.keys()
    assert changed == {name for name in first if name.startswith(REWRITTEN)} - {"course_settings/syllabus.html"}
    assert export(course, 1) == export(generate_cartridge(1, 0), 1)


@pytest.mark.parametrize("size", [1, "small", "medium"])
def test_the_manifest_names_every_file_once_and_only_files_that_exist(size: str | int) -> None:
    files = files_of(export(generate_cartridge(3, 2, size)))
    root = fromstring(files["imsmanifest.xml"])
    namespace = {"m": "http://www.imsglobal.org/xsd/imsccv1p1/imscp_v1p1"}
    listed = Counter(element.get("href") for element in root.iterfind(".//m:file", namespace))
    assert set(listed.values()) == {1}
    assert set(listed) == set(files) - {"imsmanifest.xml"}
    resources = {element.get("identifier") for element in root.iterfind(".//m:resource", namespace)}
    referred = {element.get("identifierref") for element in root.iterfind(".//m:item", namespace)} - {None}
    needed = {element.get("identifierref") for element in root.iterfind(".//m:dependency", namespace)}
    assert referred | needed <= resources
    assert root.findtext(".//m:schemaversion", namespaces=namespace) == "1.1.0"


def test_truth_counts_what_is_there() -> None:
    course = generate_cartridge(3, 2, 40)
    names = list(files_of(export(course)))
    items = course.truth.items
    expected = {
        "page": sum(name.startswith("wiki_content/") for name in names),
        "assignment": sum(name.endswith("/assignment_settings.xml") for name in names),
        "quiz": sum(name.endswith("/assessment_meta.xml") for name in names),
        "file": sum(name.startswith("web_resources/") for name in names),
        "module": len(course.view.modules),
    }
    assert {name: items[name] for name in expected} == expected
    assert items["quiz"] + items["question_bank"] == sum(name.startswith("non_cc_assessments/") for name in names)
    kinds = Counter(item.type for module in course.view.modules for item in module.items)
    assert (kinds["SubHeader"], kinds["ExternalUrl"]) == (items["subheader"], items["weblink"])
    assert course.truth.file_bytes == sum(file.size_bytes for file in course.view.files)


def test_the_view_is_what_a_reader_makes_of_the_cartridge(tmp_path: Path) -> None:
    course = generate_cartridge(4, 1, 60)
    path = tmp_path / "course.imscc"
    path.write_bytes(export(course, 2))
    identity, view = read_course(path, course.identity.id)
    assert identity == replace(course.identity, sis_course_id=None, workflow_state="available")

    def comparable(records: Any, *fields: str) -> list[tuple[Any, ...]]:
        return sorted(tuple(getattr(record, field) for field in fields) for record in records)

    for kind, fields in {
        "files": ("path", "display_name", "size_bytes"),
        "folders": ("full_name",),
        "pages": ("url", "title", "published", "front_page"),
        "assignments": ("name", "points_possible", "published", "submission_types"),
        "modules": ("name", "position", "published"),
    }.items():
        assert comparable(getattr(view, kind), *fields) == comparable(getattr(course.view, kind), *fields), kind
    for read, made in zip(view.modules, course.view.modules, strict=True):
        fields = ("position", "title", "type", "published", "page_url", "external_url")
        assert comparable(read.items, *fields) == comparable(made.items, *fields)


def test_ids_stay_when_a_course_is_revised() -> None:
    old, new = generate_cartridge(1, 0).view, generate_cartridge(1, 0, revision=1).view
    assert new.folders == old.folders
    assert new.files == old.files
    assert new.modules == old.modules
    assert new.pages[:-1] == old.pages


def test_ids_differ_between_courses() -> None:
    def ids(index: int) -> set[int]:
        view = generate_cartridge(1, index, "medium").view
        records: list[Any] = [*view.folders, *view.files, *view.pages, *view.assignments, *view.modules]
        found = [record.id for record in records] + [item.id for module in view.modules for item in module.items]
        assert len(found) == len(set(found))
        return set(found)

    assert ids(0).isdisjoint(ids(1))


def test_values_follow_from_seed_and_index_alone() -> None:
    assert generate_cartridge(1, 2).members == generate_cartridge(1, 2).members
    assert generate_cartridge(1, 2).members != generate_cartridge(2, 2).members
    assert generate_cartridge(1, 2).identity == canvas_identity(1, 2)
    some = [canvas_identity(1, index) for index in range(20)]
    assert len({identity.id for identity in some}) == 20
    assert {identity.workflow_state for identity in some} == {"available", "completed", "unpublished"}
    assert None in {identity.sis_course_id for identity in some}
