"""`course.xml` and the course's definition: the encodings that they may have, and a course that is not named."""

import pytest
from ol_openedx.archive import ArchiveError
from olx_archives import SMALL_COURSE_BLOCKS, read, small_course


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1", "windows-1252", "utf8", "gb18030"])
def test_xml_is_read_in_the_encoding_that_it_declares(encoding: str) -> None:
    """O15: course.xml was opened as text."""
    head = f'<?xml version="1.0" encoding="{encoding}"?>\n'
    pointer = f'{head}<course url_name="R1" org="Org" course="C1"/>'.encode(encoding)
    definition = f'{head}<course display_name="Größe"><chapter url_name="ch"/></course>'.encode(encoding)
    found = read(small_course() | {"course.xml": pointer, "course/R1.xml": definition})
    assert found.metadata["display_name"] == "Größe"
    assert found.summary.blocks_by_type == SMALL_COURSE_BLOCKS


def test_a_declaration_of_utf16_in_plain_bytes_does_not_matter() -> None:
    """O15"""
    text = '<?xml version="1.0" encoding="UTF-16"?><course url_name="R1" org="Org" course="C1"/>'
    assert read(small_course() | {"course.xml": text}).summary.blocks_by_type == SMALL_COURSE_BLOCKS


@pytest.mark.parametrize("missing", ["org", "course", "url_name"])
@pytest.mark.parametrize("given", ["", None])
def test_a_course_without_a_name_is_an_error_that_says_what_is_missing(missing: str, given: str | None) -> None:
    """O12: the course was called `course-v1:None+None+R1`."""
    attributes = {"url_name": "R1", "org": "Org", "course": "C1"} | {missing: given}
    pointer = "".join(f' {key}="{value}"' for key, value in attributes.items() if value is not None)
    with pytest.raises(
        ArchiveError, match=rf"member 'course.xml': gives no {missing}; org, course, url_name name a course"
    ):
        read(small_course() | {"course.xml": f"<course{pointer}/>"})


def test_a_course_whose_name_is_no_key_is_an_error() -> None:
    with pytest.raises(ArchiveError, match="does not name a course"):
        read(small_course() | {"course.xml": '<course url_name="R1" org="O r g" course="C1"/>'})


def test_a_course_whose_definition_is_missing_or_broken_is_an_error() -> None:
    tree = small_course()
    del tree["course/R1.xml"]
    with pytest.raises(ArchiveError, match=r"points to course/R1\.xml, which is not in the archive"):
        read(tree)
    with pytest.raises(ArchiveError, match=r"member 'course/R1.xml': malformed_xml.*\(line 2\)"):
        read(small_course() | {"course/R1.xml": "<course>\n<"})


def test_a_course_without_children_is_a_course() -> None:
    """O6: stub courses were a ValueError."""
    found = read(small_course() | {"course/R1.xml": '<course display_name="Stub"/>'})
    assert found.names() == ["course/R1"]
    assert found.metadata["display_name"] == "Stub"


def test_attributes_beside_the_pointer_of_the_course_still_lead_to_its_definition() -> None:
    found = read(small_course() | {"course.xml": '<course url_name="R1" org="Org" course="C1" semester="S"/>'})
    assert found.summary.blocks_by_type == SMALL_COURSE_BLOCKS


def test_a_root_element_of_another_kind_is_an_error() -> None:
    with pytest.raises(ArchiveError, match="the root element is <html>, not <course>"):
        read(small_course() | {"course.xml": "<html/>"})
