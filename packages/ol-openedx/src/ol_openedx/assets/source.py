"""What is read from the deployment: its course runs and their exports."""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from ol_core.failures import OlError
from ol_core.objects import FileObject, FileObjectIOManager, materialization, object_key
from ol_core.orchestration.desired_state import (
    WANTED_VERSION_TAG,
    AttemptPolicy,
    Recorded,
    WantedVersions,
    as_version,
    exported,
    held_versions,
)
from ol_core.orchestration.exports import ExportLimits
from ol_core.tables import RawTableIOManager

from ol_openedx.archive import TABLE_KINDS, digest_archive, table_schema
from ol_openedx.assets.keys import EACH_RUN_MANY_PARTITIONS, GROUP, OWNERS, DeploymentAssets
from ol_openedx.resources import OpenEdxApiClientFactory
from ol_openedx.tables import course_runs_table, table_name

if TYPE_CHECKING:
    from ol_openedx.client import CourseExport

_Archive = tuple[FileObject, dict[str, int]]
"""A stored archive, and how much is in it."""


def course_runs(keys: DeploymentAssets) -> dg.AssetsDefinition:
    """Build the asset that holds a deployment's course runs and their versions."""

    @dg.asset(
        key=keys.course_runs,
        group_name=GROUP,
        owners=OWNERS,
        kinds={"openedx", "iceberg"},
        io_manager_key="raw_table_io_manager",
        pool=keys.list_pool,
        description=f"One row per course run of {keys.deployment}, as its LMS lists it, and the version exported last.",
    )
    def course_runs_asset(
        context: dg.AssetExecutionContext,
        openedx_api: OpenEdxApiClientFactory,
        raw_table_io_manager: dg.ResourceParam[RawTableIOManager],
    ) -> dg.MaterializeResult[Any]:
        from ol_openedx.sweep import list_version

        with openedx_api.client(keys.deployment) as client:
            runs = list(client.course_runs())
        version = list_version(runs)
        for kind in TABLE_KINDS:  # the models read every table, also where no course has been exported yet
            raw_table_io_manager.ensure(table_name(keys.deployment, kind), table_schema(kind))
        return dg.MaterializeResult(
            value=course_runs_table(runs, held_versions(context.instance, keys.course_xml)),
            metadata={"course_runs": len(runs)},
            data_version=dg.DataVersion(version),
            tags={WANTED_VERSION_TAG: version},
        )

    return course_runs_asset


def course_xml(keys: DeploymentAssets, *, policy: AttemptPolicy, limits: ExportLimits) -> dg.AssetsDefinition:
    """Build the asset that exports course runs and keeps their archives."""

    @dg.multi_asset(
        name=keys.name("export_courses"),
        specs=[
            dg.AssetSpec(
                keys.course_xml,
                deps=[keys.course_runs],
                partitions_def=keys.partitions,
                skippable=True,
                group_name=GROUP,
                owners=OWNERS,
                kinds={"openedx", "file"},
                description=(
                    f"The exported archive of each course run of {keys.deployment}, as Studio wrote it, under the "
                    "version of its content: an export that only differs in times or in the order of files is the "
                    "same version."
                ),
            )
        ],
        backfill_policy=EACH_RUN_MANY_PARTITIONS,
        pool=keys.export_pool,
    )
    def course_xml_asset(
        context: dg.AssetExecutionContext,
        config: WantedVersions,
        openedx_api: OpenEdxApiClientFactory,
        io_manager: dg.ResourceParam[FileObjectIOManager],
    ) -> Iterator[Recorded]:
        courses = config.partitions(context)
        with openedx_api.client(keys.deployment) as client, tempfile.TemporaryDirectory() as folder:
            found = client.course_versions(courses)
            yield from exported(
                keys.course_xml,
                config,
                {course: as_version(one) if isinstance(one, str) else one for course, one in found.items()},
                export=partial(client.export_courses, directory=Path(folder)),
                store=lambda course, export: _stored(keys, io_manager, course, export),
                events=lambda course, archive: [
                    materialization(keys.course_xml, course, archive[0], tags={}, **archive[1])
                ],
                policy=policy,
                limits=limits,
            )

    return course_xml_asset


def _stored(
    keys: DeploymentAssets, objects: FileObjectIOManager, course: str, export: "CourseExport | OlError"
) -> _Archive | OlError:
    """Keep an archive; return what became of it, so that no archive costs the others theirs."""
    if isinstance(export, OlError):
        return export
    try:
        return _put(keys, objects, course, export.path)
    except OlError as error:
        return error
    finally:
        export.path.unlink(missing_ok=True)


def _put(keys: DeploymentAssets, objects: FileObjectIOManager, course: str, archive: Path) -> _Archive:
    """Keep an archive under its content's version, or in quarantine where it cannot be read."""
    try:
        with archive.open("rb") as stream:
            digest = digest_archive(stream, name=course)
    except OlError as error:
        raise objects.quarantine(archive, asset_key=keys.course_xml, partition=course, error=error) from error
    version = as_version(digest.content_digest)
    key = object_key(keys.course_xml, course, version, ".xml.tar.gz")
    counts = {"files": digest.member_count, "unpacked_bytes": digest.total_bytes}
    return objects.put(archive, key=key, version=version), counts
