"""What is in the cartridges and beside them: the raw tables, replaced course by course."""

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from ol_core.desired_state import DATA_VERSION_TAG, WANTED_VERSION_TAG, as_version, held_versions, recorded
from ol_core.failures import OlError, UpstreamMissing
from ol_core.objects import FileObjectIOManager
from ol_core.tables import RawTableIOManager

from ol_canvas.assets.keys import (
    COURSE_CONTENT,
    COURSE_METADATA,
    EACH_RUN_MANY_PARTITIONS,
    GROUP,
    OWNERS,
    PARTITIONS,
    raw,
)
from ol_canvas.cartridge import read_cartridge
from ol_canvas.tables import API_TABLES, COURSE_TABLES, cartridge_rows, metadata_rows, table_schema

if TYPE_CHECKING:
    import pyarrow as pa

READER_VERSION = "1"
"""Raise it where the reader's rows change, so that cartridges are read again."""

LAST_TABLE = next(reversed(COURSE_TABLES))
"""Recorded last, so that a course counts as done only where all its tables are."""


def wanted_raw(instance: dg.DagsterInstance) -> dict[str, str]:
    """Return the version that each course's rows in the raw tables should have."""
    cartridges = held_versions(instance, COURSE_CONTENT, tag=DATA_VERSION_TAG)
    return {course: f"{version}.{READER_VERSION}" for course, version in cartridges.items()}


def raw_tables() -> dg.AssetsDefinition:
    """Build the raw tables of the courses' content."""

    @dg.multi_asset(
        name="canvas_write_raw_tables",
        specs=[
            dg.AssetSpec(
                raw(table),
                deps=[COURSE_METADATA] if table in API_TABLES else [COURSE_CONTENT],
                partitions_def=PARTITIONS,
                skippable=True,
                group_name=GROUP,
                owners=OWNERS,
                kinds={"iceberg"},
                description=description,
            )
            for table, description in COURSE_TABLES.items()
        ],
        backfill_policy=EACH_RUN_MANY_PARTITIONS,
    )
    def raw_table_assets(
        context: dg.AssetExecutionContext,
        io_manager: dg.ResourceParam[FileObjectIOManager],
        raw_table_io_manager: dg.ResourceParam[RawTableIOManager],
    ) -> Iterator[dg.AssetMaterialization | dg.AssetObservation]:
        wanted = wanted_raw(context.instance)
        with tempfile.TemporaryDirectory() as folder:
            spool = _Spool.of(context.instance, io_manager, Path(folder))
            outcomes = [(course, spool.read(course)) for course in context.partition_keys]
            read = {course: versions for course, versions in outcomes if not isinstance(versions, OlError)}
            for table in COURSE_TABLES:
                held = held_versions(context.instance, raw(table), tag=DATA_VERSION_TAG)
                moved = [course for course, versions in read.items() if held.get(course) != versions[table]]
                rows = (spool.rows(course, table) for course in moved)
                commit = raw_table_io_manager.replace_partitions(table, table_schema(table), moved, rows)
                context.log.info("%s: %d of %d partitions replaced, %d rows", table, len(moved), len(read), commit.rows)
                for course in read if table == LAST_TABLE else moved:
                    tags = {DATA_VERSION_TAG: read[course][table], WANTED_VERSION_TAG: wanted[course]}
                    yield dg.AssetMaterialization(raw(table), partition=course, metadata=commit.metadata, tags=tags)
        tried = {course: wanted.get(course, "") for course in context.partition_keys}
        yield from recorded(raw(LAST_TABLE), tried, outcomes, lambda _course, _versions: [])

    return raw_table_assets


@dataclass(frozen=True, slots=True)
class _Spool:
    """Rows of many courses on their way into tables: each cartridge is read once, a Parquet file a course and table."""

    objects: FileObjectIOManager
    cartridges: Mapping[str, str]
    documents: Mapping[str, str]
    folder: Path

    @classmethod
    def of(cls, instance: dg.DagsterInstance, objects: FileObjectIOManager, folder: Path) -> "_Spool":
        return cls(objects, objects.paths(instance, COURSE_CONTENT), objects.paths(instance, COURSE_METADATA), folder)

    def read(self, course: str) -> dict[str, str] | OlError:
        """Read a course into files; return the version of its rows for each table."""
        if course not in self.cartridges or course not in self.documents:
            return UpstreamMissing(f"canvas/course_content holds nothing of course {course}; materialize it first")
        try:
            with self.objects.open(self.documents[course]) as stream:
                document: dict[str, Any] = json.load(stream)
            with self.objects.open(self.cartridges[course]) as stream:
                cartridge = read_cartridge(stream, name=course, course_id=course)
        except OlError as error:
            return error
        rows = {**metadata_rows(document), **cartridge_rows(cartridge)}
        return {table: self._write(course, table, some) for table, some in rows.items()}

    def rows(self, course: str, table: str) -> "pa.Table":
        """Give a course's rows of one table."""
        import pyarrow.parquet as pq

        return pq.read_table(self._file(course, table))

    def _write(self, course: str, table: str, rows: list[dict[str, Any]]) -> str:
        import pyarrow as pa
        import pyarrow.parquet as pq

        file = self._file(course, table)
        pq.write_table(pa.Table.from_pylist(rows, schema=table_schema(table)), file)
        return as_version(hashlib.sha256(file.read_bytes()).hexdigest())

    def _file(self, course: str, table: str) -> Path:
        return self.folder / f"{course}.{table}.parquet"
