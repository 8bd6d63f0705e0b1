"""The digest tells whether content changed: a re-export without a change keeps it, every change moves it."""

import random
import re
import zipfile
from collections.abc import Callable

import pytest
from cartridge_builder import Course, pack, physics
from ol_canvas.cartridge import content_version, read_cartridge


def digest(files: dict[str, bytes], *, day: int = 1, compression: int = zipfile.ZIP_DEFLATED) -> str:
    return read_cartridge(pack(files, day=day, compression=compression), name="any name").content_digest


BASE = digest(physics().files())


def shuffled(files: dict[str, bytes], seed: int) -> dict[str, bytes]:
    names = list(files)
    random.Random(seed).shuffle(names)
    return {name: files[name] for name in names}


@pytest.mark.parametrize("seed", range(5))
def test_order_dates_and_compression_do_not_matter(seed: int) -> None:
    compression = zipfile.ZIP_STORED if seed % 2 else zipfile.ZIP_DEFLATED
    assert digest(shuffled(physics().files(), seed), day=seed + 1, compression=compression) == BASE


@pytest.mark.parametrize("seed", range(5))
def test_reshuffled_resources_do_not_matter(seed: int) -> None:
    course = physics()
    random.Random(seed).shuffle(course.resources)
    assert digest(course.files()) == BASE


def test_a_new_export_date_does_not_matter() -> None:
    course = physics()
    course.exported_on = "2027-12-31"
    assert digest(course.files()) == BASE


def test_rewritten_bytes_of_manifest_and_settings_do_not_matter() -> None:
    files = physics().files()
    for name in files:
        if name == "imsmanifest.xml" or name.startswith("course_settings/"):
            files[name] = files[name].replace(b"><", b">\n  <") + b"\n"
        if name.endswith(("module_meta.xml", "files_meta.xml", "assignment_groups.xml")):
            files[name] = b"<?xml version='1.0'?>\n<!-- exported 2027-01-01 -->\n" + files[name]
    files["course_settings/canvas_export.txt"] = b"another joke"
    files["course_settings/context.xml"] = b"<context_info><exported_at>2027-01-01</exported_at></context_info>"
    assert digest(files) == BASE


def test_new_identifiers_of_modules_and_places_do_not_matter() -> None:
    files = physics().files()
    for name in ("imsmanifest.xml", "course_settings/module_meta.xml"):
        files[name] = re.sub(rb'identifier="(week-\d|p\d)"', rb'identifier="new-\1"', files[name])
    assert digest(files) == BASE


def test_modules_written_in_another_order_with_the_same_positions_do_not_matter() -> None:
    files = physics().files()
    meta = files["course_settings/module_meta.xml"]
    first, second = re.findall(rb"<module .*?</module>", meta)
    files["course_settings/module_meta.xml"] = meta.replace(first + second, second + first)
    assert digest(files) == BASE


def rename_file(course: Course) -> None:
    course.members["web_resources/images/photo 2.jpg"] = course.members.pop("web_resources/images/photo one.jpg")
    course.resources = [resource.replace("photo one", "photo 2") for resource in course.resources]


def swap_bytes(course: Course) -> None:
    course.members["wiki_content/welcome.html"], course.members["wiki_content/draft.html"] = (
        course.members["wiki_content/draft.html"],
        course.members["wiki_content/welcome.html"],
    )


def retitle_page(course: Course) -> None:
    page = course.members["wiki_content/draft.html"]
    course.members["wiki_content/draft.html"] = page.replace(b"<title>A draft", b"<title>B draft")


def module(**changes: str) -> Callable[[Course], None]:
    def change(course: Course) -> None:
        identifier, title, state, places = course.modules[0]
        course.modules[0] = (identifier, changes.get("title", title), changes.get("state", state), places)

    return change


def settings(name: str, old: str, new: str) -> Callable[[Course], None]:
    return lambda course: course.settings.update({name: course.settings[name].replace(old, new)})


CHANGES: dict[str, Callable[[Course], object]] = {
    "a byte of a file": lambda course: course.members.update({"web_resources/images/photo one.jpg": b"\xff\xd8phot0"}),
    "a file's name": rename_file,
    "two files' bytes exchanged": swap_bytes,
    "a new empty file": lambda course: course.members.update({"web_resources/empty.txt": b""}),
    "a file removed": lambda course: course.members.pop("link.xml"),
    "a page's title": retitle_page,
    "the course's title": lambda course: setattr(course, "title", "Chemistry"),
    "a module's title": module(title="Week One"),
    "a module's state": module(state="unpublished"),
    "the modules' order": lambda course: course.modules.reverse(),
    "a module removed": lambda course: course.modules.pop(),
    "the order in a module": lambda course: course.modules[0][3].reverse(),
    "a place removed": lambda course: course.modules[0][3].pop(),
    "a place's title": lambda course: setattr(course.modules[0][3][0], "title", "Start here"),
    "a place's state": lambda course: setattr(course.modules[0][3][0], "state", "unpublished"),
    "a place's target": lambda course: setattr(course.modules[0][3][0], "reference", "draft"),
    "a header's title": lambda course: setattr(course.modules[0][3][1], "title", "Listening"),
    "a place moved to the other module": lambda course: course.modules[1][3].append(course.modules[0][3].pop()),
    "a file's visibility": settings("files_meta.xml", "<hidden>true", "<hidden>false"),
    "a file's display name": settings("files_meta.xml", "Photo.jpg", "Picture.jpg"),
    "a group's weight": settings("assignment_groups.xml", "40.0", "50.0"),
    "the syllabus": settings("syllabus.html", "Read", "Skip"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_every_change_moves_the_digest(what: str) -> None:
    course = physics()
    CHANGES[what](course)
    assert digest(course.files()) != BASE


def test_all_changes_differ_from_one_another() -> None:
    digests = set()
    for change in CHANGES.values():
        course = physics()
        change(course)
        digests.add(digest(course.files()))
    assert len(digests) == len(CHANGES)


def test_names_and_bytes_are_kept_apart() -> None:
    manifest = Course().manifest()
    variants: list[dict[str, bytes]] = [
        {"a": b"xb", "c": b"d"},
        {"a": b"x", "bc": b"d"},
        {"a": b"xbcd"},
        {"axb": b"cd"},
    ]
    assert len({digest({**members, "imsmanifest.xml": manifest}) for members in variants}) == len(variants)


def test_modules_of_the_organizations_count_where_canvas_says_nothing() -> None:
    files = physics().files()
    del files["course_settings/module_meta.xml"]
    renamed = dict(files)
    renamed["imsmanifest.xml"] = files["imsmanifest.xml"].replace(b"<title>Week 1", b"<title>Week One")
    assert digest(renamed) != digest(files)


def test_version_of_digest_published_set_and_metadata() -> None:
    version = content_version("d", published=["b", "a"], metadata={"x": 1, "y": {"b": [1, 2], "a": None}})
    assert re.fullmatch("[0-9a-f]{64}", version)
    assert version == content_version(
        "d", published=iter(["a", "b", "b"]), metadata={"y": {"a": None, "b": [1, 2]}, "x": 1}
    )
    others = [
        content_version("e", published=["b", "a"], metadata={"x": 1, "y": {"b": [1, 2], "a": None}}),
        content_version("d", published=["a"], metadata={"x": 1, "y": {"b": [1, 2], "a": None}}),
        content_version("d", published=["ab"], metadata={"x": 1, "y": {"b": [1, 2], "a": None}}),
        content_version("d", published=["b", "a"], metadata={"x": "1", "y": {"b": [1, 2], "a": None}}),
        content_version("d", published=["b", "a"], metadata={"x": 1, "y": {"b": [2, 1], "a": None}}),
    ]
    assert len({version, *others}) == 6
