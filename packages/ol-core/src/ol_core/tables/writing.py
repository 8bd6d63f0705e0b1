"""Commits: partitions of a table are replaced, with other writers about.

Rows are written once, as files that no snapshot needs yet. The commit then swaps them for the files that hold the
partitions now, and widens the table to them: one new snapshot, on the condition that the current one is still that on
which it was planned. Where another writer was faster, only the plan is made anew (the files too where the columns are
others now), so writers of different partitions hardly disturb each other.
"""

import random
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from ol_core.environment import RAW_NAMESPACE
from ol_core.failures import TransientFailure
from ol_core.tables.catalogs import is_transient
from ol_core.tables.commits import NO_ROWS, VERSION_PROPERTY, TableCommit, TablePolicy
from ol_core.tables.files import Held, held_files, held_version, write_files
from ol_core.tables.reading import ARROW_BYTES_SORTED, holds
from ol_core.tables.schemas import open_table, widen
from ol_core.tables.staging import Stage

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.manifest import DataFile
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table

Result = TypeVar("Result")

CONFLICT_SECONDS = 600
"""How long a writer goes on when others are faster."""

_ATTEMPTS = 3
"""Attempts where the catalog or the store failed, so that the commit may have been made."""
_PARTITIONS_AT_ONCE = 4
_LONGEST_WAIT, _LONGEST_WAIT_SECONDS = 6, 10
"""Longest pause before the next attempt, in times that the last one took, which grows with the writers about."""


def replace(catalog: "Catalog", name: str, stage: Stage, policy: TablePolicy) -> TableCommit:
    """Replace exactly the partitions of a stage, where their rows differ from what the table holds.

    What the table lacks of the declared columns and policy is part of that commit; only a table that is missing is made
    before it. A stage of no partitions does nothing else.

    Where another writer replaced one of them meanwhile, that is replaced: the last complete one wins. A commit whose
    outcome is unknown is looked for before it is tried again.

    Raises:
        pyiceberg.exceptions.CommitFailedException: other writers were faster, again and again.
    """
    from pyiceberg.exceptions import CommitFailedException

    replacement = _Replacement(catalog, name, stage, policy)
    deadline = time.monotonic() + CONFLICT_SECONDS
    unknown = 0
    while True:
        started = time.monotonic()
        try:
            return replacement.attempt()
        except CommitFailedException:
            if time.monotonic() > deadline:
                raise
        except Exception as error:
            unknown += 1
            if not replacement.sent or unknown == _ATTEMPTS or not is_transient(error):
                raise
        longest = min(_LONGEST_WAIT * (time.monotonic() - started), _LONGEST_WAIT_SECONDS)
        time.sleep(random.uniform(0, longest))  # noqa: S311 - it only spreads writers out


class _Replacement:
    """One replacement, tried until it is committed.

    Attributes:
        sent: Whether a commit was sent to the catalog, so that it may have been made.
    """

    def __init__(self, catalog: "Catalog", name: str, stage: Stage, policy: TablePolicy) -> None:
        self._catalog, self._name, self._stage, self._policy = catalog, name, stage, policy
        self._version = uuid.uuid4().hex
        self._stored: Table | None = None
        self._schema: Schema | None = None
        self._same: dict[tuple[str, frozenset[str]], bool] = {}
        self._written: dict[str, list[DataFile]] = {}
        self._changed: list[str] = []
        self.sent = False

    def attempt(self) -> TableCommit:
        """Plan on the table as it is now, and commit; nothing is committed where it holds all rows already."""
        from ol_core.tables.snapshots import begin, planned, swap

        stage, stored = self._stage, self._table()
        held = held_files(stored, stage.partitions)
        if self.sent and _landed(stored, self._version):
            return self._commit(stored, held)
        transaction = begin(stored)
        widen(transaction, self._name, stage.declared, self._policy)
        wider = planned(transaction, stored)
        if wider.schema() != self._schema:  # what was compared and written had other columns, or other ids for them
            self._schema, self._same, self._written = wider.schema(), {}, {}
        same = self._each(lambda one: self._holds(wider, held, one), stage.partitions)
        self._changed = [one for one in stage.partitions if not same[one]]
        new = [one for one in self._changed if one not in self._written]
        self._written.update(self._each(lambda one: write_files(wider, one, stage.batches(one), self._version), new))
        if self._changed:
            swap(
                transaction,
                stored,
                removed=[task.file for one in self._changed for task in held.get(one, ())],
                added=[file for one in self._changed for file in self._written[one]],
                properties={VERSION_PROPERTY: self._version},
            )
        self.sent = True
        transaction.commit_transaction()
        return self._commit(stored, held)

    def _each(self, work: Callable[[str], Result], partitions: Iterable[str]) -> dict[str, Result]:
        """Work on partitions, on small ones several at once; a large one has the memory to itself."""
        names = list(partitions)
        with ThreadPoolExecutor(_PARTITIONS_AT_ONCE) as pool:
            small = {one: pool.submit(work, one) for one in names if self._stage.bytes[one] <= ARROW_BYTES_SORTED}
            done = {one: future.result() for one, future in small.items()}
        return {one: done[one] if one in done else work(one) for one in names}

    def _table(self) -> "Table":
        """Return the table as it is now; files that were written for one say nothing in another of its name."""
        if self._stored is None:
            stage = self._stage
            self._stored = open_table(
                self._catalog, self._name, stage.declared, column=stage.column, policy=self._policy
            )
        else:
            try:
                self._stored.refresh()
            except ValueError as error:
                table = f"{RAW_NAMESPACE}.{self._name}"
                raise TransientFailure(
                    f"{table} was dropped and made anew meanwhile ({error}); run it again"
                ) from error
        return self._stored

    def _holds(self, stored: "Table", held: Held, partition: str) -> bool:
        tasks = held.get(partition, ())
        if not tasks or not self._stage.rows[partition]:
            return not tasks and not self._stage.rows[partition]
        compared = partition, frozenset(task.file.file_path for task in tasks)
        if compared not in self._same:
            self._same[compared] = holds(stored, tasks, self._stage, partition)
        return self._same[compared]

    def _commit(self, stored: "Table", held: Held) -> TableCommit:
        changed, stage = set(self._changed), self._stage

        def version(partition: str) -> str:
            if not stage.rows[partition]:
                return NO_ROWS
            return self._version if partition in changed else held_version(held[partition])

        return TableCommit.of(
            self._name,
            stored,
            rows=sum(stage.rows.values()),
            changed_partitions=len(changed),
            partition_versions={one: version(one) for one in stage.partitions} if stage.column else {},
            partition_rows={one: stage.rows[one] for one in stage.partitions} if stage.column else {},
        )


def _landed(stored: "Table", version: str) -> bool:
    return any(one.summary and one.summary.get(VERSION_PROPERTY) == version for one in stored.snapshots())
