import hashlib
import io
import os
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import dagster as dg
import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from ol_core.failures import PermanentFailure, TransientFailure, UpstreamMissing
from ol_core.objects import FileObjectIOManager, ObjectFile, materialization, object_key
from ol_core.objects.files import Source

KEY = dg.AssetKey(["mitx", "openedx", "raw_data", "course_xml"])


@pytest.fixture
def store(tmp_path: Path) -> FileObjectIOManager:
    return FileObjectIOManager(url=str(tmp_path / "objects"), writable=True)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    file = tmp_path / "archive.tar.gz"
    file.write_bytes(b"archive")
    return file


@pytest.mark.parametrize(
    ("course", "folder"),
    [
        ("course-v1:MITx+6.00+2026", "course-v1:MITx+6.00+2026"),  # the receiver reads the run from the folder's name
        ("MITx/6.00/2026", "MITx%2F6.00%2F2026"),
        ("a%2Fb", "a%252Fb"),
        ("../etc", "..%2Fetc"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("...", "..."),
    ],
)
def test_a_partition_is_one_folder_whatever_its_name(course: str, folder: str) -> None:
    assert object_key(KEY, course, "v", ".xml.tar.gz") == f"mitx/openedx/raw_data/course_xml/{folder}/v.xml.tar.gz"


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("course.xml.tar.gz", ".xml.tar.gz"),
        ("report.2024.final.version.tar.gz", ".version.tar.gz"),
        ("a.of-more-than-twenty-letters", ""),
        ("none", ""),
    ],
)
def test_a_suffix_is_whole(store: FileObjectIOManager, tmp_path: Path, name: str, suffix: str) -> None:
    (tmp_path / name).touch()
    stored = store.put_by_checksum(tmp_path / name, asset_key=KEY, partition="c")

    assert Path(stored.key).name == stored.version + suffix


def test_a_name_that_is_too_long_for_the_disk_is_not_tried_again(store: FileObjectIOManager, archive: Path) -> None:
    with pytest.raises(PermanentFailure, match="too long for this file system; shorten the partition's name"):
        store.put_by_checksum(archive, asset_key=KEY, partition="課" * 100)


def test_an_object_is_written_once(store: FileObjectIOManager, archive: Path) -> None:
    first = store.put(archive, key="a/v.tar.gz", version="v")
    changed = Path(first.path).stat().st_mtime_ns

    second = store.put(archive, key="a/v.tar.gz", version="v")

    assert second == first
    assert first.size_bytes == 7
    assert Path(first.path).stat().st_mtime_ns == changed
    assert [file.name for file in Path(first.path).parent.iterdir()] == ["v.tar.gz"]


def test_an_equal_version_of_other_bytes_is_the_object_that_was_there(
    store: FileObjectIOManager, archive: Path, tmp_path: Path
) -> None:
    first = store.put(archive, key="a/v.tar.gz", version="v")
    exported_again = tmp_path / "again.tar.gz"
    exported_again.write_bytes(b"other bytes, equal content")

    assert store.put(exported_again, key="a/v.tar.gz", version="v") == first
    assert Path(first.path).read_bytes() == b"archive"


def test_a_store_that_is_not_declared_writable_refuses(tmp_path: Path, archive: Path) -> None:
    store = FileObjectIOManager(url=str(tmp_path / "objects"), writable=False)

    with pytest.raises(
        PermanentFailure, match=r"does not declare .* writable; .* set writable = true under \[objects\]"
    ):
        store.put(archive, key="a/v", version="v")

    assert not (tmp_path / "objects").exists()


def test_reading_what_is_gone_says_what_to_do(store: FileObjectIOManager, tmp_path: Path) -> None:
    with (
        pytest.raises(UpstreamMissing, match="materialize the asset that makes it again"),
        store.open(str(tmp_path / "gone")),
    ):
        pass


def test_a_file_in_quarantine_is_kept_and_named(store: FileObjectIOManager, archive: Path) -> None:
    failure = store.quarantine(archive, asset_key=KEY, partition="c", error=PermanentFailure("it is not an archive"))

    kept = Path(str(failure).rpartition(" ")[2])
    assert kept.read_bytes() == b"archive"
    assert "quarantine/mitx" in str(kept)
    assert "it is not an archive" in str(failure)


def test_no_metadata_replaces_what_says_where_an_object_is(store: FileObjectIOManager, archive: Path) -> None:
    @dg.asset
    def named() -> dg.MaterializeResult[ObjectFile]:
        file = ObjectFile(archive, metadata={"path": "mine", "pages": 2})
        return dg.MaterializeResult(value=file, metadata={"sha256": "mine"})

    result = dg.materialize([named], resources={"io_manager": store})
    (event,) = result.asset_materializations_for_node("named")
    stored = store.put(archive, key="a/v", version="v")

    assert Path(str(event.metadata["path"].value)).read_bytes() == b"archive"
    assert (event.metadata["sha256"].value, event.metadata["pages"].value) == (stored.sha256, 2)
    assert materialization(KEY, "c", stored, tags={}, path="mine").metadata["path"].value == stored.path


def test_a_context_made_by_hand_is_enough(store: FileObjectIOManager, archive: Path) -> None:
    context = dg.build_output_context(asset_key=KEY)
    store.handle_output(context, archive)

    assert Path(str(context.consume_logged_metadata()["path"].value)).read_bytes() == b"archive"


@pytest.mark.parametrize("key", ["../outside/v", "/etc/v", "a//v", "a/../../v", "a/./v"])
def test_a_key_that_leaves_the_root_is_refused(store: FileObjectIOManager, archive: Path, key: str) -> None:
    with pytest.raises(PermanentFailure, match="is not a key below"):
        store.put(archive, key=key, version="v")


@pytest.mark.parametrize("source", [io.BytesIO(b"archive"), [b"arch", b"ive"], iter([b"archive"])])
def test_a_stream_is_stored_like_a_file(store: FileObjectIOManager, archive: Path, source: Source) -> None:
    of_file = store.put_by_checksum(archive, asset_key=KEY, partition="file", suffix=".tgz")
    of_stream = store.put_by_checksum(source, asset_key=KEY, partition="stream", suffix=".tgz")

    assert (of_stream.sha256, of_stream.size_bytes) == (of_file.sha256, 7)
    assert of_stream.key == of_file.key.replace("/file/", "/stream/")
    assert of_stream.content_type == of_file.content_type


def test_no_temporary_file_is_left_whatever_fails(
    store: FileObjectIOManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()

    def broken() -> Iterator[bytes]:
        yield b"begin"
        raise ConnectionResetError("the source broke off")

    with pytest.raises(TransientFailure, match="the source broke off; nothing of it is visible"):
        store.put(broken(), key="a/v", version="v")

    assert [one for one in tmp_path.rglob("*") if one.is_file()] == []


def test_what_a_killed_process_left_is_removed(store: FileObjectIOManager, archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "objects" / "a"
    folder.mkdir(parents=True)
    (folder / ".partial-4194304999-x").touch()  # no process has so high a number
    (folder / f".partial-{os.getpid()}-y").touch()

    store.put(archive, key="a/v", version="v")

    assert sorted(one.name for one in folder.iterdir()) == [f".partial-{os.getpid()}-y", "v"]


def test_what_is_not_what_its_checksum_says_is_refused(store: FileObjectIOManager, archive: Path) -> None:
    stored = store.put_by_checksum(archive, asset_key=KEY, partition="c")
    Path(stored.path).write_bytes(b"changed")

    with pytest.raises(PermanentFailure, match=f"{stored.path} is .* it was changed after it was stored; restore it"):
        store.put_by_checksum(archive, asset_key=KEY, partition="c")


def test_a_file_is_read_once_for_its_checksum_and_once_for_the_copy(store: FileObjectIOManager) -> None:
    read: list[int] = []

    class Watched(type(Path())):  # type: ignore[misc]  # the class of this platform's paths
        def open(self, *arguments: Any, **options: Any) -> Any:
            read.append(1)
            return super().open(*arguments, **options)

    store.put_by_checksum(Watched(__file__), asset_key=KEY, partition="c")

    assert len(read) == 2


@pytest.mark.parametrize("version", ["", "v1"])
def test_a_source_that_fails_is_told_apart_from_a_store_that_does(
    store: FileObjectIOManager, tmp_path: Path, version: str
) -> None:
    def broken() -> Iterator[bytes]:
        yield b"begin"
        raise ValueError("no such week")

    gone = tmp_path / "gone.txt"
    with pytest.raises(PermanentFailure, match=r"cannot store the stream: .* ValueError: no such week; hand over"):
        store.put_file(ObjectFile(broken(), version=version), asset_key=KEY, partition="a")
    with pytest.raises(PermanentFailure, match=f"cannot store the file {gone}: .* hand over a local file") as failure:
        store.put_file(ObjectFile(gone, version=version), asset_key=KEY, partition="a")
    assert not isinstance(failure.value, UpstreamMissing)


def test_an_address_that_leads_nowhere_is_not_tried_again(archive: Path) -> None:
    nowhere = FileObjectIOManager(url="nowhere://landing", writable=True)
    with pytest.raises(PermanentFailure, match=r"nowhere://landing/a/v: .*'nowhere'.*; check the address, and that"):
        nowhere.put(archive, key="a/v", version="v")


class Bucket(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """What GCS promises, as gcsfs gives it: an object is there when it is whole, `create` never replaces one."""

    protocol = ("gs", "gcs")
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    breaks_after: ClassVar[int | None] = None
    flips_bits: ClassVar[bool] = False
    appends: ClassVar[bool] = False
    states_md5: ClassVar[bool] = False

    def put_file(self, lpath: str, rpath: str, callback: object = None, mode: str = "overwrite", **_: object) -> None:
        del callback
        if self.appends:
            Path(lpath).write_bytes(b"archive, longer")
        content = Path(lpath).read_bytes()
        if self.breaks_after is not None and len(content) > self.breaks_after:
            raise OSError("the connection broke off")
        if mode == "create" and self.exists(rpath):
            raise FileExistsError(rpath)
        self.pipe_file(rpath, bytes(byte ^ 1 for byte in content) if self.flips_bits else content)

    def info(self, path: str, **options: object) -> dict[str, Any]:
        stated: dict[str, Any] = super().info(path, **options)
        if self.states_md5:
            stated["md5Hash"] = b64encode(hashlib.md5(self.cat_file(path)).digest()).decode()
        return stated


@pytest.fixture
def bucket() -> Iterator[FileObjectIOManager]:
    fsspec.register_implementation("gs", Bucket, clobber=True)
    yield FileObjectIOManager(url="gs://landing/zone", writable=True)
    fsspec.register_implementation("gs", "gcsfs.GCSFileSystem", clobber=True)
    Bucket.store.clear()
    Bucket.breaks_after, Bucket.flips_bits, Bucket.appends, Bucket.states_md5 = None, False, False, False


def test_gcs_goes_through_the_same_code(bucket: FileObjectIOManager, archive: Path) -> None:
    first = bucket.put(archive, key="a/v.tar.gz", version="v")
    archive.write_bytes(b"other bytes, equal content")

    assert first.path == "gs://landing/zone/a/v.tar.gz"
    assert bucket.put(archive, key="a/v.tar.gz", version="v") == first
    with bucket.open(first.path, sha256=first.sha256) as stream:
        assert stream.read() == b"archive"
    with pytest.raises(UpstreamMissing, match="it does not exist"), bucket.open("gs://landing/zone/none"):
        pass


def test_a_gcs_that_breaks_off_shows_nothing(bucket: FileObjectIOManager, archive: Path) -> None:
    Bucket.breaks_after = 3
    with pytest.raises(TransientFailure, match="the connection broke off; nothing of it is visible"):
        bucket.put(archive, key="a/v", version="v")
    assert Bucket.store == {}

    Bucket.breaks_after = None
    assert bucket.put(archive, key="a/v", version="v").size_bytes == 7


@pytest.mark.parametrize("states_md5", [True, False])
def test_a_gcs_that_holds_other_bytes_than_it_was_sent_is_found_out(
    bucket: FileObjectIOManager, archive: Path, *, states_md5: bool
) -> None:
    Bucket.states_md5, Bucket.flips_bits = states_md5, True
    with pytest.raises(
        TransientFailure, match=r"gs://landing/zone/a/v was not the 7 bytes .* of .*; the object was removed"
    ):
        bucket.put(archive, key="a/v", version="v")
    assert Bucket.store == {}

    Bucket.flips_bits = False
    assert bucket.put(archive, key="a/v", version="v").size_bytes == 7


@pytest.mark.parametrize("states_md5", [True, False])
def test_a_file_that_changes_on_its_way_to_gcs_is_found_out(
    bucket: FileObjectIOManager, archive: Path, *, states_md5: bool
) -> None:
    Bucket.states_md5, Bucket.appends = states_md5, True
    with pytest.raises(TransientFailure, match=r"gs://landing/.* was not the 7 bytes .*; the object was removed"):
        bucket.put_by_checksum(archive, asset_key=KEY, partition="a")
    assert Bucket.store == {}
