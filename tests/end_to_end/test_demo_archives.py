"""`ol demo` on folders of archives, good and bad: each bad one fails alone, all others are built."""

import fcntl
import io
import os
import signal
import tarfile
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ol_devkit.generators import OlxExport, generate_cartridge, generate_olx_course

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Demo, Outcome

XML = "mitx/openedx/raw_data/course_xml"
BLOCKS = "raw__mitx__openedx__course_blocks"


def packed(files: Mapping[str, bytes], *, link: str | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        if link:
            member = tarfile.TarInfo(link)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(member)
    return stream.getvalue()


def zipped(files: Mapping[str, bytes], *, link: str | None = None) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        if link:
            member = zipfile.ZipInfo(link)
            member.create_system, member.external_attr = 3, 0o120777 << 16
            archive.writestr(member, "/etc/passwd")
    return stream.getvalue()


def handmade(number: str, *, chapters: tuple[bytes, ...] = (b"<chapter/>",)) -> dict[str, bytes]:
    """The files of a small course `Hand/number/2012`."""
    pointers = "".join(f'<chapter url_name="c{n}"/>' for n in range(len(chapters)))
    return {
        "course/course.xml": f'<course org="Hand" course="{number}" url_name="2012"/>'.encode(),
        "course/course/2012.xml": f"<course>{pointers}</course>".encode(),
        **{f"course/chapter/c{n}.xml": chapter for n, chapter in enumerate(chapters)},
    }


def olx(index: int, export: int = 0) -> bytes:
    stream = io.BytesIO()
    generate_olx_course("folder", index).write(stream, OlxExport.nth(export))
    return stream.getvalue()


def cartridge(index: int) -> bytes:
    stream = io.BytesIO()
    generate_cartridge("folder", index).write(stream)
    return stream.getvalue()


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


MANIFEST = (
    b'<manifest xmlns="http://www.imsglobal.org/xsd/imsccv1p1/imscp_v1p1"><metadata>'
    b"<schema>IMS Common Cartridge</schema><schemaversion>1.1.0</schemaversion></metadata>"
    b"<organizations/><resources/></manifest>"
)
OLX: dict[str, Callable[[], bytes]] = {
    "a course.tar.gz": lambda: olx(0),
    "b the same course.tar.gz": lambda: olx(0, export=1),
    "c ünï [b] %41/nested.TGZ": lambda: olx(1, export=3),
    "Hand%2Fold%2F2012.tar.gz": lambda: packed(handmade("old")),
    "malformed chapter.tar.gz": lambda: packed(handmade("mal", chapters=(b"<chapter/>", b"<chapter>\n<html>"))),
    "link.tar.gz": lambda: packed(handmade("link"), link="course/static/passwd"),
    "cut.tar.gz": lambda: olx(2)[:-5000],
    "flipped.tar.gz": lambda: flipped(olx(3), -8),
    "text.tar.gz": lambda: b"no archive",
    "empty.tar.gz": lambda: b"",
    "no course.tar.gz": lambda: packed({"course/about/overview.html": b"<p/>"}),
    "malformed course.tar.gz": lambda: packed({"course/course.xml": b"<course"}),
    "bomb.tar.gz": lambda: packed({**handmade("bomb"), "course/static/zeros.bin": bytes(40_000_000)}),
}
CARTRIDGES: dict[str, Callable[[], bytes]] = {
    "a course.imscc": lambda: cartridge(0),
    "b the same course.imscc": lambda: cartridge(0),
    "c ünï [b] %41.imscc": lambda: cartridge(1),
    "link.imscc": lambda: zipped({"imsmanifest.xml": MANIFEST}, link="web_resources/passwd"),
    "cut.imscc": lambda: cartridge(2)[:-5000],
    "flipped.imscc": lambda: flipped(cartridge(3), 5000),
    "text.imscc": lambda: b"no archive",
    "empty.imscc": lambda: b"",
    "no manifest.imscc": lambda: zipped({"web_resources/a.txt": b"a"}),
    "malformed.imscc": lambda: zipped({"imsmanifest.xml": b"<manifest>\n<organizations>"}),
    "bomb.imscc": lambda: zipped({"imsmanifest.xml": MANIFEST, "web_resources/zeros.bin": bytes(40_000_000)}),
}
REASONS = {
    "cut.tar.gz": "cut",
    "flipped.tar.gz": "CRC check failed",
    "text.tar.gz": "Not a gzipped file",
    "empty.tar.gz": "empty",
    "no course.tar.gz": "no course in it",
    "malformed course.tar.gz": "malformed_xml",
    "bomb.tar.gz": "limit ratio",
    "cut.imscc": "not a complete zip",
    "flipped.imscc": "corrupt",
    "text.imscc": "not a complete zip",
    "empty.imscc": "not a complete zip",
    "no manifest.imscc": "no imsmanifest.xml",
    "malformed.imscc": "line 2",
    "bomb.imscc": "times its size",
}
"""The archives that cannot be used at all, and a part of what must be said of each."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The options that name the folders of the archives."""
    root = tmp_path_factory.mktemp("archives [b]")
    for folder, archives in (("olx", OLX), ("cartridges", CARTRIDGES)):
        for name, build in archives.items():
            (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (root / folder / name).write_bytes(build())
    return ("--olx", str(root / "olx"), "--cartridges", str(root / "cartridges"))


@pytest.fixture(scope="module")
def mixed(demo: "Demo", folders: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> "Outcome":
    """The state after a run that was killed in the middle of a job, and a run that took it up."""
    data_dir = tmp_path_factory.mktemp("mixed")
    with demo.start(data_dir, *folders) as killed:
        assert killed.stderr
        assert any("canvas_course_export" in line for line in killed.stderr)
        time.sleep(0.4)  # the next job is under way
        os.killpg(killed.pid, signal.SIGKILL)
    return demo.run(data_dir)


def test_each_bad_archive_fails_alone_with_its_reason(mixed: "Outcome") -> None:
    assert mixed.code == 1
    assert mixed.failed.keys() == REASONS.keys()
    for name, reason in REASONS.items():
        failure = mixed.failed[name]
        assert failure["reason"].startswith("Quarantined: ")
        assert reason in failure["reason"]
        assert failure["asset"] == ("canvas/course_content" if name.endswith("imscc") else XML)
        kept = Path(failure["reason"].rpartition("the file is kept at ")[2])
        assert kept.is_relative_to(mixed.data_dir / "objects" / "quarantine")
        assert kept.read_bytes() == Path(failure["archive"]).read_bytes()
        assert failure["archive"] in mixed.said


def test_what_part_of_an_archive_cannot_be_used_is_in_quarantine(mixed: "Outcome") -> None:
    found = {(Path(row["archive"]).name, row["path"], row["reason"]) for row in mixed.summary["quarantined"]}

    assert len(mixed.summary["quarantined"]) == len(found)
    assert found == {
        ("malformed chapter.tar.gz", "chapter/c1.xml", "malformed_xml"),
        ("link.tar.gz", "static/passwd", "link_member"),
        ("link.imscc", "web_resources/passwd", "link_member"),
    }


def test_all_others_are_built(mixed: "Outcome") -> None:
    catalog = mixed.catalog()

    assert len(catalog) == len(OLX) + len(CARTRIDGES)
    first, second = generate_olx_course("folder", 0), generate_olx_course("folder", 1)
    for course_id, course in ((first.course_id, first), (f"{first.course_id}.2", first), (second.course_id, second)):
        mixed.says_of_course_run(course_id, course)
    for course_id, index in (("4001", 0), ("4002", 0), ("4004", 1)):
        mixed.says_of_canvas_course(course_id, generate_cartridge("folder", index))
    for number, course_id in (("old", "Hand/old/2012"), *((n, f"course-v1:Hand+{n}+2012") for n in ("mal", "link"))):
        assert catalog[course_id]["block_counts"] == "chapter=1;course=1", number
        assert catalog[course_id]["quarantined_count"] == (number != "old")
    assert catalog["course-v1:Hand+bomb+2012"]["has_content"] is False
    old = {block["block_id"] for block in mixed.raw(BLOCKS) if block["course_id"] == "Hand/old/2012"}
    assert old == {"i4x://Hand/old/course/2012", "i4x://Hand/old/chapter/c0"}


def test_a_run_after_failures_tries_nothing_again_and_reports_all_of_it(demo: "Demo", mixed: "Outcome") -> None:
    second = demo.run(mixed.data_dir)

    assert second.code == 1
    assert (second.summary["runs"], second.summary["up_to_date"], second.summary["ok"]) == ([], True, False)
    assert [second.summary[name] for name in ("failed", "quarantined", "rows")] == [
        mixed.summary[name] for name in ("failed", "quarantined", "rows")
    ]
    assert "Everything is current" not in second.said
    assert second.files() == mixed.files()


def test_a_choice_that_cannot_be_served_is_refused_plainly(demo: "Demo", tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for data_dir, arguments, reason in (
        ("a", ("--olx", str(tmp_path / "none")), "no such folder"),
        ("a", ("--cartridges", str(tmp_path / "empty")), "ends in .imscc"),
        ("file", (), "cannot write to the data folder"),
    ):
        refused = demo.run(tmp_path / data_dir, *arguments)
        assert (refused.code, refused.output) == (1, "")
        assert reason in refused.said
        assert "Traceback" not in refused.said
    assert not (tmp_path / "a").exists()


def test_a_data_folder_that_is_in_use_is_refused(demo: "Demo", tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = demo.run(tmp_path, "--courses", "1")

    assert refused.code == 1
    assert "another `ol demo` or `ol dev` uses" in refused.said


SAMPLES = {
    "course-v1:DevOps+0.001+2015_Summer": (
        "chapter=3;course=1;edx_sga=1;html=1;lti=1;openassessment=1;problem=20;sequential=5;vertical=16;video=1",
        (8, 837_495),
    ),
    "course-v1:MITx+mitx.01+2013_Spring": ("chapter=1;course=1;html=1;sequential=1", (0, 0)),
    "course-v1:MITx+mitx.01+2013_Spring.2": ("chapter=1;course=1;html=1;sequential=1", (0, 0)),
    "course-v1:MITx+mitx.01+2013_Spring.3": ("chapter=1;course=1;sequential=1", (0, 0)),
    "course-v1:MITxT+8.01.3x+3T2022": ("course=1", (0, 0)),
    "course-v1:MITxT+8.01.3x+3T2022_minor_change": ("course=1", (0, 0)),
    "course-v1:MITxT+8.01.3x+3T2022_no_change": ("course=1", (0, 0)),
    "course-v1:MITxT+8.01.4x+3T2022": ("course=1", (0, 0)),
    "course-v1:unreadable+empty+archive": ("", (0, 0)),
    "4001": ("discussion=4;file=26;lti=2;module=4;page=12", (26, 3_228_423)),  # allyworkshop
    "4002": ("assignment=3", (0, 0)),  # canvas_cc_gem_course; its manifest names a syllabus that is not there
    "4003": ("assignment=1;syllabus=1", (0, 0)),  # cc
    "4004": ("module=1;page=2", (0, 0)),  # latex
    "4005": ("page=1", (0, 0)),  # single-page
}
"""Blocks by type, files and bytes of archives that nobody here wrote; counted in the files by other means."""


@pytest.mark.samples
def test_archives_of_others_are_counted_right(demo: "Demo", tmp_path: Path) -> None:
    stated = os.environ.get("OL_SAMPLES_DIR")
    samples = Path(stated) if stated else Path(__file__).resolve().parents[3] / "shared" / "samples"
    if not samples.is_dir():
        pytest.skip(f"there are no samples at {samples}; set OL_SAMPLES_DIR")
    for folder in ("olx", "cartridges"):
        (tmp_path / folder).mkdir()
    for file in (samples / "mit-learn" / "test_json").glob("*.tar.gz"):
        (tmp_path / "olx" / file.name).write_bytes(file.read_bytes())
    for tree in (samples / "xbundle" / "input_testdata").iterdir():
        if tree.is_dir():
            with tarfile.open(tmp_path / "olx" / f"{tree.name}.tar.gz", "w:gz") as archive:
                archive.add(tree, tree.name)
    for file in [*(samples / "common-cartridge-viewer").rglob("*.imscc"), *(samples / "canvas_cc").rglob("*.imscc")]:
        (tmp_path / "cartridges" / file.name).write_bytes(file.read_bytes())

    done = demo.run(tmp_path / "data", "--olx", str(tmp_path / "olx"), "--cartridges", str(tmp_path / "cartridges"))

    found = {
        course_id: (row["block_counts"], (row["file_count"], row["file_bytes"]))
        for course_id, row in done.catalog().items()
    }
    assert found == SAMPLES
    assert done.code == 1
    assert done.failed.keys() == {"empty.tar.gz"}
    assert {Path(row["archive"]).name for row in done.summary["quarantined"]} == {
        "mitx.01.tar.gz",
        "mitx.01.exported.tar.gz",
    }
    assert all(row["reason"] == "malformed_json" for row in done.summary["quarantined"])
