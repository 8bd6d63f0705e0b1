"""What is in the cartridges and beside them: the raw tables, replaced course by course."""

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from ol_core.dagster_storage import keep_connections
from ol_core.failures import OlError
from ol_core.objects import FileObjectIOManager
from ol_core.orchestration.desired_state import (
    DATA_VERSION_TAG,
    Recorded,
    WantedVersions,
    as_version,
    held_versions,
    latest_by_partition,
    nothing_held,
    recorded,
)
from ol_core.tables import RawTableIOManager, replace_moved

from ol_canvas.assets.keys import EACH_RUN_MANY_PARTITIONS, GROUP, OWNERS, InstanceAssets
from ol_canvas.cartridge import read_cartridge
from ol_canvas.tables import API_KINDS, COURSE_KINDS, cartridge_rows, metadata_rows, table_schema

if TYPE_CHECKING:
    import pyarrow as pa

READER_VERSION = "1"
"""Raise it where the reader's rows change, so that cartridges are read again."""

LAST_KIND = next(reversed(COURSE_KINDS))
"""Recorded last, so that a course counts as done only where all its tables are."""


def wanted_raw(instance: dg.DagsterInstance, keys: InstanceAssets) -> dict[str, str]:
    """Return the version that each course's rows in the raw tables should have."""
    cartridges = held_versions(instance, keys.course_content, tag=DATA_VERSION_TAG)
    return {course: f"{version}.{READER_VERSION}" for course, version in cartridges.items()}


def raw_tables(keys: InstanceAssets) -> dg.AssetsDefinition:
    """Build the raw tables of an instance's course content; each is replaced course by course."""

    @dg.multi_asset(
        name=keys.name("write_raw_tables"),
        specs=[
            dg.AssetSpec(
                keys.raw(kind),
                deps=[keys.course_metadata if kind in API_KINDS else keys.course_content],
                partitions_def=keys.partitions,
                skippable=True,
                group_name=GROUP,
                owners=OWNERS,
                kinds={"iceberg"},
                description=description,
            )
            for kind, description in COURSE_KINDS.items()
        ],
        backfill_policy=EACH_RUN_MANY_PARTITIONS,
    )
    def raw_table_assets(
        context: dg.AssetExecutionContext,
        config: WantedVersions,
        io_manager: dg.ResourceParam[FileObjectIOManager],
        raw_table_io_manager: dg.ResourceParam[RawTableIOManager],
    ) -> Iterator[Recorded]:
        courses = config.partitions(context)
        keep_connections(context.instance)
        wanted = wanted_raw(context.instance, keys)
        with tempfile.TemporaryDirectory() as folder:
            spool = _Spool.of(context.instance, keys, courses, objects=io_manager, folder=Path(folder))
            read = {course: spool.read(course) for course in courses}
            for kind in COURSE_KINDS:
                replaced = replace_moved(
                    raw_table_io_manager,
                    keys.raw(kind),
                    table_schema(kind),
                    versions={course: one[kind] for course, one in read.items() if not isinstance(one, OlError)},
                    rows=partial(spool.rows, kind),
                    tells_all=kind == LAST_KIND,
                )
                if kind == LAST_KIND:
                    found = (
                        (course, one if isinstance(one, OlError) else replaced[course]) for course, one in read.items()
                    )
                    asked = {course: wanted.get(course, config.wanted.get(course, "")) for course in courses}
                    yield from recorded(keys.raw(kind), asked, found, lambda _course, event: [event])
                else:
                    yield from replaced.values()

    return raw_table_assets


@dataclass(frozen=True, slots=True)
class _Spool:
    """Rows of many courses on their way into tables: cartridges are read once, one Parquet file per course and kind."""

    keys: InstanceAssets
    cartridges: Mapping[str, dg.AssetMaterialization]
    documents: Mapping[str, dg.AssetMaterialization]
    objects: FileObjectIOManager
    folder: Path

    @classmethod
    def of(
        cls,
        instance: dg.DagsterInstance,
        keys: InstanceAssets,
        courses: Sequence[str],
        *,
        objects: FileObjectIOManager,
        folder: Path,
    ) -> "_Spool":
        cartridges = latest_by_partition(instance, keys.course_content, courses)
        documents = latest_by_partition(instance, keys.course_metadata, courses)
        return cls(keys, cartridges, documents, objects, folder)

    def read(self, course: str) -> dict[str, str] | OlError:
        """Read a course into files; return the version of its rows of each kind."""
        if course not in self.cartridges or course not in self.documents:
            return nothing_held(self.keys.course_content, course)
        try:
            with self.objects.open(_path(self.documents[course])) as stream:
                document: dict[str, Any] = json.load(stream)
            with self.objects.open(_path(self.cartridges[course])) as stream:
                cartridge = read_cartridge(stream, name=course, course_id=course)
        except OlError as error:
            return error
        rows = {**metadata_rows(document), **cartridge_rows(cartridge)}
        return {kind: self._write(course, kind, some) for kind, some in rows.items()}

    def rows(self, kind: str, course: str) -> "pa.Table":
        """Give a course's rows of one kind."""
        import pyarrow.parquet as pq

        return pq.read_table(self._file(course, kind))

    def _write(self, course: str, kind: str, rows: list[dict[str, Any]]) -> str:
        import pyarrow as pa
        import pyarrow.parquet as pq

        file = self._file(course, kind)
        pq.write_table(pa.Table.from_pylist(rows, schema=table_schema(kind)), file)
        return as_version(hashlib.sha256(file.read_bytes()).hexdigest())

    def _file(self, course: str, kind: str) -> Path:
        return self.folder / f"{as_version(course)}.{kind}.parquet"


def _path(event: dg.AssetMaterialization) -> str:
    return str(event.metadata["path"].value)
