"""Real archives and trees that nobody of this project wrote, with numbers counted by hand and by another program."""

import io
import os
import tarfile
from pathlib import Path

import pytest
from ol_openedx.archive import ArchiveError, digest_archive
from olx_archives import Reading, read

pytestmark = pytest.mark.samples


def samples() -> Path:
    """The folder of samples: OL_SAMPLES_DIR, else `shared/samples` beside the repository."""
    if named := os.environ.get("OL_SAMPLES_DIR"):
        folders = [Path(named)]
    else:
        folders = [parent / "shared" / "samples" for parent in Path(__file__).resolve().parents]
    for folder in folders:
        if folder.is_dir():
            return folder
    pytest.skip("no samples: set OL_SAMPLES_DIR to the folder that holds them")


def mit_learn(name: str) -> bytes:
    return (samples() / "mit-learn" / "test_json" / f"{name}.tar.gz").read_bytes()


def xbundle(name: str, root: str) -> Reading:
    """Read a tree of samples/xbundle, packed below a root: `course`, `.`, or nothing at all."""
    folder = samples() / "xbundle" / "input_testdata" / name
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        if root:
            tar.add(folder, arcname=root)
        else:
            for path in sorted(folder.iterdir()):
                tar.add(path, arcname=path.name)
    return read(buffer.getvalue())


COURSE = "course-v1:MITxT+8.01.3x+3T2022"


@pytest.mark.parametrize(
    ("name", "course_id", "display_name", "total_bytes", "skipped"),
    [
        (COURSE, COURSE, "Mechanics: Rotational Dynamics", 4345, 1),
        (f"{COURSE}_minor_change", COURSE, "Mechanics: Rotational Dynamics", 4345, 4),
        (f"{COURSE}_no_change", COURSE, "Mechanics: Rotational Dynamics", 4345, 1),
        (
            "course-v1:MITxT+8.01.4x+3T2022",
            "course-v1:MITxT+8.01.4x+3T2022",
            "Mechanics: Simple Harmonic Motion",
            4351,
            0,
        ),
    ],
)
def test_stub_courses_of_mit(*, name: str, course_id: str, display_name: str, total_bytes: int, skipped: int) -> None:
    """O2, O6: the first member is `._course`, and the course has no children."""
    found = read(mit_learn(name))
    summary = found.summary
    assert (summary.course_id, dict(summary.blocks_by_type)) == (course_id, {"course": 1})
    assert (summary.member_count, summary.total_bytes, summary.skipped_count) == (17, total_bytes, skipped)
    assert (summary.static_file_count, summary.quarantined_count) == (0, 0)
    assert found.metadata["display_name"] == display_name
    assert found.metadata["self_paced"] is True
    assert str(found.metadata["end_at"]) == "2023-04-13 16:00:00"
    assert [(row["kind"], row["is_current"]) for row in found.rows["course_policy"]] == [
        ("grading_policy", True),
        ("policy", True),
    ]


def test_the_digest_tells_a_change_from_none() -> None:
    """O9"""
    first, same, changed = (
        digest_archive(io.BytesIO(mit_learn(name)), name=name).content_digest
        for name in (COURSE, f"{COURSE}_no_change", f"{COURSE}_minor_change")
    )
    assert first == same != changed


def test_an_empty_archive_is_a_clear_error() -> None:
    with pytest.raises(ArchiveError, match="no course in it"):
        read(mit_learn("empty"))


DEVOPS = {
    "chapter": 3,
    "course": 1,
    "edx_sga": 1,
    "html": 1,
    "lti": 1,
    "openassessment": 1,
    "problem": 20,
    "sequential": 5,
    "vertical": 16,
    "video": 1,
}


@pytest.mark.parametrize("root", ["course", ".", ""])
def test_content_devops_0001(root: str) -> None:
    """Old and new forms together: `P2:problem_1`, a `filename` in a folder of its own, inline blocks."""
    found = xbundle("content-devops-0001", root)
    summary = found.summary
    assert summary.course_id == "course-v1:DevOps+0.001+2015_Summer"
    assert summary.blocks_by_type == DEVOPS
    assert (summary.block_count, summary.orphan_block_count, summary.draft_block_count) == (50, 0, 0)
    assert (summary.member_count, summary.total_bytes) == (65, 890168)
    assert (summary.static_file_count, summary.static_bytes) == (8, 837495)
    assert found.quarantine == []
    assert [row["block_index"] for row in found.blocks()] == list(range(50))
    assert {row["url_name"] for row in found.blocks() if row["is_inline"]} == {
        "test-sgap1",
        "00b4fdc25b7946a784fc112c6425e917",
    }
    assert found.block("P2:problem_1")["path"] == "problem/P2/problem_1.xml"
    assert found.video("9e2221cda24447cb8518fb9bea1f500e")["youtube_id"] == "OEoXaMPEzfM"
    assert found.metadata["display_name"] == "Ops"
    assert str(found.metadata["start_at"]) == "2014-08-25 15:00:00"
    assert "REDACTED" not in str(found.rows)


@pytest.mark.parametrize("root", ["course", ".", ""])
@pytest.mark.parametrize(
    ("name", "blocks", "members", "quarantined"),
    [
        ("mitx.01", {"chapter": 1, "course": 1, "html": 1, "sequential": 1}, 7, 2),
        ("mitx.01.exported", {"chapter": 1, "course": 1, "html": 1, "sequential": 1}, 8, 2),
        ("sections", {"chapter": 1, "course": 1, "sequential": 1}, 3, 0),
    ],
)
def test_small_trees_of_xbundle(
    *, name: str, blocks: dict[str, int], members: int, quarantined: int, root: str
) -> None:
    """Inline sequentials, `<section>`, and policy files that hold no JSON."""
    found = xbundle(name, root)
    assert found.summary.course_id == "course-v1:MITx+mitx.01+2013_Spring"
    assert found.summary.blocks_by_type == blocks
    assert (found.summary.orphan_block_count, found.summary.member_count) == (0, members)
    assert [reason for _, reason in found.quarantine] == ["malformed_json"] * quarantined
    assert [row["display_name"] for row in found.blocks()][1:3] == ["Intro", "Overview"]
