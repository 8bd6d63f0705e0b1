"""The tar.gz itself: where the course is in it, unsafe members, damage, limits."""

import gzip
import io
import random
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ol_core.failures import PermanentFailure
from ol_openedx.archive import ArchiveError, ArchiveLimits, digest_archive, read_archive
from olx_archives import SMALL_COURSE_BLOCKS, member, pack, pack_tar, read, small_course

ROOTS = ["course/", "", "./", "./2024_Spring/", "static/", "drafts/", "course/./"]


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("folders", [True, False])
def test_the_root_is_found_whatever_it_is_called(root: str, *, folders: bool) -> None:
    """O1, O2: names with `./`, no root folder, no folder entries."""
    found = read(pack(small_course(), root=root, folders=folders))
    assert found.summary.blocks_by_type == SMALL_COURSE_BLOCKS
    assert found.summary.static_file_count == 2
    assert found.quarantine == []
    assert found.summary.content_digest == read(small_course()).summary.content_digest


@pytest.mark.parametrize("root", ["course/", "", "./"])
@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_members_does_not_matter(root: str, seed: int) -> None:
    """O2: course.xml may come last, and a definition before what points to it."""
    items = list(small_course().items())
    random.Random(seed).shuffle(items)
    found = read(pack(dict(items), root=root))
    reference = read(pack(small_course(), root=root))
    assert found.rows["course_blocks"] == reference.rows["course_blocks"]
    assert found.metadata == reference.metadata


def test_the_shallowest_course_xml_is_the_root_even_where_it_comes_last() -> None:
    """O2: at depth 0, `course/course.xml` is the definition of a run called `course`."""
    tree = small_course()
    tree["course/course.xml"] = tree.pop("course/R1.xml")
    del tree["course.xml"]
    tree["course.xml"] = '<course url_name="course" org="Org" course="C1"/>'
    found = read(pack(tree, root=""))
    assert found.metadata["run"] == "course"
    assert found.summary.blocks_by_type == SMALL_COURSE_BLOCKS


def test_what_operating_systems_and_git_leave_behind_is_skipped_and_counted() -> None:
    """O2, O3, O11: the first member of real archives is `._course`, and `._v.xml` stands beside videos."""
    litter = ["._course", "course/.DS_Store", "course/video/._clip.xml", "__MACOSX/course/x.xml", "course/.git/HEAD"]
    tree = {f"course/{path}": content for path, content in small_course().items()}
    found = read(pack(dict.fromkeys(litter, b"\0\5\x16\7") | tree, root=""))
    assert found.summary.skipped_count == len(litter)
    assert found.summary.member_count == len(tree)
    assert found.quarantine == []
    assert found.summary.content_digest == read(small_course()).summary.content_digest


@pytest.mark.parametrize("tree", [{}, {"readme.txt": "no course"}, {"a/b/course.xml": "<course/>"}])
def test_an_archive_without_a_course_is_an_error_that_says_so(tree: dict[str, str]) -> None:
    with pytest.raises(ArchiveError, match=r"archive 'course.tar.gz': no course in it; valid is course.xml"):
        read(pack(tree, root=""))


def test_a_course_xml_that_is_a_link_is_named_in_the_error() -> None:
    """Courses kept in git often have course.xml as a link into `roots/`."""
    tree = small_course()
    tree["roots/R1.xml"] = tree.pop("course.xml")
    link = member("course/course.xml", tarfile.SYMTYPE, linkname="roots/R1.xml")
    with pytest.raises(ArchiveError, match=r"no course in it.*course/course\.xml is refused: it is not a regular file"):
        read(pack(tree, more=[(link, b"")]))


def test_two_courses_at_the_same_depth_are_an_error_that_names_both() -> None:
    tree = {f"{root}/{path}": text for root in ("a", "b") for path, text in small_course().items()}
    with pytest.raises(ArchiveError, match=r"two courses: a/course.xml, b/course.xml"):
        read(pack(tree, root=""))


def test_files_outside_the_course_are_quarantined() -> None:
    more = [(member("README.md"), b"about"), (member("other/static/x.png"), b"x")]
    found = read(pack(small_course(), more=more))
    assert found.quarantine == [("README.md", "outside_root"), ("other/static/x.png", "outside_root")]
    assert found.summary.static_file_count == 2


@pytest.mark.parametrize("name", ["library/", "", "./lib/"])
def test_a_library_is_read_as_one(name: str) -> None:
    """O19: library archives failed."""
    tree = {
        "library.xml": """<library url_name="library" xblock-family="xblock.v1" org="Org" library="L1">
            <problem url_name="a"/><html url_name="b"/></library>""",
        "problem/a.xml": "<problem/>",
        "html/b.xml": '<html filename="b"/>',
        "html/b.html": "",
        "policies/assets.json": "{}",
    }
    found = read(pack(tree, root=name))
    assert found.summary.archive_format == "library"
    assert found.summary.course_id == "library-v1:Org+L1"
    assert found.summary.blocks_by_type == {"html": 1, "library": 1, "problem": 1}
    assert found.metadata["run"] is None
    assert found.block("a")["block_id"] == "lib-block-v1:Org+L1+type@problem+block@a"


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (member("course/video/clip2.xml", tarfile.SYMTYPE, linkname="/etc/passwd"), "link_member"),
        (member("course/static/hard", tarfile.LNKTYPE, linkname="course/course.xml"), "link_member"),
        (member("course/static/null", tarfile.CHRTYPE), "device_member"),
        (member("course/static/pipe", tarfile.FIFOTYPE), "device_member"),
        (member("/etc/passwd"), "unsafe_name"),
        (member("course/../../etc/passwd"), "unsafe_name"),
        (member("../course/static/x"), "unsafe_name"),
        (member("course/static\\x"), "unsafe_name"),
        (member("C:/course/static/x"), "unsafe_name"),
        (member("course/static/" + "x" * 256), "unsafe_name"),
        (member("course/" + "static/" * 200 + "x"), "unsafe_name"),
        (member("course/static/\udce9.png"), "unsafe_name"),
    ],
)
def test_an_unsafe_member_is_quarantined_and_the_rest_is_read(header: tarfile.TarInfo, reason: str) -> None:
    """O14: a symbolic link was a KeyError."""
    found = read(pack(small_course(), more=[(header, b"")]))
    assert [found_reason for _, found_reason in found.quarantine] == [reason]
    assert found.summary.blocks_by_type == SMALL_COURSE_BLOCKS
    assert found.summary.static_file_count == 2
    assert found.summary.quarantined_by_reason == {reason: 1}
    found.rows["course_quarantine"][0]["path"].encode()  # type: ignore[attr-defined]  # object of a row; here text


def test_a_name_with_a_nul_is_refused() -> None:
    header = member("course/static/x")
    header.pax_headers = {"path": "course/static/a\0b"}
    found = read(pack(small_course(), more=[(header, b"")]))
    assert [reason for _, reason in found.quarantine] == ["unsafe_name"]


def test_of_two_members_of_one_name_the_first_is_used_and_the_second_quarantined() -> None:
    """O14: duplicates gave two rows."""
    twice = [(member("./course/static/notes.txt"), b"other"), (member("course/course/R1.xml"), b"<course/>")]
    found = read(pack(small_course(), more=twice))
    assert found.quarantine == [("static/notes.txt", "duplicate_member"), ("course/R1.xml", "duplicate_member")]
    assert found.summary.static_file_count == 2
    assert found.summary.blocks_by_type == SMALL_COURSE_BLOCKS


def test_a_flipped_bit_is_an_error() -> None:
    """The checksum is at the end of the gzip stream, where tarfile never looks."""
    tree = small_course() | {"static/noise": random.Random(1).randbytes(300_000)}
    data = bytearray(pack(tree))
    data[len(data) // 2] ^= 1
    with pytest.raises(ArchiveError, match="gzip stream is damaged"):
        read(bytes(data))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_a_file_cut_anywhere_is_an_error(position: int) -> None:
    data = pack(small_course())
    with pytest.raises(ArchiveError):
        read(data[: position % len(data)])


@pytest.mark.parametrize("kept_zero_blocks", [0, 1])
def test_a_tar_cut_between_members_is_an_error(kept_zero_blocks: int) -> None:
    tar = pack_tar(small_course()).rstrip(b"\0")
    tar += b"\0" * (-len(tar) % 512 + 512 * kept_zero_blocks)
    with pytest.raises(ArchiveError, match="closing zero blocks are missing"):
        read(gzip.compress(tar))


def test_whole_members_cut_off_are_an_error() -> None:
    tar = pack_tar(small_course())
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        last = opened.getmembers()[-1].offset
    with pytest.raises(ArchiveError, match="closing zero blocks are missing"):
        read(gzip.compress(tar[:last]))


def test_a_tar_cut_in_a_member_is_an_error() -> None:
    tar = pack_tar(small_course() | {"static/big": b"x" * 5000})
    with pytest.raises(ArchiveError):
        read(gzip.compress(tar[: tar.rindex(b"xxxx") - 1000]))


@pytest.mark.parametrize("garbage", [b"garbage", b"\1" * 512])
def test_what_follows_the_end_is_an_error(garbage: bytes) -> None:
    data = pack(small_course())
    with pytest.raises(ArchiveError, match="gzip stream is damaged"):
        read(data + garbage)
    with pytest.raises(ArchiveError, match="neither a member nor the end"):
        read(gzip.compress(pack_tar(small_course()) + garbage))


def test_zeros_after_the_end_are_padding() -> None:
    tar = pack_tar(small_course()) + b"\0" * 20_000
    assert read(gzip.compress(tar) + b"\0" * 100).summary.blocks_by_type == SMALL_COURSE_BLOCKS


def test_several_gzip_members_are_one_stream() -> None:
    tar = pack_tar(small_course())
    assert read(gzip.compress(tar[:3000]) + gzip.compress(tar[3000:])).summary.blocks_by_type == SMALL_COURSE_BLOCKS


@pytest.mark.parametrize(
    "data",
    [b"", b"not gzip", gzip.compress(b""), gzip.compress(b"not a tar" * 100), b"PK\3\4" * 99],
    ids=["empty", "text", "gzip of nothing", "gzip of text", "zip"],
)
def test_what_is_no_tar_gz_is_an_error_that_names_the_archive(data: bytes) -> None:
    with pytest.raises(ArchiveError, match=r"archive 'course.tar.gz'") as caught:
        read(data)
    assert isinstance(caught.value, PermanentFailure)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_damaged_tar_is_read_or_refused_and_nothing_else(edits: list[tuple[int, int]]) -> None:
    tar = bytearray(pack_tar(small_course()))
    for position, value in edits:
        tar[position % len(tar)] = value
    try:
        read(gzip.compress(bytes(tar)))
    except ArchiveError as error:
        assert "course.tar.gz" in str(error)  # noqa: PT017 - both outcomes are right


def test_a_header_that_claims_a_huge_name_is_refused_before_it_is_read() -> None:
    header = member("././@LongLink", tarfile.GNUTYPE_LONGNAME)
    header.size = 2 * 1024**3
    tar = header.tobuf(tarfile.GNU_FORMAT) + b"x" * 4096
    with pytest.raises(ArchiveError, match="a tar header of 2147483648 bytes"):
        read(gzip.compress(tar))


def test_a_chain_of_headers_without_a_member_is_an_error() -> None:
    header = member("pax", tarfile.XHDTYPE)
    with pytest.raises(ArchiveError):
        read(gzip.compress(header.tobuf(tarfile.USTAR_FORMAT) * 5000))


@pytest.mark.parametrize(
    ("limits", "tree", "named"),
    [
        (ArchiveLimits(members=5), {}, "limit members=5"),
        (
            ArchiveLimits(member_bytes=1000),
            {"static/big": b"x" * 1001},
            "'course/static/big': 1001 bytes .* member_bytes=1000",
        ),
        (
            ArchiveLimits(total_bytes=200_000),
            {"static/big": b"x" * 300_000},
            "'course/static/big': .* total_bytes=200000",
        ),
        (
            ArchiveLimits(ratio=50, ratio_floor_bytes=100_000),
            {"static/bomb": bytes(3_000_000)},
            "'course/static/bomb': .* ratio=50",
        ),
        (ArchiveLimits(blocks=6), {}, "blocks=6"),
    ],
)
def test_an_archive_beyond_a_limit_is_refused_by_name_of_the_limit(
    limits: ArchiveLimits, tree: dict[str, bytes], named: str
) -> None:
    """O20: there were no limits."""
    with pytest.raises(ArchiveError, match=f"archive 'course.tar.gz'.*{named}"):
        read(small_course() | tree, limits=limits)


def test_a_decompression_bomb_is_refused_by_the_default_limits() -> None:
    """O20: 618 MB of memory for an archive of half a megabyte."""
    bomb = io.BytesIO(pack(small_course() | {"static/bomb": bytes(32 * 1024**2)}))
    with pytest.raises(ArchiveError, match="ratio=200"):
        digest_archive(bomb, name="bomb.tar.gz")


@pytest.mark.parametrize(
    ("limits", "reason", "limit"),
    [
        (ArchiveLimits(xml_bytes=1000), "xml_too_large", "xml_bytes=1000"),
        (ArchiveLimits(xml_depth=10), "xml_too_deep", "xml_depth=10"),
    ],
)
def test_a_file_beyond_a_limit_of_its_own_is_quarantined(limits: ArchiveLimits, reason: str, limit: str) -> None:
    """O20"""
    deep = "<problem>" + "<b>" * 500 + "</b>" * 500 + "</problem>"
    found = read(small_course() | {"problem/prob.xml": deep}, limits=limits)
    assert found.quarantine == [("problem/prob.xml", reason)]
    assert limit in str(found.rows["course_quarantine"][0]["detail"])
    assert found.summary.block_count == len(SMALL_COURSE_BLOCKS) - 1


def test_no_row_leaves_before_the_whole_archive_is_verified() -> None:
    data = bytearray(pack(small_course()))
    data[-5] ^= 1  # the checksum
    written: list[str] = []
    with pytest.raises(ArchiveError):
        read_archive(io.BytesIO(bytes(data)), name="x", write=lambda kind, rows: written.append(f"{kind} {len(rows)}"))
    assert written == []


class _NoSeek(io.RawIOBase):
    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)
        self.read_bytes = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        data = self._data.read(size)
        self.read_bytes += len(data)
        return data


def test_the_stream_is_read_once_and_never_sought() -> None:
    """O20: five passes over the decompressed bytes."""
    data = pack(small_course() | {"static/noise": random.Random(1).randbytes(500_000)})
    stream = _NoSeek(data)
    read_archive(stream, name="x", write=lambda _kind, _rows: None)  # type: ignore[arg-type]  # a BinaryIO has more
    assert stream.read_bytes == len(data)
