import hashlib
import io
import os
import tempfile
from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Optional

import dagster as dg
import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from ol_core.failures import OlError, PermanentFailure, TransientFailure, UpstreamMissing
from ol_core.objects import FileObjectIOManager, ObjectFile, materialization, object_key
from ol_core.objects.files import Source
from ol_core.orchestration.desired_state import Recorded
from upath import UPath

KEY = dg.AssetKey(["mitx", "openedx", "raw_data", "course_xml"])


@pytest.fixture
def store(tmp_path: Path) -> FileObjectIOManager:
    return FileObjectIOManager(url=str(tmp_path / "objects"), writable=True)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path)) as made:
        yield made


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


@pytest.mark.parametrize("scheme", ["file", "local"])
def test_a_url_of_a_file_is_a_folder(archive: Path, tmp_path: Path, instance: dg.DagsterInstance, scheme: str) -> None:
    store = FileObjectIOManager(url=f"{scheme}://{tmp_path}/objects", writable=True)
    stored = store.put(archive, key="a/b%2Fc/v", version="v")

    assert (tmp_path / "objects/a/b%2Fc/v").read_bytes() == b"archive"
    assert UPath(stored.path).read_bytes() == b"archive"
    build(store, instance, "a")
    for reader in (as_bytes, as_path, as_upath):
        resources = {"io_manager": store}
        assert dg.materialize(
            [reader, made], selection=[reader], instance=instance, resources=resources, partition_key="a"
        ).success


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


PARTITIONS = dg.StaticPartitionsDefinition(["a", "b", "c"])


@dg.asset(partitions_def=PARTITIONS)
def made(context: dg.AssetExecutionContext) -> ObjectFile:
    return ObjectFile([context.partition_key.encode()], suffix=".txt", metadata={"lines": 1})


def build(store: FileObjectIOManager, instance: dg.DagsterInstance, *partitions: str) -> None:
    for partition in partitions:
        dg.materialize([made], instance=instance, resources={"io_manager": store}, partition_key=partition)


def test_the_data_version_is_that_of_the_content(store: FileObjectIOManager, instance: dg.DagsterInstance) -> None:
    build(store, instance, "a", "a", "b")
    records = instance.fetch_materializations(made.key, limit=3).records
    found = [one.asset_materialization for one in records if one.asset_materialization is not None]
    versions = [str((one.tags or {})["dagster/data_version"]) for one in found]

    assert versions == [one.metadata["version"].value for one in found]
    assert versions[1] == versions[2] != versions[0]


@dg.asset(partitions_def=PARTITIONS)
def as_bytes(made: bytes) -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(metadata={"given": made.decode()})


@dg.asset(partitions_def=PARTITIONS)
def as_path(made: Path) -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(metadata={"given": made.read_text()})


@dg.asset(partitions_def=PARTITIONS)
def as_upath(made: UPath) -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(metadata={"given": made.read_text()})


@pytest.mark.parametrize("reader", [as_bytes, as_path, as_upath], ids=["bytes", "Path", "UPath"])
def test_an_input_is_what_its_annotation_says(
    store: FileObjectIOManager, instance: dg.DagsterInstance, reader: dg.AssetsDefinition
) -> None:
    build(store, instance, "a", "b")
    resources = {"io_manager": store}
    result = dg.materialize(
        [reader, made], selection=[reader], instance=instance, resources=resources, partition_key="b"
    )

    (event,) = result.asset_materializations_for_node(reader.op.name)
    assert event.metadata["given"].value == "b"


@dg.asset
def all_of_them(made: dict[str, bytes]) -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(metadata={"given": str(sorted(made.items()))})


@dg.asset(partitions_def=PARTITIONS, backfill_policy=dg.BackfillPolicy.single_run())
def some_of_them(context: dg.AssetExecutionContext, made: dict[str, Path]) -> None:
    context.log.info("given %s", sorted(made))
    assert {partition: file.read_text() for partition, file in made.items()} == {"b": "b", "c": "c"}


@pytest.mark.parametrize(
    ("annotation", "given"),
    [
        (Path | None, Path),
        (Optional[bytes], bytes),  # noqa: UP045 - what it is about
        (dict, {"a": UPath}),
        (Mapping, {"a": UPath}),
        (dict[str, bytes] | None, {"a": bytes}),
    ],
    ids=str,
)
def test_an_input_may_be_optional_or_a_bare_dictionary(
    store: FileObjectIOManager, instance: dg.DagsterInstance, annotation: object, given: Any
) -> None:
    seen: list[Any] = []

    def reader(made: Any) -> None:
        seen.append(made)

    reader.__annotations__["made"] = annotation
    build(store, instance, "a")
    asset = dg.asset(partitions_def=PARTITIONS)(reader)
    resources = {"io_manager": store}
    dg.materialize([asset, made], selection=[asset], instance=instance, resources=resources, partition_key="a")

    (value,) = seen
    if isinstance(given, dict):
        assert value.keys() == given.keys()
        value, given = value["a"], given["a"]
    assert isinstance(value, given)
    assert isinstance(value, UPath) == (given is UPath)


def test_an_input_of_many_partitions_is_a_dictionary(store: FileObjectIOManager, instance: dg.DagsterInstance) -> None:
    build(store, instance, "a", "b", "c")
    resources = {"io_manager": store}
    everything = dg.materialize([all_of_them, made], selection=[all_of_them], instance=instance, resources=resources)
    (event,) = everything.asset_materializations_for_node("all_of_them")
    tags = {"dagster/asset_partition_range_start": "b", "dagster/asset_partition_range_end": "c"}
    ranged = dg.materialize(
        [some_of_them, made], selection=[some_of_them], instance=instance, resources=resources, tags=tags
    )

    assert event.metadata["given"].value == "[('a', b'a'), ('b', b'b'), ('c', b'c')]"
    assert ranged.success


def test_what_was_never_made_and_what_is_gone_are_named(
    store: FileObjectIOManager, instance: dg.DagsterInstance
) -> None:
    resources = {"io_manager": store}
    build(store, instance, "a", "c")
    with pytest.raises(UpstreamMissing, match=r"made has no object for b \(1 missing\); materialize it first"):
        dg.materialize([all_of_them, made], selection=[all_of_them], instance=instance, resources=resources)
    instance.report_runless_asset_event(dg.AssetMaterialization(made.key, partition="b"))  # by hand: of no object
    with pytest.raises(UpstreamMissing, match=r"made has no object for b \(1 missing\); materialize it first"):
        dg.materialize(
            [as_bytes, made], selection=[as_bytes], instance=instance, resources=resources, partition_key="b"
        )
    build(store, instance, "b")
    (gone,) = Path(store.url).rglob("made/b/*.txt")
    gone.unlink()

    for reader in (as_bytes, as_path, as_upath):
        with pytest.raises(UpstreamMissing, match=rf"made: cannot read {gone}: it does not exist; materialize"):
            dg.materialize(
                [reader, made], selection=[reader], instance=instance, resources=resources, partition_key="b"
            )


def test_what_was_changed_is_not_given_out(store: FileObjectIOManager, instance: dg.DagsterInstance) -> None:
    build(store, instance, "a")
    (changed,) = Path(store.url).rglob("made/a/*.txt")
    changed.write_text("x")

    with pytest.raises(PermanentFailure, match="it was changed after it was stored; restore it, or remove it and"):
        dg.materialize(
            [as_bytes, made],
            selection=[as_bytes],
            instance=instance,
            resources={"io_manager": store},
            partition_key="a",
        )


def test_what_is_no_file_is_refused(store: FileObjectIOManager, instance: dg.DagsterInstance) -> None:
    @dg.asset
    def wrong() -> str:
        return "/some/path"

    with pytest.raises(PermanentFailure, match=r"wrong returned a str; return a pathlib\.Path, a binary stream or an"):
        dg.materialize([wrong], instance=instance, resources={"io_manager": store})


@dg.multi_asset(
    specs=[dg.AssetSpec("many", partitions_def=PARTITIONS, skippable=True)],
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def many(
    context: dg.AssetExecutionContext, io_manager: dg.ResourceParam[FileObjectIOManager]
) -> Iterator[dg.AssetMaterialization | dg.AssetObservation]:
    def files() -> Iterator[tuple[str, ObjectFile | OlError]]:
        for partition in context.partition_keys:
            broken = PermanentFailure("no such course") if partition == "b" else None
            yield partition, broken or ObjectFile([partition.encode()], suffix=".txt", version="v1")

    yield from io_manager.put_each(dg.AssetKey("many"), files(), dict.fromkeys(context.partition_keys, ""))


def test_a_bad_partition_never_costs_the_others_theirs(
    store: FileObjectIOManager, instance: dg.DagsterInstance
) -> None:
    tags = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "c"}
    result = dg.materialize([many], instance=instance, resources={"io_manager": store}, tags=tags, raise_on_error=False)
    (failure,) = [event for event in result.all_events if event.is_step_failure]

    assert not result.success
    assert "1 of 3 partitions failed" in str(failure.step_failure_data.user_failure_data)
    assert instance.get_materialized_partitions(dg.AssetKey("many")) == {"a", "c"}
    assert "- b: PermanentFailure: no such course" in str(failure.step_failure_data.user_failure_data)


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


def test_a_file_that_cannot_be_stored_never_costs_the_others_theirs(
    store: FileObjectIOManager, instance: dg.DagsterInstance, archive: Path, tmp_path: Path
) -> None:
    handed_over: dict[str, Any] = {"a": tmp_path / "gone", "b": archive, "c": "/some/path"}

    @dg.multi_asset(
        specs=[dg.AssetSpec("many", partitions_def=PARTITIONS, skippable=True)],
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def many() -> Iterator[Recorded]:
        yield from store.put_each(dg.AssetKey("many"), handed_over.items(), dict.fromkeys(handed_over, ""))

    tags = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "c"}
    result = dg.materialize([many], instance=instance, tags=tags, raise_on_error=False)
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    told = str(failure.step_failure_data.user_failure_data)

    assert instance.get_materialized_partitions(dg.AssetKey("many")) == {"b"}
    assert "- a: PermanentFailure: cannot store the file" in told
    assert "- c: PermanentFailure: many returned a str; return a pathlib.Path" in told


class Bucket(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """What GCS promises, as gcsfs gives it: an object is there when it is whole, `create` never replaces one."""

    protocol = ("gs", "gcs")
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    breaks_after: ClassVar[int | None] = None
    flips_bits: ClassVar[bool] = False
    states_md5: ClassVar[bool] = False

    def put_file(self, lpath: str, rpath: str, callback: object = None, mode: str = "overwrite", **_: object) -> None:
        del callback
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
    Bucket.breaks_after, Bucket.flips_bits, Bucket.states_md5 = None, False, False


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
    with pytest.raises(TransientFailure, match=r"gs://landing/zone/a/v was not the 7 bytes .*; the object was removed"):
        bucket.put(archive, key="a/v", version="v")
    assert Bucket.store == {}

    Bucket.flips_bits = False
    assert bucket.put(archive, key="a/v", version="v").size_bytes == 7
