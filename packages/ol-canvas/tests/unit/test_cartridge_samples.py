"""Real cartridges, counted by hand from their manifests and settings."""

import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ol_canvas.cartridge import Cartridge, read_cartridge

pytestmark = pytest.mark.samples


@pytest.fixture(scope="module")
def samples() -> Path:
    candidates = [Path(given)] if (given := os.environ.get("OL_SAMPLES_DIR")) else list(_siblings())
    found = next((path for path in candidates if path.is_dir()), None)
    if found is None:
        pytest.skip("no folder of samples: set OL_SAMPLES_DIR")
    return found


def _siblings() -> Iterator[Path]:
    return (parent / "shared" / "samples" for parent in Path(__file__).resolve().parents)


def read(samples: Path, name: str) -> Cartridge:
    folder = samples / "common-cartridge-viewer" / "public" / "test-cartridges"
    path = samples / "canvas_cc/test/fixtures/cc.imscc" if name == "cc.imscc" else folder / name
    if not path.is_dir():
        return read_cartridge(path, name=name)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for file in sorted(path.rglob("*")):
            archive.write(file, str(file.relative_to(path)))
    return read_cartridge(stream, name=name)


@pytest.mark.parametrize(
    ("name", "title", "version", "items", "files", "quarantined"),
    [
        (
            "allyworkshop.imscc",
            "Ally: Accessibility Workshop",
            "1.3.0",
            # 26 files of web_resources; the tool Canvabadges, and the badge that module 3 links to
            {"discussion": 4, "file": 26, "lti": 2, "module": 4, "page": 12},
            (26, 3_228_423),
            0,
        ),
        ("canvas_cc_gem_course.imscc", "Canvas CC Gem Course", "1.1.0", {"assignment": 3}, (0, 0), 0),
        ("latex.imscc", "LaTeX Equations", "1.1.0", {"module": 1, "page": 2}, (0, 0), 0),
        ("single-page.imscc", "The Life of Paul", "1.3.0", {"page": 1}, (0, 0), 0),
        ("cc.imscc", "Beginning Ruby on Rails", "1.1.0", {"assignment": 1, "syllabus": 1}, (0, 0), 0),
        ("grouptest.zip", "questionGroupCourse", "1.3.0", {"module": 1, "question_bank": 1, "quiz": 3}, (0, 0), 0),
        ("all-question-types", "XavierSchool", "1.3.0", {"quiz": 1}, (0, 0), 0),
        (
            "assignment-rubrics",
            "Course with An Assignment that Has a Rubric",
            "1.3.0",
            {"assignment": 1},
            (0, 0),
            0,
        ),
        (
            "course-1",
            "COURSE-for-modules-testing",
            "1.3.0",
            {
                "assignment": 2,
                "discussion": 1,
                "file": 3,  # photo.jpg has two resources
                "lti": 1,
                "module": 1,
                "page": 1,
                "question_bank": 1,
                "quiz": 1,
                "subheader": 1,
                "weblink": 1,
            },
            (3, 561 + 23_878 + 17_988),
            4,  # sample.mp3 and three documents are named and absent
        ),
        (
            "course-with-associated-content-assignments",
            "DocViewer",
            "1.1.0",
            {
                "announcement": 1,
                "assignment": 2,
                "discussion": 1,
                "file": 1,
                "lti": 2,
                "module": 1,
                "page": 1,
                "question_bank": 1,
                "quiz": 2,  # one has no assessment_qti.xml
            },
            (1, 17_988),
            0,
        ),
        ("course-with-no-showable-resources", "XavierSchool", "1.3.0", {"lti": 5, "module": 1}, (0, 0), 0),
        ("multiple-pages", "Cartridge With Multiple Pages", "1.3.0", {"page": 3}, (0, 0), 0),
        (
            "rich-content-cc-file",
            "Dhealey Main 1",
            "1.3.0",
            {"file": 3, "page": 1},  # external_content/lti_42.json is not in the manifest
            (3, 112_165 + 12_837 + 633),
            0,
        ),
        ("single-assignment", "My test", "1.3.0", {"assignment": 1}, (0, 0), 0),
        ("single-discussion", "My test", "1.3.0", {"discussion": 1, "file": 1}, (1, 6_091), 0),
        ("single-page", "Single Page Cartridge", "1.3.0", {"page": 1}, (0, 0), 0),
    ],
)
def test_counts(
    samples: Path,
    *,
    name: str,
    title: str,
    version: str,
    items: dict[str, int],
    files: tuple[int, int],
    quarantined: int,
) -> None:
    cartridge = read(samples, name)
    assert (cartridge.title, cartridge.schema_version) == (title, version)
    assert cartridge.items_by_type == items
    assert (cartridge.file_count, cartridge.file_bytes) == files
    assert cartridge.quarantined_count == quarantined
    assert {entry.reason for entry in cartridge.quarantine} <= {"missing_member"}


def test_modules_of_the_workshop(samples: Path) -> None:
    cartridge = read(samples, "allyworkshop.imscc")
    modules = {item.title: item.module_position for item in cartridge.items if item.item_type == "module"}
    assert modules == {
        "Part 1: Overview: Accessibility and ALLY": 1,
        'Part 2: "Before" courses': 2,
        'Part 3:  "After" courses': 3,
        "More on Accessibility": 4,
    }
    part_3 = [(item.position, item.item_type, item.title) for item in cartridge.items if item.module_position == 3]
    assert part_3[1:] == [
        (2, "discussion", "Your courses, Accessible"),
        (3, "page", "Call it out to your Students"),
        (4, "lti", "Badge: ALLY Badge"),
    ]
    unpublished = {item.title for item in cartridge.items if item.workflow_state == "unpublished"}
    assert unpublished == {"ALLY Explained: Video", "What ALLY does"}
    assert cartridge.member_count == 54


def test_states_and_titles_of_assignments(samples: Path) -> None:
    gem = read(samples, "canvas_cc_gem_course.imscc")
    assert {(item.title, item.workflow_state) for item in gem.items} == {
        ("Course with Known Submission Type", "active"),
        ("Course with Unknown Submission Type", "active"),
        ("Course with Missing Submission Type", "active"),
    }
    quizzes = [item for item in read(samples, "grouptest.zip").items if item.item_type == "quiz"]
    assert [(item.title, item.workflow_state, item.position) for item in quizzes] == [
        ("Grouped questions", "unpublished", 1),
        ("Mixed Quiz", "unpublished", 2),
        ("Ungrouped Quiz", "unpublished", 3),
    ]
