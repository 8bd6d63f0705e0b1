"""The content digest: the same for the same content, another for any other."""

import gzip
import io
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ol_openedx.archive import ArchiveError, digest_archive
from olx_archives import Tree, member, pack, pack_tar, read, small_course


def digest(data: bytes) -> str:
    return digest_archive(io.BytesIO(data), name="x").content_digest


REFERENCE = digest(pack(small_course()))


@settings(max_examples=25, deadline=None)
@given(
    items=st.permutations(list(small_course().items())),
    root=st.sampled_from(["course/", "", "./", "2024/", "./2024/"]),
    mtime=st.integers(0, 2**31),
    owner=st.sampled_from(["", "www-data", "root"]),
    folders=st.booleans(),
)
def test_packing_does_not_matter(
    items: list[tuple[str, str | bytes]], root: str, mtime: int, owner: str, *, folders: bool
) -> None:
    """O9: times in gzip and tar headers made every export new."""
    assert digest(pack(dict(items), root=root, mtime=mtime, owner=owner, folders=folders)) == REFERENCE


def test_compression_does_not_matter() -> None:
    """O9"""
    tar = pack_tar(small_course())
    assert digest(gzip.compress(tar, 1)) == digest(gzip.compress(tar, 9)) == REFERENCE


def _rename(tree: Tree) -> None:
    tree["static/renamed.txt"] = tree.pop("static/notes.txt")


def _swap(tree: Tree) -> None:
    tree["static/notes.txt"], tree["static/images/logo.png"] = tree["static/images/logo.png"], tree["static/notes.txt"]


def _move_bytes(tree: Tree) -> None:
    tree["about/overview.html"], tree["static/notes.txt"] = "<h2>About</h2>not", "es"


def _add_empty(tree: Tree) -> None:
    tree["static/empty"] = ""


def _remove_empty(tree: Tree) -> None:
    del tree["about/overview.html"]


def _change(tree: Tree) -> None:
    tree["static/notes.txt"] = "notez"


def _move_a_folder(tree: Tree) -> None:
    tree["about/notes.txt"] = tree.pop("static/notes.txt")


@pytest.mark.parametrize("change", [_rename, _swap, _move_bytes, _add_empty, _remove_empty, _change, _move_a_folder])
def test_content_matters(change: Callable[[Tree], None]) -> None:
    """O8: a rename, moved bytes and an added empty file gave the same version."""
    tree = small_course()
    change(tree)
    assert digest(pack(tree)) != REFERENCE


def test_the_same_file_twice_under_other_names_does_not_cancel_out() -> None:
    twice = small_course() | {"static/a": "x", "static/b": "x"}
    assert digest(pack(twice)) not in {REFERENCE, digest(pack(twice | {"static/c": "x", "static/d": "x"}))}


def test_a_refused_member_matters_since_it_changes_the_rows() -> None:
    link = member("course/static/link", b"2", linkname="notes.txt")
    assert digest(pack(small_course(), more=[(link, b"")])) != REFERENCE


def test_a_file_outside_the_root_is_not_the_file_of_that_name_inside() -> None:
    inside = digest(pack(small_course() | {"extra.txt": "x"}))
    outside = digest(pack(small_course(), more=[(member("extra.txt"), b"x")]))
    assert len({inside, outside, REFERENCE}) == 3


def test_digest_and_reading_agree() -> None:
    found = digest_archive(io.BytesIO(pack(small_course())), name="x")
    summary = read(small_course()).summary
    assert (found.content_digest, found.olx_course_id) == (summary.content_digest, summary.olx_course_id)
    assert (found.member_count, found.total_bytes) == (summary.member_count, summary.total_bytes)
    assert found.member_count == len(small_course())
    assert found.total_bytes == sum(len(content) for content in small_course().values())


def test_digest_looks_into_no_xml_but_what_names_the_course() -> None:
    tree = small_course() | {"problem/prob.xml": "<problem"}
    assert digest_archive(io.BytesIO(pack(tree)), name="x").olx_course_id == "course-v1:Org+C1+R1"


@pytest.mark.parametrize(
    "broken",
    [
        {"course.xml": "<course"},
        {"course.xml": '<course url_name="R1" course="C1"/>'},
        {"course.xml": '<course url_name="R2" org="Org" course="C1"/>'},
        {"course/R1.xml": "<course"},
    ],
)
def test_digest_refuses_what_reading_refuses(broken: Tree) -> None:
    data = pack(small_course() | broken)
    with pytest.raises(ArchiveError) as reading:
        read(data)
    with pytest.raises(ArchiveError) as digesting:
        digest_archive(io.BytesIO(data), name="course.tar.gz")
    assert str(digesting.value) == str(reading.value)
