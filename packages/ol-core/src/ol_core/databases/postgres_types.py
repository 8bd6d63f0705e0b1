"""Which Arrow type a column of PostgreSQL gets.

| PostgreSQL | Arrow | |
|---|---|---|
| boolean | bool | |
| smallint, integer | int32 | |
| bigint, oid | int64 | |
| real, double precision | float, double | exact |
| numeric(p, s) | decimal128(p, s) | NaN is refused |
| numeric, or more than 38 digits | string | as the server writes it |
| date | date32 | infinity, and years before 1 or after 9999, are refused |
| time | time64[us] | 24:00 is refused |
| timestamp | timestamp[us] | as date |
| timestamptz | timestamp[us, tz=UTC] | as date |
| bytea | binary | |
| an array of these, or of a type below that comes with the server | list | of one dimension; others are refused |
| char, varchar, text, uuid, json, jsonb, xml, inet, timetz, money, bit, ranges | string | as the server writes it |
| interval | string | as `1 day 02:00:00` |
| enum, composite, whatever an extension brings, and arrays of them | string | as the server writes it |
| a domain | that of its base type | |

NULL is null. What is refused is an error that names the column: cast it to text in the query.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ol_core.databases.columns import UTC_TIMESTAMP, Column, arrow_type, decimal_type

if TYPE_CHECKING:
    import psycopg
    import pyarrow as pa

_TYPES = {
    "bool": "bool",
    "int2": "int32",
    "int4": "int32",
    "int8": "int64",
    "oid": "int64",
    "float4": "float32",
    "float8": "float64",
    "date": "date32",
    "time": "time64[us]",
    "timestamp": "timestamp[us]",
    "timestamptz": UTC_TIMESTAMP,
    "bytea": "binary",
}
"""By the server's own name of a type; all others are text."""


def load_the_rest_as_text(connection: "psycopg.Connection") -> None:
    """Keep psycopg from making objects of what becomes text, or what Arrow reads from text: numbers, JSON, ranges."""
    from psycopg.types.string import TextLoader

    for info in connection.adapters.types:
        if info.name not in _TYPES:
            connection.adapters.register_loader(info.oid, TextLoader)


def columns_of(description: "Sequence[psycopg.Column]", types: "psycopg.types.TypesRegistry") -> list[Column]:
    """Return the columns of a result, in its order."""
    return [Column(column.name, _types_of(column, types)) for column in description]


def _types_of(column: "psycopg.Column", types: "psycopg.types.TypesRegistry") -> "tuple[pa.DataType, ...]":
    import pyarrow as pa

    info = types.get(column.type_code)
    if info is None:
        return (pa.string(),)
    if info.name == "numeric":
        chain = [pa.string(), decimal_type(column.precision, column.scale)]
    else:
        chain = [arrow_type(_TYPES.get(info.name, "string"))]
    return tuple(pa.list_(kind) if column.type_code == info.array_oid else kind for kind in chain)
