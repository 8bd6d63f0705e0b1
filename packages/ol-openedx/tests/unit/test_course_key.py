"""Keys of courses and libraries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ol_core.failures import PermanentFailure
from ol_openedx.course_key import CourseKey, InvalidCourseKey

PARTS = st.from_regex(r"\A[\w\-~.:]+\Z")


@pytest.mark.parametrize(
    "text",
    [
        "course-v1:MITx+6.002x+2012_Fall",
        "course-v1:Örg+Kürs.1~a-b:c+1T2024",
        "course-v1:MITx+6.002x+R+branch@draft-branch",
        "course-v1:MITx+6.002x+R+branch@published-branch+version@519665f6223ebd6980884f2b",
        "MITx/6.002x/2012_Fall",
        "library-v1:MITx+Problems",
    ],
)
def test_a_key_prints_as_it_was_written(text: str) -> None:
    assert str(CourseKey.parse(text)) == text


@given(PARTS, PARTS, PARTS)
def test_every_key_of_valid_parts_round_trips(org: str, course: str, run: str) -> None:
    for text in (f"course-v1:{org}+{course}+{run}", f"{org}/{course}/{run}"):
        key = CourseKey.parse(text)
        assert (key.org, key.course, key.run, str(key)) == (org, course, run, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "course-v1:MITx+6.002x",
        "course-v1:MITx+6.002x+2012_Fall\n",
        " course-v1:MITx+6.002x+2012_Fall",
        "course-v1:MITx+6.002 x+2012_Fall",
        "course-v1:MITx+6.002x+2012%20Fall",
        "course-v1:MITx++2012_Fall",
        "course-v1:MITx+6.002x+R+more",
        "MITx/6.002x",
        "MITx/6.002x/R/more",
        "MITx/../R\n",
        "library-v1:MITx",
        "ccx-v1:MITx+6.002x+R+ccx@1",
    ],
)
def test_anything_else_is_refused_with_what_is_valid(text: str) -> None:
    with pytest.raises(InvalidCourseKey, match=r"is not a course key; valid is course-v1:ORG\+COURSE\+RUN") as caught:
        CourseKey.parse(text)
    assert isinstance(caught.value, PermanentFailure)


def test_block_ids_follow_the_form_of_the_key() -> None:
    assert CourseKey.parse("course-v1:O+C+R").block_id("problem", "p") == "block-v1:O+C+R+type@problem+block@p"
    assert CourseKey.parse("O/C/R").block_id("problem", "p") == "i4x://O/C/problem/p"
    assert CourseKey.parse("library-v1:O+L").block_id("html", "h") == "lib-block-v1:O+L+type@html+block@h"


def test_a_library_has_no_run() -> None:
    assert CourseKey.parse("library-v1:O+L").run is None
