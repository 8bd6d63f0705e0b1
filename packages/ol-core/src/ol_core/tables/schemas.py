"""The columns of a table: it is created as declared, and changed only as Iceberg can without rewriting rows.

Added columns hold null in older rows. Types widen (int to long, float to double, more digits of a decimal); any other
change is refused. A column that the declaration no longer has is kept, with null in new rows: dropping it would drop
data, which is a person's decision. A renamed column is therefore a new one beside the old. Columns may become
nullable, never required. All of it holds for fields of structs, lists and maps as well.
"""

from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

from ol_core.environment import RAW_NAMESPACE
from ol_core.failures import PermanentFailure
from ol_core.tables.commits import TablePolicy

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.catalog import Catalog
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table
    from pyiceberg.table.name_mapping import MappedField
    from pyiceberg.types import IcebergType


_ATTEMPTS = 10


def ensure_table(
    catalog: "Catalog", name: str, schema: "pa.Schema", *, column: str | None, policy: TablePolicy
) -> "Table":
    """Create a table, or widen it to the declared columns; keep its policy as declared.

    Args:
        catalog: The catalog.
        name: Name without the namespace.
        schema: Declared columns.
        column: Column whose values are the partitions; None for a table that has none.
        policy: Declared policy.

    Raises:
        PermanentFailure: a column changed to a type that Iceberg cannot promote it to, or the partitions did.
    """
    from pyiceberg.exceptions import CommitFailedException
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

    again = Retrying(
        retry=retry_if_exception_type(CommitFailedException),  # another process changed it at the same moment
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.1, max=5),
        reraise=True,
    )
    return again(_ensure, catalog, name, schema, column=column, policy=policy)


def _ensure(catalog: "Catalog", name: str, schema: "pa.Schema", *, column: str | None, policy: TablePolicy) -> "Table":
    from pyiceberg.exceptions import NoSuchTableError

    declared = _declared(name, schema)
    try:
        stored = catalog.load_table((RAW_NAMESPACE, name))
    except NoSuchTableError:
        stored = _create(catalog, name, declared, column=column, policy=policy)
    held = partition_column(stored)
    if held != column:
        raise PermanentFailure(
            f"{name} is partitioned by {held or 'nothing'} but declared with {column or 'nothing'}; give the table "
            f"another name, or drop {RAW_NAMESPACE}.{name} and materialize it anew"
        )
    _widen(name, stored, schema, declared)
    if any(stored.properties.get(key) != value for key, value in policy.properties.items()):
        with stored.transaction() as transaction:
            transaction.set_properties(policy.properties)
    return stored


def partition_column(stored: "Table") -> str | None:
    """Return the column by whose values a table is partitioned; None where it is not."""
    fields = stored.spec().fields
    if not fields:
        return None
    names = [f"{field.transform}({stored.schema().find_column_name(field.source_id)})" for field in fields]
    return ", ".join(names).removeprefix("identity(").removesuffix(")")


def _create(catalog: "Catalog", name: str, declared: "Schema", *, column: str | None, policy: TablePolicy) -> "Table":
    from pyiceberg.exceptions import NamespaceAlreadyExistsError, TableAlreadyExistsError
    from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionField, PartitionSpec
    from pyiceberg.transforms import IdentityTransform
    from sqlalchemy.exc import IntegrityError

    spec = UNPARTITIONED_PARTITION_SPEC
    if column is not None:
        source = declared.find_field(column).field_id
        spec = PartitionSpec(PartitionField(source, 1000, IdentityTransform(), column))
    with suppress(NamespaceAlreadyExistsError, IntegrityError):  # another process was first
        catalog.create_namespace(RAW_NAMESPACE)
    with suppress(TableAlreadyExistsError, IntegrityError):
        catalog.create_table((RAW_NAMESPACE, name), declared, partition_spec=spec, properties=policy.properties)
    return catalog.load_table((RAW_NAMESPACE, name))


def _widen(name: str, stored: "Table", schema: "pa.Schema", declared: "Schema") -> None:
    import pyarrow as pa

    held = stored.schema()
    _refuse(name, held, declared)
    dropped = [
        path
        for path in held.column_names
        if path not in declared.column_names and held.find_field(path).required and _parent_is_declared(path, declared)
    ]
    if not dropped and not any(_differs(held, declared, path) for path in declared.column_names):
        return
    fields = [one if one.name in held.column_names else one.with_nullable(nullable=True) for one in schema]
    with stored.update_schema() as update:
        update.union_by_name(pa.schema(fields))
        for path in dropped:
            update.make_column_optional(path)


def _parent_is_declared(path: str, declared: "Schema") -> bool:
    parent = path.rpartition(".")[0]
    return not parent or parent in declared.column_names


def _differs(held: "Schema", declared: "Schema", path: str) -> bool:
    """Tell whether a declared field would change the table; a narrower type is written as the wider one."""
    if path not in held.column_names:
        return True
    old, new = held.find_field(path), declared.find_field(path)
    return (
        _widens(old.field_type, new.field_type)
        or (old.required and new.optional)
        or (new.doc is not None and new.doc != old.doc)
    )


def _refuse(name: str, held: "Schema", declared: "Schema") -> None:
    spelled = {path.lower(): path for path in held.column_names}
    for path in declared.column_names:
        known = spelled.setdefault(path.lower(), path)
        if known != path:
            raise PermanentFailure(
                f"{name} has the columns {known} and {path}, which SQL cannot tell apart; rename one of them"
            )
        if path not in held.column_names:
            continue
        old, new = held.find_type(path), declared.find_type(path)
        if not _compatible(old, new):
            raise PermanentFailure(
                f"{name}.{path} is {old} in the table but declared as {new}, which Iceberg cannot promote it to; give "
                f"the new column another name, or drop {RAW_NAMESPACE}.{name} and materialize it anew"
            )


def _compatible(held: "IcebergType", declared: "IcebergType") -> bool:
    if held.is_primitive and declared.is_primitive:
        return held == declared or _widens(held, declared) or _widens(declared, held)
    return type(held) is type(declared)


def _widens(one: "IcebergType", other: "IcebergType") -> bool:
    """Tell whether the Iceberg specification lets a type become another.

    PyIceberg's own `promote` also lets the scale of a decimal change, and strings and bytes become one another.
    """
    from pyiceberg.types import DecimalType, DoubleType, FloatType, IntegerType, LongType

    match one, other:
        case (IntegerType(), LongType()) | (FloatType(), DoubleType()):
            return True
        case DecimalType(), DecimalType():
            return one.scale == other.scale and one.precision < other.precision
    return False


def _declared(name: str, schema: "pa.Schema") -> "Schema":
    """Return declared columns as Iceberg types; their ids say nothing about any table's."""
    from pyiceberg.io.pyarrow import UnsupportedPyArrowTypeException, pyarrow_to_schema
    from pyiceberg.table.name_mapping import NameMapping

    numbers = count(1)
    mapping = NameMapping([_mapped(field.name, field.type, numbers) for field in schema])
    try:
        return pyarrow_to_schema(schema, mapping)
    except (UnsupportedPyArrowTypeException, TypeError, ValueError) as error:
        raise PermanentFailure(f"{name}: {error}; declare a type that Iceberg has") from error


def _mapped(name: str, kind: "pa.DataType", numbers: Iterator[int]) -> "MappedField":
    from pyiceberg.table.name_mapping import MappedField

    inner = [_mapped(child, child_kind, numbers) for child, child_kind in _children(kind)]
    return MappedField(field_id=next(numbers), names=[name], fields=inner)


def _children(kind: "pa.DataType") -> list[tuple[str, "pa.DataType"]]:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return [(field.name, field.type) for field in kind]
    if pa.types.is_map(kind):
        return [("key", kind.key_type), ("value", kind.item_type)]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return [("element", kind.value_type)]
    return []
