"""New snapshots of a table: files swapped for others, and manifests merged before there are too many.

This module extends PyIceberg and imports it, so it is imported where it is used.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pyiceberg.table import Table, TableProperties, Transaction
from pyiceberg.table.update import update_table_metadata

from ol_core.tables.files import of_partitions
from ol_core.tables.schemas import partition_column

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.update.snapshot import _SnapshotProducer

MANIFESTS = 50
"""More manifests than so many are merged: each commit reads the list of them."""


class _Transaction(Transaction):
    """PyIceberg's, which copies all metadata of the table each time that they are asked for: fifty times a commit."""

    _known: "tuple[object, TableMetadata, TableMetadata] | None" = None

    @property
    def table_metadata(self) -> "TableMetadata":
        """The table as this transaction leaves it."""
        base, updates = self._table.metadata, self._updates
        if not updates:
            return base
        if self._known is None or self._known[0] is not updates or self._known[1] is not base:
            self._known = updates, base, update_table_metadata(base, updates)
        return self._known[2]


def begin(stored: Table) -> Transaction:
    """Begin to change a table as it was planned on.

    Returns:
        What is committed by `commit_transaction`, all or nothing; that raises `CommitFailedException` where what it
        changes was changed meanwhile, and `stored` is the table after it where not.
    """
    # In memory only. Whoever began plans it anew, and PyIceberg would try the old plan again.
    stored.metadata.properties[TableProperties.COMMIT_NUM_RETRIES] = "0"
    stored.metadata.properties[TableProperties.MANIFEST_MIN_MERGE_COUNT] = "2"
    return _Transaction(stored)


def planned(transaction: Transaction, stored: Table) -> Table:
    """Return a table as a transaction will leave it: files can be written for it before."""
    return Table(stored.name(), transaction.table_metadata, stored.metadata_location, stored.io, stored.catalog)


def swap(
    transaction: Transaction,
    stored: Table,
    *,
    removed: "Sequence[DataFile]",
    added: "Sequence[DataFile]",
    properties: Mapping[str, str],
) -> None:
    """Let a transaction make one snapshot in which some files take the place of others.

    Args:
        transaction: See `begin`.
        stored: The table that it changes.
        removed: Files of its current snapshot.
        added: Files that no snapshot has.
        properties: What the summary of the snapshot says beside the counts.
    """
    column = partition_column(stored)
    update = transaction.update_snapshot(snapshot_properties=dict(properties))
    producer: _SnapshotProducer[Any] = update.overwrite() if removed else update.fast_append()
    producer.delete_by_predicate(of_partitions(column, {file.partition[0] for file in removed} if column else None))
    with producer as files:
        for file in removed:
            files.delete_data_file(file)
        for file in added:
            files.append_data_file(file)
    if _many_manifests(stored):
        with transaction.update_snapshot(snapshot_properties=dict(properties)).merge_append():
            pass


def _many_manifests(stored: Table) -> bool:
    snapshot = stored.current_snapshot()
    return snapshot is not None and len(snapshot.manifests(stored.io)) >= MANIFESTS
