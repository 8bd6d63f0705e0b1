"""Upkeep of a table: partitions of many files rewritten, old snapshots expired, files that nobody needs removed."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ol_core.environment import RAW_NAMESPACE
from ol_core.failures import OlError
from ol_core.tables.commits import PARTITION_COLUMN, TablePolicy

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

_PARTITIONS_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class TableUpkeep:
    """What became of a table.

    Attributes:
        table: Its name, without the namespace.
        compacted: Partitions that were rewritten into fewer files.
        expired: Snapshots that were expired.
        removed: Files that were removed, since no snapshot needs them.
        removed_bytes: Their size.
        snapshots: Snapshots left.
        files: Data files left.
        error: What went wrong; empty where nothing did.
    """

    table: str
    compacted: int = 0
    expired: int = 0
    removed: int = 0
    removed_bytes: int = 0
    snapshots: int = 0
    files: int = 0
    error: str = ""


def keep_up(opened: Callable[[], AbstractContextManager["Catalog"]], name: str) -> TableUpkeep:
    """Maintain a table as its policy says; a failure is told, not raised, so that it costs no other table its turn."""
    try:
        with opened() as catalog:
            table = catalog.load_table((RAW_NAMESPACE, name))
            policy = TablePolicy.of(table.properties)
            compacted = _compact(table, policy)
            expired = _expire(catalog.load_table((RAW_NAMESPACE, name)), policy)
            table = catalog.load_table((RAW_NAMESPACE, name))
            removed = list(_remove_orphans(table, policy))
            return TableUpkeep(
                table=name,
                compacted=compacted,
                expired=expired,
                removed=len(removed),
                removed_bytes=sum(removed),
                snapshots=len(table.snapshots()),
                files=len(table.inspect.files()) if table.current_snapshot() else 0,
            )
    except OlError as error:
        return TableUpkeep(table=name, error=f"{type(error).__name__}: {error}")


def _compact(table: "Table", policy: TablePolicy) -> int:
    """Rewrite partitions of many files by the same rows; a writer that is faster wins, and compaction waits."""
    from pyiceberg.exceptions import CommitFailedException, ValidationException
    from pyiceberg.expressions import AlwaysTrue, In

    if table.current_snapshot() is None:
        return 0
    found = table.inspect.partitions()
    partitioned = "partition" in found.column_names
    many = [row for row in found.to_pylist() if row["file_count"] > policy.compact_above_files]
    names = [row["partition"][PARTITION_COLUMN] for row in many] if partitioned else [""] * len(many)
    for start in range(0, len(names), _PARTITIONS_AT_ONCE):
        some = set(names[start : start + _PARTITIONS_AT_ONCE])
        where = In(PARTITION_COLUMN, some) if partitioned else AlwaysTrue()  # type: ignore[misc,call-arg]
        rows = table.scan(row_filter=where).to_arrow()
        try:
            table.overwrite(rows, where)
        except (CommitFailedException, ValidationException):
            return start
    return len(names)


def _expire(table: "Table", policy: TablePolicy) -> int:
    """Expire snapshots that are both old and not among the newest; branches and tags keep theirs."""
    newest_first = sorted(table.snapshots(), key=lambda one: one.timestamp_ms, reverse=True)
    oldest_kept = (time.time() - policy.snapshot_age_hours * 3600) * 1000
    referenced = {ref.snapshot_id for ref in table.metadata.refs.values()}
    old = [
        one.snapshot_id
        for one in newest_first[policy.snapshots_kept :]
        if one.timestamp_ms < oldest_kept and one.snapshot_id not in referenced
    ]
    if old:
        table.maintenance.expire_snapshots().by_ids(old).commit()
    return len(old)


def _remove_orphans(table: "Table", policy: TablePolicy) -> Iterator[int]:
    """Remove files below the table's folder that no snapshot and no metadata needs; yield the size of each."""
    from pyarrow.fs import FileSelector, FileType

    needed = {_path(address) for address in _needed(table)}
    before = datetime.now(UTC) - timedelta(hours=policy.orphan_age_hours)
    files = _file_system(table)
    for one in files.get_file_info(FileSelector(_path(table.location()), recursive=True, allow_not_found=True)):
        if one.type == FileType.File and one.path not in needed and one.mtime < before:
            files.delete_file(one.path)
            yield one.size or 0


def _needed(table: "Table") -> Iterable[str]:
    yield table.metadata_location
    yield from (entry.metadata_file for entry in table.metadata.metadata_log)
    for snapshot in table.snapshots():
        yield snapshot.manifest_list
        for manifest in snapshot.manifests(table.io):
            yield manifest.manifest_path
            for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
                yield entry.data_file.file_path


def _path(address: str) -> str:
    """Return an address as the file system spells it: without a scheme."""
    return address.partition("://")[2] if "://" in address else address


def _file_system(table: "Table") -> "FileSystem":
    from pyarrow.fs import LocalFileSystem, S3FileSystem

    if not table.location().startswith("s3"):
        return LocalFileSystem()
    stated = table.io.properties
    endpoint = stated.get("s3.endpoint", "")
    options = {"endpoint_override": endpoint, "scheme": endpoint.partition(":")[0]} if endpoint else {}
    if stated.get("s3.region"):
        options["region"] = stated["s3.region"]
    if stated.get("s3.access-key-id"):
        options |= {"access_key": stated["s3.access-key-id"], "secret_key": stated["s3.secret-access-key"]}
    if stated.get("s3.session-token"):
        options["session_token"] = stated["s3.session-token"]
    return S3FileSystem(**options)
