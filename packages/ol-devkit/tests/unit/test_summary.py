"""What a demo's summary says of failures, and runs that a killed demo has left behind."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import pytest
from ol_core.failures import OlError, PermanentFailure
from ol_core.orchestration.desired_state import recorded
from ol_core.tables import RawTableIOManager
from ol_devkit.daemon import give_up_unfinished
from ol_devkit.summary import Summary, summarize

KEY = dg.AssetKey(["source", "archives"])
COURSES = dg.DynamicPartitionsDefinition(name="courses")
A, B = "course-v1:O+A+R", "course-v1:O+B+R"


@dataclass
class World:
    """A source of archives with one job; `answers` are what becomes of each course."""

    folder: Path
    answers: dict[str, str | OlError] = field(default_factory=dict)
    broken: bool = False
    instance: dg.DagsterInstance = field(default_factory=dg.DagsterInstance.ephemeral)

    @property
    def definitions(self) -> dg.Definitions:
        @dg.multi_asset(
            name="archives",
            specs=[dg.AssetSpec(KEY, partitions_def=COURSES, skippable=True)],
            backfill_policy=dg.BackfillPolicy.single_run(),
        )
        def archives(context: dg.AssetExecutionContext) -> Iterator[dg.AssetMaterialization | dg.AssetObservation]:
            if self.broken:
                raise ValueError("the store is on fire")
            courses = {course: self.answers[course] for course in context.partition_keys}
            yield from recorded(
                KEY,
                dict.fromkeys(courses, "v1"),
                courses.items(),
                lambda course, _: [dg.AssetMaterialization(KEY, partition=course)],
            )

        tables = RawTableIOManager(
            kind="sql", uri=f"sqlite:///{self.folder / 'catalog.db'}", warehouse=str(self.folder), writable=True
        )
        job = dg.define_asset_job("archives", selection=dg.AssetSelection.assets(archives))
        return dg.Definitions(assets=[archives], jobs=[job], resources={"raw_table_io_manager": tables})

    def run(self) -> None:
        self.instance.add_dynamic_partitions("courses", list(self.answers))
        first, *_, last = [*self.answers, *self.answers]
        self.definitions.resolve_job_def("archives").execute_in_process(
            instance=self.instance,
            tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last},
            raise_on_error=False,
        )

    def failed(self, served: Mapping[str, Path | None]) -> list[dict[str, str]]:
        locations = {"source": self.definitions}
        summary = summarize(Summary(data_dir=""), self.instance, locations, [], served=served)
        assert summary.ok == (not summary.failed)
        return summary.failed


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    with world.instance:
        yield world


def test_a_failure_stands_until_its_partition_is_built(world: World) -> None:
    served = {A: Path("folder", "a.tar.gz"), B: None}
    world.answers = {A: PermanentFailure("a is cut"), B: "built"}
    world.run()

    assert world.failed(served) == [
        {"asset": "source/archives", "partition": A, "reason": "PermanentFailure: a is cut", "archive": str(served[A])}
    ]
    assert world.failed({B: None}) == []  # the source no longer has the course
    world.answers[A] = "built"
    world.run()
    assert world.failed(served) == []


def test_a_run_that_broke_stands_until_one_succeeds(world: World) -> None:
    world.answers, world.broken = {A: "built"}, True
    world.run()

    assert world.failed({A: None}) == [
        {"asset": "", "partition": A, "reason": "the source lists it, and nothing of it was built; see the log"},
        {"asset": "archives", "partition": A, "reason": "ValueError: the store is on fire"},
    ]
    world.broken = False
    world.run()
    assert world.failed({A: None}) == []


def test_a_run_that_a_killed_process_left_is_given_up(world: World) -> None:
    job = world.definitions.resolve_job_def("archives")
    left = world.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    world.answers = {A: "built"}
    world.run()

    assert give_up_unfinished(world.instance) == 1
    run = world.instance.get_run_by_id(left.run_id)
    assert run is not None
    assert run.status == dg.DagsterRunStatus.CANCELED
    assert give_up_unfinished(world.instance) == 0
    assert world.failed({A: None}) == []
