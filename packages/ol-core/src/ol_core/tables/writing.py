"""Commits: a table is created or widened, and partitions are replaced, with other writers about."""

import uuid
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from ol_core.environment import RAW_NAMESPACE
from ol_core.failures import PermanentFailure
from ol_core.tables.commits import PARTITION_COLUMN, TableCommit, TablePolicy
from ol_core.tables.staging import WHOLE_TABLE, Stage

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.catalog import Catalog
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.table import Table
    from pyiceberg.types import IcebergType

ROWS_AN_APPEND = 500_000
BYTES_AN_APPEND = 128 << 20
"""Arrow bytes in memory: each append is a data file of its own for each of its partitions."""

_COMMIT_ID = "ol.commit-id"
_ROWS_COMPARED = 200_000
_ATTEMPTS = 20


def ensure_table(
    catalog: "Catalog", name: str, schema: "pa.Schema", *, partitioned: bool, policy: TablePolicy
) -> "Table":
    """Create a table, or widen it to the declared columns; keep its policy as declared.

    Raises:
        PermanentFailure: a column changed to a type that Iceberg cannot promote it to.
    """
    from pyiceberg.exceptions import NamespaceAlreadyExistsError, NoSuchTableError, TableAlreadyExistsError

    try:
        stored = catalog.load_table((RAW_NAMESPACE, name))
    except NoSuchTableError:
        with suppress(NamespaceAlreadyExistsError):
            catalog.create_namespace(RAW_NAMESPACE)
        with suppress(TableAlreadyExistsError):  # another process was first
            creation = catalog.create_table_transaction((RAW_NAMESPACE, name), schema, properties=policy.properties)
            with creation:
                if partitioned:
                    with creation.update_spec() as spec:
                        spec.add_identity(PARTITION_COLUMN)
        stored = catalog.load_table((RAW_NAMESPACE, name))
    _widen(name, stored, schema)
    if any(stored.properties.get(key) != value for key, value in policy.properties.items()):
        with stored.transaction() as transaction:
            transaction.set_properties(policy.properties)
    return stored


def _widen(name: str, stored: "Table", schema: "pa.Schema") -> None:
    from pyiceberg.exceptions import ResolveError
    from pyiceberg.schema import promote

    held = {field.name: field.field_type for field in stored.schema().fields}
    declared = _iceberg_types(schema)
    for column, kind in declared.items():
        if column not in held or held[column] == kind:
            continue
        try:
            promote(held[column], kind)
        except ResolveError:
            raise PermanentFailure(
                f"{name}.{column} is {held[column]} in the table but declared as {kind}, which Iceberg cannot promote "
                f"it to; give the new column another name, or drop {RAW_NAMESPACE}.{name} and materialize it anew"
            ) from None
    with stored.update_schema() as update:
        update.union_by_name(schema)


def _iceberg_types(schema: "pa.Schema") -> dict[str, "IcebergType"]:
    from pyiceberg.io.pyarrow import pyarrow_to_schema
    from pyiceberg.table.name_mapping import MappedField, NameMapping

    fields = [MappedField(field_id=number, names=[name]) for number, name in enumerate(schema.names, start=1)]
    return {field.name: field.field_type for field in pyarrow_to_schema(schema, NameMapping(fields)).fields}


def changed_partitions(stored: "Table", stage: Stage) -> list[str]:
    """Return the partitions whose rows differ from those that the table holds, in whatever order."""
    held = _held_rows(stored)
    same_count = [one for one in stage.partitions if held.get(one, 0) == stage.rows[one] > 0]
    empty = {one for one in stage.partitions if held.get(one, 0) == stage.rows[one] == 0}
    equal = {one for group in _groups(same_count, stage) for one in _equal(stored, stage, group)}
    return [one for one in stage.partitions if one not in equal and one not in empty]


def _held_rows(stored: "Table") -> dict[str, int]:
    if stored.current_snapshot() is None:
        return {}
    found = stored.inspect.partitions()
    counts = found["record_count"].to_pylist()
    if "partition" not in found.column_names:
        return {WHOLE_TABLE: sum(counts)}
    names = [row[PARTITION_COLUMN] for row in found["partition"].to_pylist()]
    return dict(zip(names, counts, strict=True))


def _groups(partitions: Iterable[str], stage: Stage) -> Iterator[list[str]]:
    group: list[str] = []
    for one in partitions:
        group.append(one)
        if sum(stage.rows[each] for each in group) >= _ROWS_COMPARED:
            yield group
            group = []
    if group:
        yield group


def _equal(stored: "Table", stage: Stage, group: list[str]) -> list[str]:
    """Return those of a group whose rows are equal as a multiset."""
    import pyarrow as pa
    import pyarrow.compute as pc

    new = pa.concat_tables(stage.tables(group))
    held = stored.scan(row_filter=_where(group)).to_arrow()
    if set(held.column_names) != set(new.column_names):
        return []
    held, new = _sorted(held.select(new.column_names).cast(new.schema)), _sorted(new)
    if held.equals(new) or group == [WHOLE_TABLE]:
        return group if held.equals(new) else []

    def of(table: "pa.Table", partition: str) -> "pa.Table":
        return table.filter(pc.field(PARTITION_COLUMN) == partition)

    return [one for one in group if of(held, one).equals(of(new, one))]


def _sorted(table: "pa.Table") -> "pa.Table":
    return table.sort_by([(column, "ascending") for column in table.column_names]).combine_chunks()


def _where(partitions: Iterable[str]) -> "BooleanExpression":
    from pyiceberg.expressions import AlwaysTrue, In

    names = set(partitions)
    return AlwaysTrue() if names == {WHOLE_TABLE} else In(PARTITION_COLUMN, names)  # type: ignore[misc,call-arg]


def replace(catalog: "Catalog", name: str, stage: Stage, policy: TablePolicy) -> TableCommit:
    """Replace exactly the partitions of a stage, where their rows differ from what the table holds.

    Where another writer replaced one of them meanwhile, it is planned anew on what that one left: the last complete
    one wins. A commit whose outcome is unknown is looked for by its id before it is tried again.

    Raises:
        pyiceberg.exceptions.CommitFailedException: other writers were faster, again and again.
    """
    from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException, ValidationException
    from sqlalchemy.exc import OperationalError
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

    partitioned = stage.partitions != (WHOLE_TABLE,)
    total = sum(stage.rows.values())
    conflicts = (CommitFailedException, CommitStateUnknownException, ValidationException, OperationalError)
    commit_id = str(uuid.uuid4())
    changed: list[str] = []
    for attempt in Retrying(
        retry=retry_if_exception_type(conflicts),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.1, max=5),
        reraise=True,
    ):
        with attempt:
            stored = ensure_table(catalog, name, stage.schema, partitioned=partitioned, policy=policy)
            if attempt.retry_state.attempt_number > 1 and _landed(stored, commit_id):
                break
            changed = changed_partitions(stored, stage)
            if not changed:
                return TableCommit.of(name, stored, rows=total, changed_partitions=0)
            _commit(stored, stage, changed, commit_id)
    now = catalog.load_table((RAW_NAMESPACE, name))
    return TableCommit.of(name, now, rows=total, changed_partitions=len(changed))


def _landed(stored: "Table", commit_id: str) -> bool:
    return any(one.summary and one.summary.get(_COMMIT_ID) == commit_id for one in stored.snapshots())


def _commit(stored: "Table", stage: Stage, partitions: list[str], commit_id: str) -> None:
    """Delete and append in one transaction: readers see the table before it, or after it."""
    properties = {_COMMIT_ID: commit_id}
    where = _where(partitions)
    with warnings.catch_warnings(), stored.transaction() as transaction:
        warnings.filterwarnings("ignore", "Delete operation did not match any records")
        first = True
        for rows in _gathered(stage, partitions):
            if first:
                transaction.overwrite(rows, where, snapshot_properties=properties)
            else:
                transaction.append(rows, snapshot_properties=properties)
            first = False
        if first:
            transaction.delete(where, snapshot_properties=properties)


def _gathered(stage: Stage, partitions: list[str]) -> Iterator["pa.Table"]:
    """Yield all rows in as few tables as memory admits."""
    import pyarrow as pa

    some: list[pa.Table] = []
    for rows in stage.tables(partitions):
        some.append(rows)
        if sum(map(len, some)) >= ROWS_AN_APPEND or sum(one.nbytes for one in some) >= BYTES_AN_APPEND:
            yield pa.concat_tables(some)
            some = []
    if some:
        yield pa.concat_tables(some)
