"""Which Arrow type a column of MySQL or MariaDB gets.

| MySQL | Arrow | |
|---|---|---|
| tinyint(1), boolean | bool | other than 0 and 1 is refused: select `column + 0` |
| tinyint, smallint, mediumint, also unsigned; int; year | int32 | |
| int unsigned, bigint | int64 | |
| bigint unsigned | decimal128(20, 0) | |
| decimal(p, s) | decimal128(p, s) | text where p is more than 38 |
| float | float | the six digits that the server sends; `CAST(column AS DOUBLE)` has all |
| double | double | |
| date | date32 | 0000-00-00 is null; 2024-00-15 is refused |
| datetime | timestamp[us] | as date |
| timestamp | timestamp[us, tz=UTC] | as date |
| time | string | from -838:59:59 to 838:59:59: no time of the day |
| char, varchar, text, enum, set, json, uuid, inet | string | as the server writes it |
| binary, varbinary, blob, geometry | binary | geometry with its SRID before the WKB |
| bit(n) | string | n digits 0 and 1 |

NULL is null. What is refused is an error that names the column: cast it to text in the query.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Protocol

from ol_core.databases.columns import UTC_TIMESTAMP, Column, arrow_type, decimal_type

if TYPE_CHECKING:
    import pyarrow as pa

_BINARY = 63
"""The character set of what has none."""

_DECIMAL = "decimal"


class Field(Protocol):
    """What the server says of a column.

    Attributes:
        name: Its name in the result.
        type_code: One of `pymysql.constants.FIELD_TYPE`.
        flags: Of `pymysql.constants.FLAG`.
        charsetnr: Number of its character set.
        length: Characters that its longest value takes.
        scale: Digits after the point.
    """

    name: str
    type_code: int
    flags: int
    charsetnr: int
    length: int
    scale: int


@cache
def _types() -> dict[int, tuple[str, str]]:
    """Return the types of signed and unsigned columns by the server's number; all others are text or bytes."""
    from pymysql.constants import FIELD_TYPE

    return {
        FIELD_TYPE.TINY: ("int32", "int32"),
        FIELD_TYPE.SHORT: ("int32", "int32"),
        FIELD_TYPE.INT24: ("int32", "int32"),
        FIELD_TYPE.YEAR: ("int32", "int32"),
        FIELD_TYPE.LONG: ("int32", "int64"),
        FIELD_TYPE.LONGLONG: ("int64", _DECIMAL),
        FIELD_TYPE.FLOAT: ("float32", "float32"),
        FIELD_TYPE.DOUBLE: ("float64", "float64"),
        FIELD_TYPE.DATE: ("date32", "date32"),
        FIELD_TYPE.DATETIME: ("timestamp[us]", "timestamp[us]"),
        FIELD_TYPE.TIMESTAMP: (UTC_TIMESTAMP, UTC_TIMESTAMP),
        FIELD_TYPE.DECIMAL: (_DECIMAL, _DECIMAL),
        FIELD_TYPE.NEWDECIMAL: (_DECIMAL, _DECIMAL),
    }


def columns_of(fields: Sequence[Field]) -> list[Column]:
    """Return the columns of a result, in its order; the driver hands over text and bytes, Arrow reads them."""
    return [_column(field) for field in fields]


def _column(field: Field) -> Column:
    import pyarrow as pa
    from pymysql.connections import TEXT_TYPES
    from pymysql.constants import FIELD_TYPE

    prepare: Callable[[Sequence[Any]], Sequence[Any]] | None = None
    types = [pa.string()]
    if field.type_code == FIELD_TYPE.BIT:
        prepare = partial(_digits, field.length)
    elif field.type_code in TEXT_TYPES:
        types = [pa.binary() if field.charsetnr == _BINARY else pa.string()]
    elif field.type_code in _types():
        types += _read_by_arrow(field)
        prepare = _without_zero_dates if pa.types.is_temporal(types[-1]) else None
    return Column(field.name, tuple(types), prepare)


def _read_by_arrow(field: Field) -> "list[pa.DataType]":
    """Return the types that text is cast to, one after the other."""
    from pymysql.constants import FIELD_TYPE, FLAG

    unsigned = bool(field.flags & FLAG.UNSIGNED)
    name = _types()[field.type_code][unsigned]
    if field.type_code == FIELD_TYPE.TINY and field.length == 1 and not unsigned:
        return [arrow_type("bool")]
    if field.type_code == FIELD_TYPE.LONGLONG and unsigned:
        return [decimal_type(20, 0)]
    if name == _DECIMAL:
        return [decimal_type(field.length - (field.scale > 0) - (not unsigned), field.scale)]
    if name == UTC_TIMESTAMP:  # Arrow takes no text for UTC that does not say so
        return [arrow_type("timestamp[us]"), arrow_type(name)]
    return [arrow_type(name)]


def _without_zero_dates(values: Sequence[str | None]) -> list[str | None]:
    return [None if value is None or value.startswith("0000-00-00") else value for value in values]


def _digits(count: int, values: Sequence[bytes | None]) -> list[str | None]:
    return [None if value is None else f"{int.from_bytes(value):0{count}b}" for value in values]
