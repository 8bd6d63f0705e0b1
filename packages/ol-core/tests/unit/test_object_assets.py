"""File objects as Dagster's assets: what outputs record, what inputs are given, runs of many partitions."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

import dagster as dg
import pytest
from ol_core.failures import OlError, PermanentFailure, UpstreamMissing
from ol_core.objects import FileObjectIOManager, ObjectFile
from ol_core.orchestration.desired_state import Recorded, latest_by_partition
from upath import UPath

PARTITIONS = dg.StaticPartitionsDefinition(["a", "b", "c"])


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


@dg.asset(partitions_def=PARTITIONS)
def made(context: dg.AssetExecutionContext) -> ObjectFile:
    return ObjectFile([context.partition_key.encode()], suffix=".txt", metadata={"lines": 1})


def build(store: FileObjectIOManager, instance: dg.DagsterInstance, *partitions: str) -> None:
    for partition in partitions:
        dg.materialize([made], instance=instance, resources={"io_manager": store}, partition_key=partition)


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


DAYS = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-03")
DAY_BEFORE = {"log": dg.AssetIn(partition_mapping=dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1))}


def test_an_input_that_maps_to_no_partition_is_none_or_empty(
    store: FileObjectIOManager, instance: dg.DagsterInstance
) -> None:
    given: list[object] = []

    @dg.asset(partitions_def=DAYS)
    def log() -> list[bytes]:
        return [b"log"]

    @dg.asset(partitions_def=DAYS, ins=DAY_BEFORE)
    def one(log: bytes | None) -> list[bytes]:
        given.append(log)
        return []

    @dg.asset(partitions_def=DAYS, ins=DAY_BEFORE)
    def each(log: dict[str, bytes]) -> list[bytes]:
        given.append(log)
        return []

    resources = {"io_manager": store}
    for day in ("2026-01-01", "2026-01-02"):
        for reader in (one, each):
            assert dg.materialize([log, reader], instance=instance, resources=resources, partition_key=day).success

    assert given == [None, {}, b"log", {"2026-01-01": b"log"}]


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


def test_a_file_that_cannot_be_stored_never_costs_the_others_theirs(
    store: FileObjectIOManager, instance: dg.DagsterInstance, archive: Path, tmp_path: Path
) -> None:
    handed_over: dict[str, Any] = {"a": tmp_path / "gone", "b": archive, "c": "/some/path"}
    told, done = streamed(store, instance, handed_over)

    assert done == {"b"}
    assert "- a: PermanentFailure: cannot store the file" in told
    assert "- c: PermanentFailure: many returned a str; return a pathlib.Path" in told


def test_metadata_that_cannot_be_shown_never_costs_the_others_theirs(
    store: FileObjectIOManager, instance: dg.DagsterInstance
) -> None:
    handed_over = {
        "a": ObjectFile([b"a"], metadata={"tags": 3, "partition": "mine", "stored": 1, "asset_key": "x"}),
        "b": ObjectFile([b"b"], metadata={"made": object()}),  # type: ignore[dict-item]  # as a course may have it
        "c": [b"c"],
    }
    told, done = streamed(store, instance, handed_over)
    event = latest_by_partition(instance, dg.AssetKey("many"))["a"]

    assert done == {"a", "c"}
    assert (event.metadata["tags"].value, event.metadata["partition"].value) == (3, "mine")
    assert "- b: PermanentFailure: cannot store the file of b: DagsterInvalidMetadata" in told


def streamed(
    store: FileObjectIOManager, instance: dg.DagsterInstance, handed_over: Mapping[str, Any]
) -> tuple[str, set[str]]:
    """Hand over a stream in one run; return what its failure says, and the partitions that are done."""

    @dg.multi_asset(
        specs=[dg.AssetSpec("many", partitions_def=PARTITIONS, skippable=True)],
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def many() -> Iterator[Recorded]:
        yield from store.put_each(dg.AssetKey("many"), handed_over.items(), dict.fromkeys(handed_over, ""))

    tags = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "c"}
    result = dg.materialize([many], instance=instance, tags=tags, raise_on_error=False)
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    return str(failure.step_failure_data.user_failure_data), instance.get_materialized_partitions(dg.AssetKey("many"))
