"""What is in the archives: Parquet files of each course run, and the raw tables over all of them."""

import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from ol_core.dagster_storage import keep_connections
from ol_core.failures import OlError
from ol_core.objects import FileObject, FileObjectIOManager, materialization
from ol_core.orchestration.desired_state import (
    DATA_VERSION_TAG,
    Recorded,
    WantedVersions,
    held_versions,
    latest_by_partition,
    nothing_held,
    recorded,
)
from ol_core.tables import RawTableIOManager, replace_moved

from ol_openedx.archive import TABLE_KINDS, ArchiveSummary, table_schema, write_parquet_tables
from ol_openedx.assets.keys import EACH_RUN_MANY_PARTITIONS, GROUP, OWNERS, DeploymentAssets

if TYPE_CHECKING:
    import pyarrow as pa

READER_VERSION = "1"
"""Raise it where the reader's rows change, so that archives are read again."""

LAST_KIND = "course_metadata"
"""Recorded last, so that a course run counts as done only where all its kinds are."""

_KINDS = (*(kind for kind in TABLE_KINDS if kind != LAST_KIND), LAST_KIND)
_ROWS = {
    "course_metadata": "One row per course: title, dates, pacing, and how much its archive holds.",
    "course_blocks": "One row per block: published blocks in reading order, orphans and drafts.",
    "course_video": "One row per video block: sources, transcripts, duration in seconds.",
    "course_policy": "One row per policy file: course and grading policy as JSON, secrets removed.",
    "course_static_assets_manifest": "One row per file under static/: size in bytes, checksum, content type.",
    "course_quarantine": "One row for whatever in an archive could not be used: file, line, reason.",
}


def wanted_processed(instance: dg.DagsterInstance, keys: DeploymentAssets) -> dict[str, str]:
    """Return the version that each course run's processed data should have."""
    archives = held_versions(instance, keys.course_xml, tag=DATA_VERSION_TAG)
    return {course: f"{version}.{READER_VERSION}" for course, version in archives.items()}


def wanted_raw(instance: dg.DagsterInstance, keys: DeploymentAssets) -> dict[str, str]:
    """Return the version that each course run's rows in the raw tables should have."""
    return held_versions(instance, keys.processed(LAST_KIND))


def processed_data(keys: DeploymentAssets) -> dg.AssetsDefinition:
    """Build the assets that read each archive once and keep what is in it as Parquet."""

    @dg.multi_asset(
        name=keys.name("read_archives"),
        specs=[
            _spec(
                keys,
                keys.processed(kind),
                keys.course_xml,
                kind="parquet",
                description=f"{_ROWS[kind]} One file per course run.",
            )
            for kind in TABLE_KINDS
        ],
        backfill_policy=EACH_RUN_MANY_PARTITIONS,
    )
    def processed_data_assets(
        context: dg.AssetExecutionContext,
        config: WantedVersions,
        io_manager: dg.ResourceParam[FileObjectIOManager],
    ) -> Iterator[Recorded]:
        courses = config.partitions(context)
        archives = latest_by_partition(context.instance, keys.course_xml, courses)
        wanted = wanted_processed(context.instance, keys)
        held = {
            kind: held_versions(context.instance, keys.processed(kind), tag=DATA_VERSION_TAG, partitions=courses)
            for kind in _KINDS
        }
        yield from recorded(
            keys.processed(LAST_KIND),
            {course: wanted.get(course, config.wanted.get(course, "")) for course in courses},
            ((course, _extracted(keys, io_manager, course, path_of(archives.get(course)))) for course in courses),
            lambda course, files: [
                materialization(keys.processed(kind), course, file, tags={}, **found)
                for kind, (file, found) in files.items()
                if kind == LAST_KIND or held[kind].get(course) != file.version
            ],
        )

    return processed_data_assets


def raw_tables(keys: DeploymentAssets) -> dg.AssetsDefinition:
    """Build the raw tables of a deployment's course content; each is replaced course run by course run."""

    @dg.multi_asset(
        name=keys.name("write_raw_tables"),
        specs=[
            _spec(
                keys,
                keys.raw(kind),
                keys.processed(kind),
                kind="iceberg",
                description=f"{_ROWS[kind]} All course runs.",
            )
            for kind in TABLE_KINDS
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
        held = [course for course in courses if course in wanted]
        for kind in _KINDS:
            files = latest_by_partition(context.instance, keys.processed(kind), held)
            replaced = replace_moved(
                raw_table_io_manager,
                keys.raw(kind),
                table_schema(kind),
                versions={course: (files[course].tags or {})[DATA_VERSION_TAG] for course in held if course in files},
                rows=partial(_rows, io_manager, files),
                tells_all=kind == LAST_KIND,
            )
            if kind == LAST_KIND:
                found = (
                    (course, replaced.get(course, nothing_held(keys.processed(kind), course))) for course in courses
                )
                asked = {course: wanted.get(course, config.wanted.get(course, "")) for course in courses}
                yield from recorded(keys.raw(kind), asked, found, lambda _course, event: [event])
            else:
                yield from replaced.values()

    return raw_table_assets


def _spec(
    keys: DeploymentAssets, key: dg.AssetKey, made_from: dg.AssetKey, *, kind: str, description: str
) -> dg.AssetSpec:
    return dg.AssetSpec(
        key,
        deps=[made_from],
        partitions_def=keys.partitions,
        skippable=True,
        group_name=GROUP,
        owners=OWNERS,
        kinds={kind},
        description=description,
    )


def path_of(event: dg.AssetMaterialization | None) -> str | None:
    """Return where the object of a materialization is."""
    return None if event is None else str(event.metadata["path"].value)


def _extracted(
    keys: DeploymentAssets, objects: FileObjectIOManager, course: str, archive: str | None
) -> Mapping[str, tuple[FileObject, dict[str, int | str]]] | OlError:
    """Read an archive; return for each kind its Parquet object and what is in it, or what went wrong."""
    import pyarrow.parquet as pq

    if archive is None:
        return nothing_held(keys.course_xml, course)
    try:
        with tempfile.TemporaryDirectory() as folder, objects.open(archive) as stream:
            summary = write_parquet_tables(stream, name=archive, out=Path(folder), course_id=course)
            files = {}
            for kind in _KINDS:
                file = Path(folder, f"{kind}.parquet")
                found = {"rows": pq.read_metadata(file).num_rows, **(_summary(summary) if kind == LAST_KIND else {})}
                files[kind] = (objects.put_by_checksum(file, asset_key=keys.processed(kind), partition=course), found)
            return files
    except OlError as error:
        return error


def _summary(archive: ArchiveSummary) -> dict[str, int | str]:
    return {
        "blocks": archive.block_count,
        "blocks_by_type": ", ".join(f"{count} {kind}" for kind, count in sorted(archive.blocks_by_type.items())),
        "orphan_blocks": archive.orphan_block_count,
        "draft_blocks": archive.draft_block_count,
        "static_files": archive.static_file_count,
        "static_bytes": archive.static_bytes,
        "quarantined": archive.quarantined_count,
    }


def _rows(objects: FileObjectIOManager, files: Mapping[str, dg.AssetMaterialization], course: str) -> "pa.Table":
    import pyarrow.parquet as pq

    with objects.open(str(path_of(files[course]))) as stream:
        return pq.read_table(stream)
