"""Broken, hostile and oversized cartridges: refused as a whole, or the one file quarantined and the rest read."""

import contextlib
import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from cartridge_builder import Course, pack, physics
from hypothesis import given, settings
from hypothesis import strategies as st
from ol_canvas.cartridge import Cartridge, CartridgeError, CartridgeLimits, read_cartridge
from ol_core import PermanentFailure

SETTINGS = ["module_meta.xml", "files_meta.xml", "assignment_groups.xml", "course_settings.xml"]


def read(stream: io.BytesIO, limits: CartridgeLimits | None = None) -> Cartridge:
    return read_cartridge(stream, name="course.imscc", limits=limits or CartridgeLimits())


def reasons(cartridge: Cartridge) -> list[tuple[str, str]]:
    return [(entry.path, entry.reason) for entry in cartridge.quarantine]


def reread(changes: dict[str, bytes]) -> Cartridge:
    return read(pack({**physics().files(), **changes}))


# Whole cartridges


def test_errors_are_permanent_and_name_the_cartridge() -> None:
    with pytest.raises(PermanentFailure, match=r"'course\.imscc'.*not a complete zip.*export it again"):
        read(io.BytesIO(b"<html>Not found</html>"))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CartridgeError, match="cannot be opened: No such file"):
        read_cartridge(tmp_path / "none.imscc", name="none.imscc")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_zip_is_an_error(share: float) -> None:
    packed = physics().pack().getvalue()
    with pytest.raises(CartridgeError, match=r"course\.imscc"):
        read(io.BytesIO(packed[: int(len(packed) * share)]))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_changed_byte_is_an_error_that_names_the_member(compression: int) -> None:
    content = bytes(range(256)) * 40
    packed = bytearray(
        pack({**physics().files(), "web_resources/data.bin": content}, compression=compression).getvalue()
    )
    packed[packed.find(b"web_resources/data.bin") + 22 + 20] ^= 0x10
    with pytest.raises(CartridgeError, match=r"web_resources/data\.bin.*corrupt"):
        read(io.BytesIO(bytes(packed)))


def test_a_member_shorter_than_declared_is_an_error() -> None:
    packed = bytearray(pack({**physics().files(), "web_resources/data.bin": b"x" * 1000}).getvalue())
    entry = packed.rfind(b"web_resources/data.bin") - 46
    packed[entry + 24 : entry + 28] = struct.pack("<I", 2000)  # uncompressed size, in the central directory
    with pytest.raises(CartridgeError, match=r"data\.bin.*1000 bytes where the zip declares 2000"):
        read(io.BytesIO(bytes(packed)))


def test_an_encrypted_member_is_an_error() -> None:
    packed = bytearray(physics().pack().getvalue())
    entry = packed.rfind(b"talk.xml") - 46
    packed[entry + 8] |= 1
    with pytest.raises(CartridgeError, match=r"'talk\.xml': is encrypted"):
        read(io.BytesIO(bytes(packed)))


def test_an_unusual_compression_is_an_error() -> None:
    with pytest.raises(CartridgeError, match="compressed by method 12; valid are 0"):
        read(pack(physics().files(), compression=zipfile.ZIP_BZIP2))


@pytest.mark.parametrize("name", [None, "folder/imsmanifest.xml"])
def test_a_missing_manifest_is_an_error(name: str | None) -> None:
    files = physics().files()
    manifest = files.pop("imsmanifest.xml")
    hint = "it lies at 'folder/imsmanifest.xml'" if name else "has no imsmanifest.xml"
    with pytest.raises(CartridgeError, match=hint):
        read(pack({**files, name: manifest} if name else files))


@pytest.mark.parametrize(
    ("manifest", "problem"),
    [
        (b"", "malformed_xml"),
        (b"<manifest>\n<resources>\n</manifest>", r"line 3.*mismatched tag"),
        (b'<!DOCTYPE m [<!ENTITY a "b">]><manifest>&a;</manifest>', "forbidden_xml"),
        (b"<html></html>", "root element 'html' where 'manifest'"),
        (b"<manifest>" * 500, "xml_too_deep"),
        (b'<?xml version="1.0" encoding="utf-99"?><manifest/>', "malformed_xml"),
    ],
)
def test_an_unusable_manifest_is_an_error(manifest: bytes, problem: str) -> None:
    with pytest.raises(CartridgeError, match=rf"(?s)member 'imsmanifest\.xml'.*{problem}"):
        reread({"imsmanifest.xml": manifest})


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        (CartridgeLimits(members=5), "members; at most 5"),
        (CartridgeLimits(member_bytes=3_000_000), r"zeros\.bin.*unpacks to 4000000 bytes; at most 3000000"),
        (CartridgeLimits(total_bytes=4_000_000), "bytes; at most 4000000"),
        (CartridgeLimits(), "times its size; at most 200 times"),
        (CartridgeLimits(ratio=1e9, xml_bytes=500), "longer than 500 bytes"),
    ],
)
def test_limits(limits: CartridgeLimits, problem: str) -> None:
    with pytest.raises(CartridgeError, match=problem):
        read(pack({**physics().files(), "web_resources/zeros.bin": bytes(4_000_000)}), limits)


def test_memory_does_not_grow_with_the_bytes_of_files() -> None:
    course = physics()
    course.file("big", "web_resources/big.bin", bytes(32 * 1024 * 1024))
    course.members["bank-2.xml"] = b"<questestinterop>" + b"<item>text</item>" * 200_000 + b"</questestinterop>"
    course.resource("bank-2", "imsqti_xmlv1p2/imscc_xmlv1p1/question-bank", "bank-2.xml")
    packed = course.pack()
    tracemalloc.start()
    read(packed, CartridgeLimits(ratio=1e9))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 1024 * 1024


# Single members


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/etc/passwd", "unsafe_name"),
        ("../up.txt", "unsafe_name"),
        ("web_resources/../../up.txt", "unsafe_name"),
        ("web_resources//a.txt", "unsafe_name"),
        ("C:/a.txt", "unsafe_name"),
        ("web_resources\\a.txt", "unsafe_name"),
        ("web_resources/" + "a" * 2000, "unsafe_name"),
        ("__MACOSX/web_resources/._a.txt", "system_file"),
        ("web_resources/.DS_Store", "system_file"),
    ],
)
def test_unusable_names_are_refused_one_by_one(name: str, reason: str) -> None:
    cartridge = reread({name: b"12345"})
    assert reasons(cartridge) == [(name, reason)]
    assert cartridge.quarantine[0].size_bytes == 5
    assert cartridge.member_count == len(physics().files()) + 1
    assert cartridge.items == reread({}).items


def test_a_nul_in_a_name_is_refused() -> None:
    packed = pack({**physics().files(), "web_resources/aXb.txt": b"1"}).getvalue().replace(b"aXb.txt", b"a\0b.txt")
    assert reasons(read(io.BytesIO(packed))) == [("web_resources/a\\0b.txt", "unsafe_name")]


def test_a_link_is_refused() -> None:
    stream = physics().pack()
    with zipfile.ZipFile(stream, "a") as archive:
        link = zipfile.ZipInfo("web_resources/link.txt")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert reasons(read(stream)) == [("web_resources/link.txt", "link_member")]


def test_a_leading_dot_slash_is_no_fault() -> None:
    cartridge = read(pack({f"./{name}": content for name, content in physics().files().items()}))
    assert cartridge.items == reread({}).items


def test_of_two_members_with_one_name_the_last_counts() -> None:
    files = list(physics().files().items())
    page = ("wiki_content/welcome.html", b"<html><head><title>Older</title></head></html>")
    cartridge = read(pack([page, *files]))
    assert reasons(cartridge) == [("wiki_content/welcome.html", "duplicate_member")]
    assert cartridge.content_digest == reread({}).content_digest
    assert read(pack([*files, page])).content_digest != reread({}).content_digest


@pytest.mark.parametrize("name", SETTINGS)
def test_a_malformed_settings_file_costs_only_itself(name: str) -> None:
    cartridge = reread({f"course_settings/{name}": b"<a>\n<b>\n</a>"})
    (entry,) = cartridge.quarantine
    assert (entry.path, entry.line, entry.reason) == (f"course_settings/{name}", 3, "malformed_xml")
    assert cartridge.items_by_type == reread({}).items_by_type


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<quiz><title>x</quiz>", "malformed_xml"),
        (b'<!DOCTYPE q [<!ENTITY a SYSTEM "file:///etc/passwd">]><quiz>&a;</quiz>', "forbidden_xml"),
        (b"<quiz>" * 20_000, "xml_too_deep"),
        (b"<quiz>" + b" " * 100_000 + b"</quiz>", "xml_too_large"),
        (b"", "malformed_xml"),
    ],
)
def test_bad_settings_of_one_item_leave_the_item(content: bytes, reason: str) -> None:
    files = {**physics().files(), "quiz/assessment_meta.xml": content, "essay/assignment_settings.xml": content}
    cartridge = read(pack(files), CartridgeLimits(xml_bytes=60_000 if reason == "xml_too_large" else 10**6))
    assert sorted(reasons(cartridge)) == [
        ("essay/assignment_settings.xml", reason),
        ("quiz/assessment_meta.xml", reason),
    ]
    assert cartridge.items_by_type == reread({}).items_by_type
    titles = {found.item_id: found.title for found in cartridge.items}
    assert (titles["quiz"], titles["essay"]) == ("Quiz 1", "Assignment: Essay")


def test_xml_among_the_files_of_a_course_is_not_parsed() -> None:
    cartridge = reread({"web_resources/broken.xml": b"<a>", "notes/broken.xml": b"<a>"})
    assert reasons(cartridge) == []
    assert cartridge.items_by_type["file"] == 3


def test_pages_in_other_encodings_do_not_fail() -> None:
    course = Course()
    course.file("a", "web_resources/a.txt")
    course.members["wiki_content/latin.html"] = "<html><head><title>Caf\xe9</title></head>".encode("latin-1")
    (page,) = [found for found in read(course.pack()).items if found.item_type == "page"]
    assert page.title == "Caf\N{REPLACEMENT CHARACTER}"


@settings(max_examples=300, deadline=None)
@given(position=st.integers(0, 10**6), value=st.integers(0, 255), cut=st.booleans())
def test_no_damage_raises_anything_but_a_cartridge_error(position: int, value: int, cut: bool) -> None:  # noqa: FBT001
    packed = bytearray(physics().pack().getvalue())
    position %= len(packed)
    if cut:
        del packed[position:]
    else:
        packed[position] = value
    with contextlib.suppress(CartridgeError):
        read(io.BytesIO(bytes(packed)))
