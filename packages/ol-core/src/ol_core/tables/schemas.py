"""The columns of a table: it is created as declared, and changed only as Iceberg can without rewriting rows.

Added columns hold null in older rows. Types widen (int to long, float to double, more digits of a decimal); any other
change is refused. A column that the declaration no longer has is kept, with null in new rows: dropping it would drop
data, which is a person's decision. A renamed column is therefore a new one beside the old. Columns may become
nullable, never required. All of it holds for fields of structs, lists and maps as well.

Rows take the types that Iceberg has: a dictionary is written as what it holds, uint32 and uint64 as long, smaller
integers as int, float16 as float, seconds and milliseconds as microseconds. A value that does not fit is refused.
"""

from collections.abc import Collection, Iterable, Iterator
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
    from pyiceberg.table import Table, Transaction
    from pyiceberg.types import IcebergType, NestedField


_TYPES = (
    "bool, integers, floats, decimal128, string, binary (also of a fixed size), date32, time64 of us, timestamp of s, "
    "ms or us with UTC or without, uuid, and dictionaries, structs, lists and maps of these"
)


def open_table(
    catalog: "Catalog", name: str, declared: "Schema", *, column: str | None, policy: TablePolicy
) -> "Table":
    """Return a table; create it where it is missing, without rows, which a writer that is killed then leaves.

    Args:
        catalog: The catalog.
        name: Name without the namespace.
        declared: Declared columns.
        column: Column whose values are the partitions; None for a table that has none.
        policy: Declared policy.

    Raises:
        PermanentFailure: the table has other partitions.
    """
    from pyiceberg.exceptions import NoSuchTableError

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


def widen(transaction: "Transaction", name: str, declared: "Schema", policy: TablePolicy) -> None:
    """Let a transaction widen a table to the declared columns, and state its policy, where the table differs.

    Raises:
        PermanentFailure: a column changed to a type that Iceberg cannot promote it to.
    """
    from pyiceberg.schema import Schema

    held, properties = transaction.table_metadata.schema(), transaction.table_metadata.properties
    _refuse(name, held, declared)
    if any(properties.get(key) != value for key, value in policy.properties.items()):
        transaction.set_properties(policy.properties)
    dropped = [
        path
        for path in held.column_names
        if path not in declared.column_names and held.find_field(path).required and _parent_is_declared(path, declared)
    ]
    if not dropped and not any(_differs(held, declared, path) for path in declared.column_names):
        return
    known = {declared.find_field(path).field_id for path in declared.column_names if path in held.column_names}
    with transaction.update_schema() as update:
        update.union_by_name(Schema(*_added(declared.fields, known)))
        for path in dropped:
            update.make_column_optional(path)


def _added(fields: "Iterable[NestedField]", known: Collection[int]) -> "list[NestedField]":
    """Let fields that a table lacks hold null, as its older rows do."""
    from pyiceberg.types import NestedField

    return [
        NestedField(one.field_id, one.name, _inside(one.field_type, known), one.required, one.doc)
        if one.field_id in known
        else NestedField(one.field_id, one.name, one.field_type, required=False, doc=one.doc)
        for one in fields
    ]


def _inside(kind: "IcebergType", known: Collection[int]) -> "IcebergType":
    from pyiceberg.types import ListType, MapType, StructType

    match kind:
        case StructType():
            return StructType(*_added(kind.fields, known))
        case ListType():
            return ListType(kind.element_id, _inside(kind.element_type, known), kind.element_required)
        case MapType():
            value = _inside(kind.value_type, known)
            return MapType(kind.key_id, kind.key_type, kind.value_id, value, kind.value_required)
    return kind


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
    _tell_apart(name, dict.fromkeys([*held.column_names, *declared.column_names]))
    for path in declared.column_names:
        if path not in held.column_names:
            continue
        old, new = held.find_type(path), declared.find_type(path)
        if not _compatible(old, new):
            raise PermanentFailure(
                f"{name}.{path} is {old} in the table but declared as {new}, which Iceberg cannot promote it to; give "
                f"the new column another name, or drop {RAW_NAMESPACE}.{name} and materialize it anew"
            )


def _tell_apart(name: str, paths: Iterable[str]) -> None:
    spelled: dict[str, str] = {}
    for path in paths:
        known = spelled.get(path.lower())
        if known is not None:
            raise PermanentFailure(
                f"{name} has the columns {known} and {path}, which SQL cannot tell apart; rename one of them"
            )
        spelled[path.lower()] = path


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


def declared_columns(name: str, schema: "pa.Schema") -> "Schema":
    """Return declared columns as Iceberg has them; their ids say nothing about any table's.

    Raises:
        PermanentFailure: Iceberg lacks a type, a column has no name, or SQL cannot tell two apart.
    """
    import pyarrow as pa
    from pyiceberg.exceptions import ValidationError
    from pyiceberg.io.pyarrow import UnsupportedPyArrowTypeException, pyarrow_to_schema
    from pyiceberg.schema import Schema

    _tell_apart(name, schema.names)
    numbers = count(1)
    try:
        declared = pyarrow_to_schema(pa.schema(_all_numbered(schema, numbers)))
        Schema.model_validate_json(declared.model_dump_json())  # what cannot be read back spoils the catalog's list
    except (UnsupportedPyArrowTypeException, ValidationError, TypeError, ValueError) as error:
        raise PermanentFailure(f"{name}: {error}; declare a type that Iceberg has: {_TYPES}") from error
    _tell_apart(name, declared.column_names)
    return declared


def _all_numbered(fields: "Iterable[pa.Field]", numbers: Iterator[int]) -> "list[pa.Field]":
    """Number the fields of a table or of a struct."""
    numbered = [_numbered(one, numbers) for one in fields]
    if not all(one.name for one in numbered):
        raise ValueError("a column or a field has no name; give it one")
    return numbered


def _numbered(field: "pa.Field", numbers: Iterator[int]) -> "pa.Field":
    """Give a declared field and those inside it an id, as files have it, and a type as wide for PyIceberg."""
    import pyarrow as pa

    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_uint32(kind):
        kind = pa.int64()
    elif pa.types.is_struct(kind):
        if not kind.num_fields:
            raise ValueError(f"Column '{field.name}' has an unsupported type: a struct of no fields")
        kind = pa.struct(_all_numbered(kind, numbers))
    elif pa.types.is_map(kind):
        kind = pa.map_(_numbered(kind.key_field, numbers), _numbered(kind.item_field, numbers))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = pa.list_(_numbered(kind.value_field, numbers))
    return field.with_type(kind).with_metadata({**(field.metadata or {}), "PARQUET:field_id": str(next(numbers))})
