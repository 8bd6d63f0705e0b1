import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import httpx
import pytest
from ol_devkit.campus import Campus, CampusContent
from ol_devkit.campus.courses import ArchiveStore, Revision
from ol_devkit.generators import CartridgeExport, OlxExport, generate_cartridge, generate_olx_course

Open = Callable[..., Campus]
ClientOf = Callable[..., httpx.Client]
EXPORT = "studio/api/courses/v0/export/"


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def run_ids(folder: Path) -> list[str]:
    content = CampusContent.from_folders(folder, None, deployments=("north", "south"))
    assert content.openedx["south"] == ()
    return [course.run.course_id for course in content.openedx["north"]]


def test_the_id_comes_from_the_name_where_it_is_a_course_key(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    write_tar(tmp_path / "deep" / "course-v1:MITxT+8.01.3x+3T2022_minor_change.tar.gz", {})
    write_tar(tmp_path / "course-v1%3AA%2BB%2BC.tgz", {})
    assert set(run_ids(tmp_path)) == {"course-v1:MITxT+8.01.3x+3T2022_minor_change", "course-v1:A+B+C"}


def test_else_from_the_shallowest_course_xml(tmp_path: Path) -> None:
    pointer = b'<course url_name="R1" org="O" course="C.1"/>'
    # The run is called "course": its definition is a course/course.xml too, and comes first.
    write_tar(tmp_path / "a.tar.gz", {"./r/course/course.xml": b"<course/>", "./r/course.xml": pointer})
    write_tar(tmp_path / "b.tar.gz", {"course.xml": b'<course org="O" course="C.2"><chapter/></course>'})
    write_tar(
        tmp_path / "c.tar.gz",
        {"._course": b"\0", "x/y/z/course.xml": pointer.replace(b"C.1", b"old"), "course/course.xml": pointer},
    )
    library = b'<library xblock-family="xblock.v1" org="O" library="L1" url_name="library"/>'
    write_tar(tmp_path / "d.tar.gz", {"library/library.xml": library})
    assert run_ids(tmp_path) == [
        "course-v1:O+C.1+R1",
        "course-v1:O+C.2+b",
        "course-v1:O+C.1+R1.2",
        "course-v1:O+L1+library",
    ]


def test_an_unreadable_archive_is_a_course_and_its_bytes_are_served(
    tmp_path: Path, open_campus: Open, openedx_client: ClientOf, web: httpx.Client
) -> None:
    broken = {
        "no gzip at all!.tar.gz": b"not an archive",
        "cut.tar.gz": gzip.compress(b"x" * 5000)[:20],
        "empty.tar.gz": b"",
    }
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
    bomb = b'<!DOCTYPE c [<!ENTITY a "b">]><course org="&a;" course="C" url_name="R"/>'
    write_tar(tmp_path / "bomb.tar.gz", {"course/course.xml": bomb})
    write_tar(tmp_path / "unnamed.tar.gz", {"course/course.xml": b'<course org="a b" course="C" url_name="R"/>'})
    (tmp_path / "._bomb.tar.gz").write_bytes(b"litter of macOS")
    expected = {
        f"course-v1:unreadable+{name}+archive" for name in ("bomb", "cut", "empty", "no-gzip-at-all", "unnamed")
    }
    campus = open_campus(CampusContent.from_folders(tmp_path, None, deployments=("north",)))
    assert {course.run.course_id for course in campus.content.openedx["north"]} == expected
    course_id = "course-v1:unreadable+no-gzip-at-all+archive"
    with openedx_client(campus) as client:
        body = client.post(EXPORT, json={"courses": [course_id]}).json()
        for _ in range(3):
            client.get(f"{EXPORT}{course_id}/", params={"task_id": body["upload_task_ids"][course_id]})
    assert web.get(body["upload_urls"][course_id]).content == b"not an archive"


def test_versions_follow_from_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "course-v1:A+B+C.tar.gz"

    def version(revision: Revision | None = None) -> str:
        course = CampusContent.from_folders(tmp_path, None).openedx["mitx"][0]
        return course.version(revision or Revision()).published

    with path.open("wb") as stream:
        generate_olx_course(1, 0, 1).write(stream)
    first = version()
    assert version() == first
    assert version(Revision(1)) != first
    with path.open("wb") as stream:
        generate_olx_course(1, 0, 1).write(stream, OlxExport(1))
    assert version() != first


def test_cartridges_of_a_folder(tmp_path: Path, open_campus: Open, canvas_client: ClientOf, web: httpx.Client) -> None:
    course = generate_cartridge(3, 0, 30)
    with (tmp_path / "a.imscc").open("wb") as stream:
        course.write(stream, CartridgeExport(3))
    (tmp_path / "b broken.imscc").write_bytes(b"PK\3\4 no more")
    with zipfile.ZipFile(tmp_path / "c.imscc", "w") as archive:
        archive.writestr("readme.txt", "no manifest")
        archive.writestr("course_settings/module_meta.xml", "<modules><module>")
    campus = open_campus(CampusContent.from_folders(None, tmp_path, courses=2, deployments=("north",)))
    assert len(campus.content.openedx["north"]) == 2
    with canvas_client(campus) as client:
        good, broken, bare = client.get("accounts/1/courses").json()
        assert (good["name"], good["start_at"]) == (course.identity.name, course.identity.start_at)
        assert (broken["name"], bare["name"]) == ("b broken", "c")
        pages = client.get(f"courses/{good['id']}/pages?per_page=100").json()
        assert len(pages) == course.truth.items["page"]
        for kind in ("files", "folders", "pages", "assignments", "modules"):
            assert client.get(f"courses/{broken['id']}/{kind}").json() == []
        export = client.post(f"courses/{broken['id']}/content_exports", data={"export_type": "common_cartridge"}).json()
        url = f"courses/{broken['id']}/content_exports/{export['id']}"
        attachment = [client.get(url).json() for _ in range(2)][-1]["attachment"]
    assert web.get(attachment["url"], follow_redirects=True).content == b"PK\3\4 no more"


def test_a_folder_without_archives_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no \*\.tar\.gz or \*\.tgz below"):
        CampusContent.from_folders(tmp_path, None)
    with pytest.raises(ValueError, match=r"no \*\.imscc below"):
        CampusContent.from_folders(None, tmp_path)
    with pytest.raises(ValueError, match="at least one"):
        CampusContent.generated(deployments=())
    with pytest.raises(ValueError, match="size 'tiny' is unknown"):
        CampusContent.generated(size="tiny")


def test_the_store_writes_again_what_it_dropped(tmp_path: Path) -> None:
    store, written = ArchiveStore(tmp_path, keep=2), []

    def path(name: str) -> Path:
        def write(stream: BinaryIO) -> None:
            stream.write(name.encode())
            written.append(name)

        return store.path(name, write)

    for name in ("a", "b", "a", "c", "a", "b"):
        assert path(name).exists()
    assert written == ["a", "b", "c", "b"]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.samples
def test_real_archives(samples: Path) -> None:
    assert run_ids(samples / "mit-learn") == [
        "course-v1:MITxT+8.01.3x+3T2022",
        "course-v1:MITxT+8.01.3x+3T2022_minor_change",
        "course-v1:MITxT+8.01.3x+3T2022_no_change",
        "course-v1:MITxT+8.01.4x+3T2022",
        "course-v1:unreadable+empty+archive",
    ]


@pytest.mark.samples
def test_a_real_cartridge(samples: Path) -> None:
    content = CampusContent.from_folders(None, samples / "common-cartridge-viewer")
    course = next(course for course in content.canvas if course.identity.name == "Ally: Accessibility Workshop")
    view = course.view(Revision())
    assert [len(module.items) for module in view.modules] == [5, 1, 3, 1]
    assert (len(view.files), len(view.folders), len(view.pages), len(view.assignments)) == (26, 5, 12, 3)
    items = [item for module in view.modules for item in module.items]
    assert all(item.page_url for item in items if item.type == "Page")
    assert all(item.content_id for item in items if item.type == "Discussion")
