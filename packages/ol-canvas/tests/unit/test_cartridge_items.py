"""What a cartridge is read into."""

import io
import zlib

import pytest
from cartridge_builder import CANVAS, LEARNING_APPLICATION, Course, Place, pack, physics
from ol_canvas.cartridge import TABLE_KINDS, Cartridge, CartridgeItem, read_cartridge, table_schema


def read(course: Course) -> Cartridge:
    return read_cartridge(course.pack(), name="course.imscc", course_id="7")


def item(cartridge: Cartridge, item_id: str) -> CartridgeItem:
    (found,) = [item for item in cartridge.items if item.item_id == item_id]
    return found


def test_one_of_everything_is_counted_once() -> None:
    cartridge = read(physics())
    assert (cartridge.name, cartridge.title, cartridge.schema_version) == ("course.imscc", "Physics & You", "1.1.0")
    assert cartridge.items_by_type == {
        "announcement": 1,
        "assignment": 1,
        "discussion": 1,
        "file": 1,
        "lti": 1,
        "module": 2,
        "page": 2,
        "question_bank": 1,
        "quiz": 1,
        "subheader": 1,
        "syllabus": 1,
        "weblink": 1,
    }
    assert (cartridge.file_count, cartridge.file_bytes) == (1, 7)
    assert (cartridge.member_count, cartridge.quarantined_count) == (len(physics().files()), 0)


@pytest.mark.parametrize(
    ("item_id", "title", "state", "path", "place"),
    [
        ("welcome", "Welcome & start", "active", "wiki_content/welcome.html", ("Week 1", 1, 1)),
        ("draft", "A draft", "unpublished", "wiki_content/draft.html", (None, None, None)),
        ("essay", "Essay", "published", "essay/essay.html", ("Week 1", 1, 3)),
        ("quiz", "Quiz 1", "published", "quiz/assessment_qti.xml", ("Week 1", 1, 4)),
        ("bank", "Unfiled Questions", None, "non_cc_assessments/bank.xml.qti", (None, None, None)),
        ("talk", "Talk", "active", "talk.xml", ("Week 2", 2, 1)),
        ("link", "Elsewhere", "active", "link.xml", ("Week 2", 2, 2)),
        ("tool", "Simulator", "active", "tool.xml", ("Week 2", 2, 4)),
        ("photo", "Photo.jpg", "hidden", "web_resources/images/photo one.jpg", ("Week 2", 2, 3)),
        ("p2", "Reading", "active", None, ("Week 1", 1, 2)),
        ("week-2", "Week 2", "unpublished", None, ("Week 2", 2, None)),
        ("course_syllabus", "Syllabus", None, "course_settings/syllabus.html", (None, None, None)),
    ],
)
def test_title_state_and_place(
    *, item_id: str, title: str, state: str | None, path: str | None, place: tuple[object, ...]
) -> None:
    found = item(read(physics()), item_id)
    assert (found.title, found.workflow_state, found.path) == (title, state, path)
    assert (found.module_title, found.module_position, found.position) == place
    assert found.course_id == "7"


def test_rows_match_the_tables() -> None:
    import pyarrow as pa

    cartridge = read(physics())
    for kind in TABLE_KINDS:
        table = pa.Table.from_pylist(cartridge.rows(kind), schema=table_schema(kind))
        table.validate(full=True)
        assert table.column_names == list(cartridge.rows(kind)[0] if cartridge.rows(kind) else table.column_names)
    (row,) = cartridge.rows("course_files")
    assert row == {
        "course_id": "7",
        "path": "web_resources/images/photo one.jpg",
        "size_bytes": 7,
        "crc32": format(zlib.crc32(b"\xff\xd8photo"), "08x"),
        "content_type": "image/jpeg",
    }


@pytest.mark.parametrize("version", ["1.1", "1.2", "1.3"])
def test_every_version_of_the_namespace_is_read(version: str) -> None:
    course = physics()
    course.version = version
    assert read(course).items_by_type == read(physics()).items_by_type


def test_a_page_in_two_modules_is_one_item_in_the_first() -> None:
    course = Course()
    course.page("welcome", "Welcome")
    course.module("a", "A", Place("p1", "Welcome", "WikiPage", "welcome"))
    course.module("b", "B", Place("p2", "Again", "WikiPage", "welcome"))
    cartridge = read(course)
    assert cartridge.items_by_type == {"module": 2, "page": 1}
    assert item(cartridge, "welcome").module_id == "a"


def test_two_resources_with_one_file_are_one_item() -> None:
    course = Course()
    course.file("a", "web_resources/photo.jpg")
    course.file("b", "web_resources/photo.jpg")
    course.module("m", "M", Place("p", "Photo", "Attachment", "b"))
    cartridge = read(course)
    assert cartridge.items_by_type == {"file": 1, "module": 1}
    assert item(cartridge, "a").module_id == "m"


def test_several_links_to_one_tool_are_several_items() -> None:
    course = Course()
    course.lti("tool", "Simulator")
    course.module("m", "M", *(Place(f"p{n}", f"Task {n}", "ContextExternalTool", "tool") for n in range(3)))
    assert read(course).items_by_type == {"lti": 3, "module": 1}


def test_a_resource_link_is_found_by_its_lookup_uuid() -> None:
    course = Course()
    course.lti("stored-link", "Simulator", lookup_uuid="5e1f")
    course.module("m", "M", Place("p", "Task", "ContextExternalTool", "elsewhere"))
    meta = course.module_meta().decode()
    course.settings["module_meta.xml"] = meta.replace(
        "<position>1</position><indent>", "<lti_resource_link_lookup_uuid>5e1f</lti_resource_link_lookup_uuid><indent>"
    )
    cartridge = read(course)
    assert cartridge.items_by_type == {"lti": 1, "module": 1}
    assert item(cartridge, "stored-link").module_id == "m"


def test_the_fallback_page_of_an_assignment_is_no_item_of_its_own() -> None:
    course = Course(version="1.3")
    course.members["essay/assignment.xml"] = (
        b'<assignment xmlns="http://www.imsglobal.org/xsd/imscc_extensions/assignment"><title>Essay</title><extensions>'
        b"<assignment><title>Essay</title><workflow_state>unpublished</workflow_state></assignment></extensions>"
        b"</assignment>"
    )
    course.members["essay/essay.html"] = b"<html><head><title>Assignment: Essay</title></head></html>"
    course.resource("essay", "assignment_xmlv1p0", "essay/assignment.xml", href="essay/assignment.xml")
    course.resource("essay_fallback", "webcontent", "essay/essay.html", inner='<variant identifierref="essay"/>')
    cartridge = read(course)
    assert cartridge.items_by_type == {"assignment": 1}
    assert (item(cartridge, "essay").title, item(cartridge, "essay").workflow_state) == ("Essay", "unpublished")
    assert cartridge.file_count == 0


def test_without_canvas_settings_modules_come_from_the_organizations() -> None:
    course = Course()
    course.resource("reading", "webcontent", "unit/reading.html", "unit/figure.png", href="unit/reading.html")
    course.members |= {
        "unit/reading.html": b"<html><head><title>Reading</title></head></html>",
        "unit/figure.png": b"x",
    }
    course.discussion("talk", "Talk")
    manifest = course.manifest().replace(
        b'<item identifier="LearningModules"></item>',
        b'<item identifier="root"><item identifier="u1"><title>Unit 1</title>'
        b'<item identifier="i1" identifierref="reading"><title>Read this</title></item>'
        b'<item identifier="f1"><title>Folder</title>'
        b'<item identifier="i2" identifierref="talk"><title>Speak</title></item></item></item>'
        b'<item identifier="i3" identifierref="talk"><title>Loose</title></item></item>',
    )
    cartridge = read_cartridge(pack({**course.members, "imsmanifest.xml": manifest}), name="other.imscc")
    assert cartridge.items_by_type == {"discussion": 1, "file": 1, "module": 1, "subheader": 1}
    places = {found.item_id: (found.module_id, found.position) for found in cartridge.items}
    assert places == {"u1": ("u1", None), "reading": ("u1", 1), "f1": ("u1", 2), "talk": ("u1", 3)}
    assert [file.path for file in cartridge.files] == ["unit/figure.png", "unit/reading.html"]
    assert cartridge.items[0].course_id == "other.imscc"


def test_names_are_found_however_the_manifest_spells_them() -> None:
    course = Course()
    course.members["web_resources/Übung 1.pdf"] = b"%PDF"
    course.resource("percent", "webcontent", href="web_resources/%C3%9Cbung%201.pdf")
    course.members["web_resources/café.pdf"] = b"%PDF"
    course.resource("decomposed", "webcontent", href="./web_resources/café.pdf")
    cartridge = read(course)
    assert (cartridge.items_by_type, cartridge.quarantined_count) == ({"file": 2}, 0)


def test_utf8_names_without_the_flag_are_read_as_utf8() -> None:
    course = Course()
    course.file("a", "web_resources/Übung.pdf")
    packed = course.pack().getvalue()
    # The same zip as Ruby's library writes it: bit 11 (names are UTF-8) cleared in local header and central directory.
    raw = bytearray(packed)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = raw.find(signature)
        raw[start + offset : start + offset + 2] = b"\x00\x00"
    cartridge = read_cartridge(io.BytesIO(bytes(raw)), name="ruby.imscc")
    assert [file.path for file in cartridge.files] == ["web_resources/Übung.pdf"]
    assert cartridge.quarantined_count == 0


def test_files_that_the_manifest_does_not_name_are_counted() -> None:
    course = Course()
    course.quiz("quiz", "Quiz")
    course.resources.pop()  # the resource that names the quiz's settings and its full questions
    course.members |= {"web_resources/stray.pdf": b"%PDF", "notes.txt": b"n"}
    course.members["wiki_content/lost.html"] = b"<html><head><title>Lost</title></head></html>"
    cartridge = read(course)
    assert cartridge.items_by_type == {"file": 2, "page": 1, "quiz": 1}
    assert [file.path for file in cartridge.files] == ["notes.txt", "web_resources/stray.pdf"]
    assert item(cartridge, "wiki_content/lost.html").title == "Lost"
    assert item(cartridge, "quiz").workflow_state == "published"


def test_what_the_manifest_names_and_the_zip_lacks_is_quarantined() -> None:
    course = Course()
    course.page("welcome", "Welcome")
    course.resource("gone", "webcontent", "web_resources/gone.pdf", href="web_resources/gone.pdf")
    course.resource("empty", "imswl_xmlv1p1")
    course.module(
        "m",
        "M",
        Place("p1", "Gone", "Attachment", "gone"),
        Place("p2", "Nowhere", "Assignment", "nowhere"),
        Place("p3", "Welcome", "WikiPage", "welcome"),
    )
    cartridge = read(course)
    assert cartridge.items_by_type == {"module": 1, "page": 1}
    assert [(entry.path, entry.reason) for entry in cartridge.quarantine] == [
        ("web_resources/gone.pdf", "missing_member"),
        ("empty", "resource_without_file"),
        ("nowhere", "missing_resource"),
    ]


def test_identifiers_stay_unique() -> None:
    course = Course()
    course.file("same", "web_resources/a.txt")
    course.file("same", "web_resources/b.txt")
    course.module("same", "Same", Place("same", "Header", "ContextModuleSubHeader"))
    ids = [found.item_id for found in read(course).items]
    assert len(ids) == len(set(ids)) == 4


def test_other_resources_are_kept_as_other() -> None:
    course = Course()
    course.members["package.zip"] = b"PK"
    course.resource("ipack", "imsiwb_iwbv1p0", "package.zip", href="package.zip")
    course.members["x.xml"] = f"<anything {CANVAS}/>".encode()
    course.resource("settings", LEARNING_APPLICATION, "x.xml", href="x.xml")
    assert read(course).items_by_type == {"other": 2}
