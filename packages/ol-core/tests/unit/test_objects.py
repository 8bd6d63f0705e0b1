from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from ol_core.failures import PermanentFailure, UpstreamMissing
from ol_core.objects import FileObjectIOManager, materialization, object_key

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
    ],
)
def test_a_partition_is_one_folder_whatever_its_name(course: str, folder: str) -> None:
    assert object_key(KEY, course, "v", ".xml.tar.gz") == f"mitx/openedx/raw_data/course_xml/{folder}/v.xml.tar.gz"


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

    with pytest.raises(PermanentFailure, match=r"does not declare .* writable"):
        store.put(archive, key="a/v", version="v")

    assert not (tmp_path / "objects").exists()


def test_reading_what_is_gone_says_what_to_do(store: FileObjectIOManager, tmp_path: Path) -> None:
    with (
        pytest.raises(UpstreamMissing, match="materialize the asset that makes it again"),
        store.open(str(tmp_path / "gone")),
    ):
        pass


def test_a_file_in_quarantine_is_kept_and_named(store: FileObjectIOManager, archive: Path) -> None:
    failure = store.quarantine(archive, asset_key=KEY, partition="c", error=PermanentFailure("it is no archive"))

    kept = Path(str(failure).rpartition(" ")[2])
    assert kept.read_bytes() == b"archive"
    assert "quarantine/mitx" in str(kept)
    assert "it is no archive" in str(failure)


def test_paths_are_those_of_the_newest_objects(
    store: FileObjectIOManager, instance: dg.DagsterInstance, archive: Path
) -> None:
    for version in ("1", "2"):
        stored = store.put(archive, key=f"c/{version}", version=version)
        instance.report_runless_asset_event(materialization(KEY, "c", stored, tags={}))

    assert Path(store.paths(instance, KEY)["c"]).name == "2"


def test_an_asset_may_return_a_file(store: FileObjectIOManager, instance: dg.DagsterInstance, tmp_path: Path) -> None:
    partitions = dg.StaticPartitionsDefinition(["c"])

    @dg.asset(partitions_def=partitions)
    def made() -> Path:
        file = tmp_path / "made.json"
        file.write_text("{}")
        return file

    @dg.asset(partitions_def=partitions)
    def read(made: Path) -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(metadata={"text": made.read_text()})

    result = dg.materialize([made, read], instance=instance, resources={"io_manager": store}, partition_key="c")

    (event,) = result.asset_materializations_for_node("read")
    assert event.metadata["text"].value == "{}"
