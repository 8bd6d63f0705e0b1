import io
import json
import tarfile
from collections.abc import Iterator
from datetime import timedelta
from xml.etree.ElementTree import Element

import pytest
from defusedxml.ElementTree import fromstring
from ol_devkit.generators import OlxCourse, OlxExport, generate_olx_course, olx_identity
from ol_devkit.generators.olx_policies import FAKE_PASSPORT, static_file_count

# Elements in the tree that are not blocks: the wiki of a course, and what XBlocks keep inside them.
CONTAINERS = {"course", "chapter", "sequential", "vertical", "library_content"}


def export(course: OlxCourse, shape: OlxExport) -> bytes:
    stream = io.BytesIO()
    course.write(stream, shape)
    return stream.getvalue()


def files_of(archive: bytes, root: str = "course") -> dict[str, bytes]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        for member in opened:
            name = member.name.removeprefix("./")
            content = opened.extractfile(member)
            if content and name.startswith(f"{root}/") and not name.endswith(".DS_Store"):
                found[name.removeprefix(f"{root}/")] = content.read()
    return found


def walk(files: dict[str, bytes], element: Element, folder: str = "") -> Iterator[tuple[str, Element, str]]:
    """`type@url_name`, definition and file of a block and of those below it, by the pointer rule of Open edX."""
    name, path = element.get("url_name", ""), ""
    if set(element.attrib) <= {"url_name", "org", "course"} and not len(element):
        path = f"{folder}{element.tag}/{name.replace(':', '/')}.xml"
        element = fromstring(files[path])
    yield f"{element.tag}@{name}", element, path
    if element.tag in CONTAINERS:
        for child in element:
            if child.tag != "wiki":
                yield from walk(files, child, folder)


@pytest.mark.parametrize("size", [1, 5, "small", "medium"])
def test_truth_is_what_the_archive_says(size: str | int) -> None:
    course = generate_olx_course("s", 3, size, revision=1)
    files = files_of(export(course, OlxExport()))
    found = list(walk(files, fromstring(files["course.xml"])))
    assert tuple(block for block, _, _ in found) == course.truth.published
    videos = [element for block, element, _ in found if block.startswith("video@")]
    assert len(videos) == course.truth.videos
    seconds = sum(float(asset.get("duration", "")) for video in videos for asset in video.iter("video_asset"))
    assert seconds == pytest.approx(course.truth.video_seconds)
    static = {path: data for path, data in files.items() if path.startswith("static/")}
    assert (len(static), sum(map(len, static.values()))) == (course.truth.static_files, course.truth.static_bytes)
    assert sum(course.truth.published_by_type.values()) == len(course.truth.published)


def test_orphans_and_drafts_are_all_that_nothing_reaches() -> None:
    course = generate_olx_course(1, 0, 30)
    files = files_of(export(course, OlxExport()))
    reached = {path for _, _, path in walk(files, fromstring(files["course.xml"]))}
    left: dict[str, set[str]] = {"": set(), "drafts/": set()}
    for path in sorted(files):
        folder = "drafts/" if path.startswith("drafts/") else ""
        block_type, _, rest = path.removeprefix(folder).partition("/")
        is_block = rest.endswith(".xml") and block_type not in {"assets", "policies"}
        if is_block and path not in reached:
            name = rest.removesuffix(".xml").replace("/", ":")
            stub = Element(block_type, {"url_name": name})
            left[folder] |= {block for block, _, _ in walk(files, stub, folder)}
    assert left[""] == course.truth.orphans
    assert left["drafts/"] == course.truth.drafts
    assert len(left["drafts/"]) >= 3


def test_a_course_has_everything_that_trips_readers() -> None:
    course = generate_olx_course(5, 1, 60)
    files = files_of(export(course, OlxExport()))
    run = course.identity.run
    kinds = set(course.truth.published_by_type)
    inline = {"openassessment", "edx_sga", "poll", "lti_consumer", "discussion", "drag-and-drop-v2"}
    assert kinds == {"problem", "html", "video", *inline, *CONTAINERS}
    assert any(path.startswith("problem/P") and path.count("/") == 2 for path in files)
    policy = json.loads(files[f"policies/{run}/policy.json"])[f"course/{run}"]
    assert policy["lti_passports"] == [FAKE_PASSPORT]
    assert policy["certificates"]["certificates"][0]["signatories"]
    assert "GRADER" in json.loads(files[f"policies/{run}/grading_policy.json"])
    root = fromstring(files[f"course/{run}.xml"])
    assert root.get("start") == course.identity.start.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert json.loads(root.get("enrollment_end", "")) == course.identity.enrollment_end.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert root.get("self_paced") == str(course.identity.self_paced).lower()
    body = next(path for path in files if path.startswith("html/") and path.endswith(".html"))
    assert fromstring(files[body.removesuffix("html") + "xml"]).get("filename") == body[5:-5]
    assert files["static/empty.txt"] == b""
    assert {path.rpartition(".")[2] for path in files if path.startswith("static/")} >= {"png", "srt", "css", "txt"}


@pytest.mark.parametrize("number", range(1, 7))
def test_every_export_is_new_bytes_and_the_same_content(number: int) -> None:
    course = generate_olx_course(1, 0)
    first, other = export(course, OlxExport.nth(0)), export(course, OlxExport.nth(number))
    assert first != other
    assert files_of(first) == files_of(other)
    assert other == export(course, OlxExport.nth(number))
    with tarfile.open(fileobj=io.BytesIO(first)) as one, tarfile.open(fileobj=io.BytesIO(other)) as two:
        assert {m.mtime for m in one}.isdisjoint(m.mtime for m in two)
        orders = [[m.name.removeprefix("./") for m in archive if m.size] for archive in (one, two)]
    assert orders[0] != orders[1]
    assert orders[0] != sorted(orders[0])


def test_the_shapes_of_an_export() -> None:
    course = generate_olx_course(1, 0, 1)
    shape = OlxExport(1, root="run", dot_slash=True, litter=True, folders=False)
    with tarfile.open(fileobj=io.BytesIO(export(course, shape))) as archive:
        members = archive.getmembers()
    assert members[0].name == "._run"
    assert all(member.isfile() for member in members)
    assert all(member.name.startswith("./run/") for member in members[1:])
    shapes = {(s.dot_slash, s.litter, s.folders) for s in map(OlxExport.nth, range(12))}
    assert len(shapes) >= 6


def test_values_follow_from_seed_and_index_alone() -> None:
    assert generate_olx_course(1, 2).members == generate_olx_course(1, 2).members
    assert generate_olx_course(1, 2).members != generate_olx_course(2, 2).members
    assert generate_olx_course(1, 2).identity == olx_identity(1, 2)
    assert len({olx_identity(1, index).course_id for index in range(500)}) == 500
    identity = olx_identity(1, 2)
    assert identity.end - identity.start >= timedelta(weeks=6)


def test_a_revision_adds_a_block_and_a_files_revision_a_file() -> None:
    old, new = generate_olx_course(1, 0), generate_olx_course(1, 0, revision=2)
    assert set(old.truth.published) < set(new.truth.published)
    assert len(new.truth.published) - len(old.truth.published) == 2
    files = generate_olx_course(1, 0, files_revision=1)
    assert files.truth.published == old.truth.published
    assert files.truth.static_files == old.truth.static_files + 1
    uploads = [m for m in old.members if m.path.startswith("static/") and not m.path.endswith(".srt")]
    assert len(uploads) == static_file_count(12)


def test_large_files_are_made_while_they_are_read() -> None:
    course = generate_olx_course(1, 0, 120)
    large = max((member for member in course.members), key=lambda member: member.size_bytes)
    assert large.size_bytes > 1_000_000
    assert not isinstance(large.content, bytes)
    with large.open() as stream:
        assert stream.read() == b"".join(large.chunks())


@pytest.mark.parametrize("size", ["huge", 0, -3])
def test_an_unknown_size_is_refused(size: str | int) -> None:
    with pytest.raises(ValueError, match="small, medium, large"):
        generate_olx_course(1, 0, size)
