"""What is read from Canvas: its courses, and each course's cartridge with its metadata."""

import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from ol_core.desired_state import WANTED_VERSION_TAG, as_version, recorded
from ol_core.failures import OlError
from ol_core.objects import FileObject, FileObjectIOManager, materialization, object_key
from ol_core.tables import RawTableIOManager

from ol_canvas.assets.keys import (
    COURSE_CONTENT,
    COURSE_METADATA,
    COURSES_TABLE,
    EACH_RUN_MANY_PARTITIONS,
    GROUP,
    OWNERS,
    PARTITIONS,
)
from ol_canvas.cartridge import Cartridge, content_version, read_cartridge
from ol_canvas.resources import CanvasApiClientFactory
from ol_canvas.tables import COURSE_TABLES, courses_table, table_schema

if TYPE_CHECKING:
    from ol_canvas.client import CanvasClient, CourseMetadata

_DEADLINE_SECONDS = 70 * 60
_IN_FLIGHT = 4


def courses() -> dg.AssetsDefinition:
    """Build the asset that holds the account's courses."""

    @dg.asset(
        key=COURSES_TABLE,
        group_name=GROUP,
        owners=OWNERS,
        kinds={"canvas", "iceberg"},
        io_manager_key="raw_table_io_manager",
        description="One row a course of the Canvas account, as its API lists them.",
    )
    def courses_asset(
        canvas_api: CanvasApiClientFactory, raw_table_io_manager: dg.ResourceParam[RawTableIOManager]
    ) -> dg.MaterializeResult[Any]:
        from ol_canvas.sweep import list_courses, list_digest

        with canvas_api.client() as client:
            found = list_courses(client, canvas_api.account_id)
        for table in COURSE_TABLES:  # the models read every table, also where no course has been exported yet
            raw_table_io_manager.ensure(table, table_schema(table))
        return dg.MaterializeResult(
            value=courses_table(found),
            metadata={"courses": len(found)},
            data_version=dg.DataVersion(list_digest(found)),
            tags={WANTED_VERSION_TAG: list_digest(found)},
        )

    return courses_asset


@dataclass(frozen=True, slots=True)
class _Export:
    """A course's cartridge and its metadata, stored under one version.

    Attributes:
        wanted: Digest of the metadata that this export was made for.
        cartridge: The `.imscc`.
        metadata: The JSON document beside it.
        content: What is in the cartridge.
        counts: What is in the metadata.
    """

    wanted: str
    cartridge: FileObject
    metadata: FileObject
    content: dict[str, int | str | None]
    counts: dict[str, int]


def course_export() -> dg.AssetsDefinition:
    """Build the assets that export courses and keep their cartridges and metadata."""

    @dg.multi_asset(
        name="canvas_export_courses",
        specs=[
            dg.AssetSpec(
                key,
                deps=[COURSES_TABLE],
                partitions_def=PARTITIONS,
                skippable=True,
                group_name=GROUP,
                owners=OWNERS,
                kinds={"canvas", kind},
                description=description,
            )
            for key, kind, description in [
                (
                    COURSE_CONTENT,
                    "file",
                    "The exported common cartridge of each course, under the version of its content.",
                ),
                (
                    COURSE_METADATA,
                    "json",
                    "Files, pages, assignments and modules of each course, beside its cartridge.",
                ),
            ]
        ],
        backfill_policy=EACH_RUN_MANY_PARTITIONS,
    )
    def course_export_assets(
        context: dg.AssetExecutionContext,
        canvas_api: CanvasApiClientFactory,
        io_manager: dg.ResourceParam[FileObjectIOManager],
    ) -> Iterator[dg.AssetMaterialization | dg.AssetObservation]:
        courses = list(context.partition_keys)
        with (
            canvas_api.client() as client,
            tempfile.TemporaryDirectory() as folder,
            ThreadPoolExecutor(_IN_FLIGHT) as pool,
        ):
            wanted = dict.fromkeys(courses, "")  # each becomes known with the course's metadata
            exporter = _Exporter(client, io_manager, Path(folder), wanted)
            exports = {pool.submit(exporter.export, course): course for course in courses}
            yield from recorded(
                COURSE_CONTENT,
                wanted,
                ((exports[done], done.result()) for done in as_completed(exports)),
                _events,
            )

    return course_export_assets


def _events(course: str, export: _Export) -> list[dg.AssetMaterialization]:
    tags = {WANTED_VERSION_TAG: export.wanted}
    return [
        materialization(COURSE_METADATA, course, export.metadata, tags=tags, **export.counts),
        materialization(COURSE_CONTENT, course, export.cartridge, tags=tags, **export.content),
    ]


@dataclass(frozen=True, slots=True)
class _Exporter:
    client: "CanvasClient"
    objects: FileObjectIOManager
    folder: Path
    wanted: dict[str, str]

    def export(self, course: str) -> _Export | OlError:
        destination = self.folder / f"{course}.imscc"
        try:
            metadata = self.client.course_metadata(course)
            self.wanted[course] = as_version(metadata.digest)
            self.client.export_course(course, destination, deadline_seconds=_DEADLINE_SECONDS)
            return self._stored(course, destination, metadata)
        except OlError as error:
            return error
        finally:
            destination.unlink(missing_ok=True)

    def _stored(self, course: str, cartridge: Path, metadata: "CourseMetadata") -> _Export:
        try:
            content = read_cartridge(cartridge, name=course, course_id=course)
        except OlError as error:
            raise self.objects.quarantine(cartridge, asset_key=COURSE_CONTENT, partition=course, error=error) from error
        document = metadata.to_json()
        version = as_version(content_version(content.content_digest, published=_published(metadata), metadata=document))
        beside = self.folder / f"{course}.metadata.json"
        beside.write_text(json.dumps(document, indent=1, sort_keys=True), encoding="utf-8")
        kept = [
            self.objects.put(file, key=object_key(COURSE_CONTENT, course, version, suffix), version=version)
            for file, suffix in ((cartridge, ".imscc"), (beside, ".metadata.json"))
        ]
        counts = {kind: len(document[kind]) for kind in ("files", "pages", "assignments", "modules")}
        return _Export(self.wanted[course], kept[0], kept[1], content=_summary(content), counts=counts)


def _summary(content: Cartridge) -> dict[str, int | str | None]:
    return {
        "title": content.title,
        "items": sum(content.items_by_type.values()),
        "items_by_type": ", ".join(f"{count} {kind}" for kind, count in sorted(content.items_by_type.items())),
        "files": content.file_count,
        "file_bytes": content.file_bytes,
        "quarantined": content.quarantined_count,
    }


def _published(metadata: "CourseMetadata") -> set[str]:
    return {
        *(f"page:{page.page_id}" for page in metadata.pages if page.published),
        *(f"assignment:{one.assignment_id}" for one in metadata.assignments if one.published),
        *(f"module:{module.module_id}" for module in metadata.modules if module.published),
        *(f"item:{item.item_id}" for module in metadata.modules for item in module.items if item.published),
    }
