"""Upkeep of a table: partitions of many files rewritten, old snapshots expired, files that nobody needs removed."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ol_core.environment import RAW_NAMESPACE
from ol_core.failures import PermanentFailure
from ol_core.tables.catalogs import is_transient
from ol_core.tables.commits import VERSION_PROPERTY, TablePolicy, table_version
from ol_core.tables.files import Held, held_files, held_version, write_files
from ol_core.tables.reading import stored_batches

if TYPE_CHECKING:
    from uuid import UUID

    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

Folders = Mapping["UUID", tuple[str, str]]
"""Name and folder of each table, by what it keeps when it is renamed."""

_ATTEMPTS = 5
_PAUSE_SECONDS = 0.2
_SMALL_BYTES = 16 << 20
"""Files from this size on are left alone by compaction."""

_WRITTEN_BY_ENGINES = (".parquet", ".avro", ".orc", ".metadata.json", ".gz.metadata.json", ".puffin", ".stats")
"""What is removed at all: anything else below a table was put there by a person."""


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
        left_alone: Whether nothing was done, since the table declares no policy: it is another engine's.
        error: What went wrong; empty where nothing did.
    """

    table: str
    compacted: int = 0
    expired: int = 0
    removed: int = 0
    removed_bytes: int = 0
    snapshots: int = 0
    files: int = 0
    left_alone: bool = False
    error: str = ""


def folders_of(catalog: "Catalog", names: Iterable[str]) -> Folders | None:
    """Return the folders of tables, without those that are no more; None where the catalog or the store fails."""
    from pyiceberg.exceptions import NoSuchTableError

    found: dict[UUID, tuple[str, str]] = {}
    for name in names:
        try:
            table = catalog.load_table((RAW_NAMESPACE, name))
        except (NoSuchTableError, FileNotFoundError):
            continue
        except Exception as error:  # noqa: BLE001 - what cannot be read was made, and named, by another engine
            if is_transient(error):
                return None
            continue
        found[table.metadata.table_uuid] = name, table.location().rstrip("/")
    return found


def keep_up(
    opened: Callable[[], AbstractContextManager["Catalog"]],
    name: str,
    folders: Folders | None,
    *,
    now: Callable[[], datetime] | None = None,
) -> TableUpkeep:
    """Maintain a table as the policy in it says; a failure is told, not raised, so that it costs no other its turn.

    Args:
        opened: Opens the catalog.
        name: Table, without the namespace.
        folders: Folders of all tables, of which orphans are removed; None to remove none.
        now: The clock that ages are told by; the system's where none is given.
    """
    time_now = (now or (lambda: datetime.now(UTC)))()
    try:
        with opened() as catalog:
            properties = catalog.load_table((RAW_NAMESPACE, name)).properties
            if not TablePolicy.is_declared(properties):
                return TableUpkeep(table=name, left_alone=True)
            policy = TablePolicy.of(properties)
            compacted = sum(1 for _ in _compact(catalog, name, policy))
            expired = _expire(catalog, name, policy, time_now)
            oldest = time_now - timedelta(hours=policy.orphan_age_hours)
            removed = list(_remove_orphans(catalog, name, oldest, folders or {}))
            table = catalog.load_table((RAW_NAMESPACE, name))
            snapshot = table.current_snapshot()
            return TableUpkeep(
                table=name,
                compacted=compacted,
                expired=expired,
                removed=len(removed),
                removed_bytes=sum(removed),
                snapshots=len(table.snapshots()),
                files=int((snapshot and snapshot.summary and snapshot.summary.get("total-data-files")) or 0),
            )
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not cost the next table its turn
        return TableUpkeep(table=name, error=f"{type(error).__name__}: {error}")


def _compact(catalog: "Catalog", name: str, policy: TablePolicy) -> Iterator[str]:
    """Rewrite the small files of partitions that have many, one partition after the other; yield those that were.

    A writer that replaces the partition meanwhile wins; what was to take its files' place is an orphan then.
    """
    from pyiceberg.exceptions import CommitFailedException

    from ol_core.tables.snapshots import begin, swap

    table = catalog.load_table((RAW_NAMESPACE, name))
    for partition, tasks in _many(table, policy).items():
        written = write_files(table, partition, stored_batches(table, tasks), held_version(tasks))
        files = {task.file for task in tasks}
        for _ in range(_ATTEMPTS if len(written) < len(files) else 0):
            table = catalog.load_table((RAW_NAMESPACE, name))
            if not files <= {task.file for task in held_files(table, [partition]).get(partition, ())}:
                break
            try:
                properties = {VERSION_PROPERTY: table_version(table)}
                transaction = begin(table)
                swap(transaction, table, removed=list(files), added=written, properties=properties)
                transaction.commit_transaction()
            except CommitFailedException:
                time.sleep(_PAUSE_SECONDS)
            else:
                yield partition
                break


def _many(table: "Table", policy: TablePolicy) -> Held:
    """Return the small files of each partition that has too many."""
    small = {
        partition: [task for task in tasks if task.file.file_size_in_bytes < _SMALL_BYTES]
        for partition, tasks in held_files(table).items()
    }
    return {partition: tasks for partition, tasks in small.items() if len(tasks) > policy.compact_above_files}


def _expire(catalog: "Catalog", name: str, policy: TablePolicy, now: datetime) -> int:
    """Expire snapshots that are both old and not among the newest; branches and tags keep theirs."""
    from pyiceberg.exceptions import CommitFailedException
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

    for attempt in Retrying(
        retry=retry_if_exception_type(CommitFailedException),
        stop=stop_after_attempt(2 * _ATTEMPTS),
        wait=wait_random_exponential(multiplier=_PAUSE_SECONDS, max=5),
        reraise=True,
    ):
        with attempt:
            table = catalog.load_table((RAW_NAMESPACE, name))
            newest_first = sorted(table.snapshots(), key=lambda one: one.timestamp_ms, reverse=True)
            oldest_kept = (now - timedelta(hours=policy.snapshot_age_hours)).timestamp() * 1000
            referenced = {ref.snapshot_id for ref in table.metadata.refs.values()}
            old = [
                one.snapshot_id
                for one in newest_first[policy.snapshots_kept :]
                if one.timestamp_ms < oldest_kept and one.snapshot_id not in referenced
            ]
            if old:
                table.maintenance.expire_snapshots().by_ids(old).commit()
            return len(old)
    raise AssertionError  # the last attempt returns or raises


def _remove_orphans(catalog: "Catalog", name: str, before: datetime, folders: Folders) -> Iterator[int]:
    """Remove old files below the table's folder that no snapshot and no metadata needs; yield the size of each.

    The folder is listed before the table is read: what was committed meanwhile is needed, what was not is too young.
    A table that was made, or made anew, since the folders were told has its turn the next time.

    Raises:
        PermanentFailure: the list lacks files that the table needs, so it cannot be trusted, or another table has its
            files there too; nothing is removed.
    """
    from pyarrow.fs import FileSelector, FileType
    from pyiceberg.io.pyarrow import PyArrowFileIO

    table = catalog.load_table((RAW_NAMESPACE, name))
    if table.metadata.table_uuid not in folders:
        return
    _refuse_shared(table, folders)
    if not isinstance(table.io, PyArrowFileIO):
        raise PermanentFailure(f"its files are reached by {type(table.io).__name__}, which lists none")
    scheme, netloc, folder = PyArrowFileIO.parse_location(table.location())
    system = table.io.fs_by_scheme(scheme, netloc)
    files = FileSelector(folder, recursive=True, allow_not_found=True)
    listed = {file.path: file for file in system.get_file_info(files) if file.type == FileType.File}
    current = table.current_snapshot()
    for address in _files(table, [current] if current else []):
        path = _path(address)
        if path.startswith(f"{folder}/") and path not in listed:
            raise PermanentFailure(f"the list of {table.location()} lacks {address}, which the table needs")
    table = catalog.load_table((RAW_NAMESPACE, name))
    needed = {_path(address) for address in _needed(table)}
    for path, file in listed.items():
        if path not in needed and file.mtime < before and path.endswith(_WRITTEN_BY_ENGINES):
            system.delete_file(path)
            yield file.size or 0


def _refuse_shared(table: "Table", folders: Folders) -> None:
    """Refuse a folder that holds another table: one that had its name, and kept its folder when it was renamed."""
    own = table.location().rstrip("/")
    for identity, (name, folder) in folders.items():
        if identity != table.metadata.table_uuid and f"{folder}/".startswith(f"{own}/"):
            raise PermanentFailure(
                f"files of the table {name} are in {own} too, so no orphan is removed there; copy one of the two into "
                "a table of another name, and drop it"
            )


def _needed(table: "Table") -> Iterator[str]:
    yield table.metadata_location
    yield from (entry.metadata_file for entry in table.metadata.metadata_log)
    yield from (one.statistics_path for one in table.metadata.statistics)
    yield from (one.statistics_path for one in table.metadata.partition_statistics)
    yield from _files(table, table.snapshots())


def _files(table: "Table", snapshots: Iterable["Snapshot"]) -> Iterator[str]:
    """Yield the files of snapshots: lists of manifests, manifests, data and deletions. Each manifest is read once."""
    read: set[str] = set()
    for snapshot in snapshots:
        yield snapshot.manifest_list
        for manifest in snapshot.manifests(table.io):
            if manifest.manifest_path in read:
                continue
            read.add(manifest.manifest_path)
            yield manifest.manifest_path
            for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
                yield entry.data_file.file_path


def _path(address: str) -> str:
    """Return an address as the file system spells it: without a scheme."""
    from pyiceberg.io.pyarrow import PyArrowFileIO

    return PyArrowFileIO.parse_location(address)[2]
