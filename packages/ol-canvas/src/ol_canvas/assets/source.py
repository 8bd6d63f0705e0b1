"""What is read from the instance: its courses, and each course's cartridge with its metadata."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
    wanted_since,
)
from ol_core.orchestration.exports import ExportLimits
from ol_core.tables import RawTableIOManager

from ol_canvas.assets.keys import EACH_RUN_MANY_PARTITIONS, GROUP, OWNERS, InstanceAssets
from ol_canvas.cartridge import Cartridge, content_version, read_cartridge
from ol_canvas.resources import CanvasApiClientFactory
from ol_canvas.tables import COURSE_KINDS, courses_table, table_name, table_schema

if TYPE_CHECKING:
    from ol_canvas.client import CanvasClient, CanvasExport


def courses(keys: InstanceAssets) -> dg.AssetsDefinition:
    """Build the asset that holds the account's courses."""

    @dg.asset(
        key=keys.courses,
        group_name=GROUP,
        owners=OWNERS,
        kinds={"canvas", "iceberg"},
        io_manager_key="raw_table_io_manager",
        pool=keys.list_pool,
        description=f"One row per course of the account of {keys.instance}, as its API lists them.",
    )
    def courses_asset(
        canvas_api: CanvasApiClientFactory, raw_table_io_manager: dg.ResourceParam[RawTableIOManager]
    ) -> dg.MaterializeResult[Any]:
        from ol_canvas.sweep import list_version

        with canvas_api.client(keys.instance) as client:
            found = list(client.courses())
        version = list_version(found)
        for kind in COURSE_KINDS:  # the models read every table, also where no course has been exported yet
            raw_table_io_manager.ensure(table_name(keys.instance, kind), table_schema(kind))
        return dg.MaterializeResult(
            value=courses_table(found),
            metadata={"courses": len(found)},
            data_version=dg.DataVersion(version),
            tags={WANTED_VERSION_TAG: version},
        )

    return courses_asset


def course_export(keys: InstanceAssets, *, policy: AttemptPolicy, limits: ExportLimits) -> dg.AssetsDefinition:
    """Build the assets that export courses and keep their cartridges and metadata."""

    @dg.multi_asset(
        name=keys.name("export_courses"),
        specs=[
            _spec(
                keys,
                keys.course_content,
                kind="file",
                description=(
                    f"The exported common cartridge of each course of {keys.instance}, under the version of its "
                    "content: an export that only differs in dates or in the order of members is the same version."
                ),
            ),
            _spec(
                keys,
                keys.course_metadata,
                kind="json",
                description="Files, pages, assignments and modules of each course, beside its cartridge.",
            ),
        ],
        backfill_policy=EACH_RUN_MANY_PARTITIONS,
        pool=keys.export_pool,
    )
    def course_export_assets(
        context: dg.AssetExecutionContext,
        config: WantedVersions,
        canvas_api: CanvasApiClientFactory,
        io_manager: dg.ResourceParam[FileObjectIOManager],
    ) -> Iterator[Recorded]:
        courses = config.partitions(context)
        with canvas_api.client(keys.instance) as client, tempfile.TemporaryDirectory() as folder:
            documents = _documents(client, courses, Path(folder))
            read = {course: one for course, one in documents.items() if isinstance(one, _Document)}
            context.log.info("the metadata of %d of %d courses is read", len(read), len(courses))
            versions = {course: one.version for course, one in read.items()}
            yield from exported(
                keys.course_content,
                config,
                {course: one.version if isinstance(one, _Document) else one for course, one in documents.items()},
                export=partial(
                    client.export_courses,
                    directory=Path(folder),
                    wanted_since=wanted_since(context.instance, context.run, versions),
                ),
                store=lambda course, export: _stored(
                    keys, io_manager, course, document=read[course].path, export=export
                ),
                events=lambda course, export: [
                    materialization(keys.course_metadata, course, export.metadata, tags={}, **export.counts),
                    materialization(keys.course_content, course, export.cartridge, tags={}, **export.content),
                ],
                policy=policy,
                limits=limits,
            )

    return course_export_assets


def _spec(keys: InstanceAssets, key: dg.AssetKey, *, kind: str, description: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        key,
        deps=[keys.courses],
        partitions_def=keys.partitions,
        skippable=True,
        group_name=GROUP,
        owners=OWNERS,
        kinds={"canvas", kind},
        description=description,
    )


@dataclass(frozen=True, slots=True)
class _Document:
    """What the API says of a course, in a file.

    Attributes:
        version: Digest of it.
        path: The JSON document.
    """

    version: str
    path: Path


def _documents(client: "CanvasClient", courses: Sequence[str], folder: Path) -> Mapping[str, _Document | OlError]:
    """Read each course's metadata into a file: it goes beside the cartridge, and must not be newer than that."""
    from ol_canvas.client.canvas import COURSES_AT_A_TIME

    def read(course: str) -> _Document | OlError:
        try:
            metadata = client.course_metadata(course)
        except OlError as error:
            return error
        path = folder / f"{as_version(course)}.metadata.json"
        path.write_text(json.dumps(metadata.to_json(), indent=1, sort_keys=True), encoding="utf-8")
        return _Document(as_version(metadata.digest), path)

    with ThreadPoolExecutor(COURSES_AT_A_TIME) as pool:
        return dict(zip(courses, pool.map(read, courses), strict=True))


@dataclass(frozen=True, slots=True)
class _Export:
    """A course's cartridge and its metadata, stored under one version.

    Attributes:
        cartridge: The `.imscc`.
        metadata: The JSON document beside it.
        content: What is in the cartridge.
        counts: What is in the metadata.
    """

    cartridge: FileObject
    metadata: FileObject
    content: Mapping[str, int | str | None]
    counts: Mapping[str, int]


def _stored(
    keys: InstanceAssets,
    objects: FileObjectIOManager,
    course: str,
    *,
    document: Path,
    export: "CanvasExport | OlError",
) -> _Export | OlError:
    """Keep a cartridge; return what became of it, so that no cartridge costs the others theirs."""
    if isinstance(export, OlError):
        return export
    try:
        return _put(keys, objects, course, document=document, cartridge=export.path)
    except OlError as error:
        return error
    finally:
        export.path.unlink(missing_ok=True)
        document.unlink()


def _put(
    keys: InstanceAssets, objects: FileObjectIOManager, course: str, *, document: Path, cartridge: Path
) -> _Export:
    """Keep a cartridge and its metadata under their content's version, or in quarantine where it cannot be read."""
    try:
        content = read_cartridge(cartridge, name=course, course_id=course)
    except OlError as error:
        raise objects.quarantine(cartridge, asset_key=keys.course_content, partition=course, error=error) from error
    metadata: dict[str, Any] = json.loads(document.read_text(encoding="utf-8"))
    version = as_version(content_version(content.content_digest, published=_published(metadata), metadata=metadata))
    kept = [
        objects.put(file, key=object_key(keys.course_content, course, version, suffix), version=version)
        for file, suffix in ((cartridge, ".imscc"), (document, ".metadata.json"))
    ]
    counts = {kind: len(metadata[kind]) for kind in ("files", "pages", "assignments", "modules")}
    return _Export(kept[0], kept[1], content=_summary(content), counts=counts)


def _summary(content: Cartridge) -> dict[str, int | str | None]:
    return {
        "title": content.title,
        "items": sum(content.items_by_type.values()),
        "items_by_type": ", ".join(f"{count} {kind}" for kind, count in sorted(content.items_by_type.items())),
        "files": content.file_count,
        "file_bytes": content.file_bytes,
        "quarantined": content.quarantined_count,
    }


def _published(metadata: Mapping[str, Any]) -> set[str]:
    items = [item for module in metadata["modules"] for item in module["items"]]
    kinds = {"page": metadata["pages"], "assignment": metadata["assignments"], "module": metadata["modules"]}
    return {
        f"{kind}:{one[f'{kind}_id']}"
        for kind, some in {**kinds, "item": items}.items()
        for one in some
        if one["published"]
    }
