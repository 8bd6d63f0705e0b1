"""Columns of a result, and the Arrow arrays that their values become.

All types are such as Iceberg holds: integers of 32 and 64 bits, decimals of up to 38 digits, microseconds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any

from ol_core.failures import PermanentFailure

if TYPE_CHECKING:
    import pyarrow as pa

UTC_TIMESTAMP = "timestamp[us, tz=UTC]"

_DECIMAL_DIGITS = 38


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a result.

    Attributes:
        name: Its name in the result.
        types: What the driver hands over, then each type that Arrow casts it to; the last is the column's.
        prepare: What is done to the driver's values first.
    """

    name: str
    types: "tuple[pa.DataType, ...]"
    prepare: Callable[[Sequence[Any]], Sequence[Any]] | None = None

    def array(self, values: Sequence[Any]) -> "pa.Array":
        """Return the values as the column's type.

        Raises:
            PermanentFailure: a value does not fit it.
        """
        import pyarrow as pa

        try:
            array = pa.array(self.prepare(values) if self.prepare else values, self.types[0])
            for kind in self.types[1:]:
                array = array.cast(kind)
        except (pa.ArrowNotImplementedError, ValueError, TypeError, OverflowError) as error:
            raise PermanentFailure(
                f"column {self.name} holds a value that no {self.types[-1]} holds ({error}); "
                f"cast it in the query to one that fits, such as text"
            ) from error
        return array


def arrow_type(name: str) -> "pa.DataType":
    """Return the Arrow type of a name, as Arrow prints it."""
    import pyarrow as pa

    return pa.timestamp("us", "UTC") if name == UTC_TIMESTAMP else pa.type_for_alias(name)


def decimal_type(precision: int | None, scale: int | None) -> "pa.DataType":
    """Return the decimal that holds every digit, or text where none does: too many digits, or any number of them."""
    import pyarrow as pa

    if precision is None or scale is None or not 0 <= scale <= precision <= _DECIMAL_DIGITS:
        return pa.string()
    return pa.decimal128(precision, scale)


def record_batch(columns: Sequence[Column], rows: Sequence[tuple[Any, ...]]) -> "pa.RecordBatch":
    """Return rows of a result as a batch.

    Raises:
        PermanentFailure: as `Column.array`.
    """
    import pyarrow as pa

    values = zip(*rows, strict=True) if rows else repeat(())
    arrays = [column.array(given) for column, given in zip(columns, values, strict=bool(rows))]
    return pa.RecordBatch.from_arrays(arrays, names=[column.name for column in columns])


def schema_of(columns: Sequence[Column]) -> "pa.Schema":
    """Return the schema of a result.

    Raises:
        PermanentFailure: there is no column, or two have one name.
    """
    import pyarrow as pa

    if not columns:
        raise PermanentFailure("the statement has no rows to stream; `execute` it")
    names = [column.name for column in columns]
    if doubles := sorted({name for name in names if names.count(name) > 1}):
        raise PermanentFailure(f"the result has more than one column {', '.join(doubles)}; name them apart with AS")
    return pa.schema([(column.name, column.types[-1]) for column in columns])
