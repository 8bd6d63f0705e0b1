"""What the data files of a table hold: their rows, and whether these are the rows of a stage."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ol_core.failures import PermanentFailure
from ol_core.tables.files import held_files, projected
from ol_core.tables.staging import Stage

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.table import FileScanTask, Table

ARROW_BYTES_SORTED = 16 << 20
"""A partition up to this size is compared in whatever order its rows are, a larger one in the order they came in."""

_STREAMED_BYTES, _STREAMED_ROWS = 1 << 20, 1 << 16


def rows_of(stored: "Table", partitions: Collection[str] | None = None) -> "pa.Table":
    """Return the rows of some partitions, or of all, at once."""
    import pyarrow as pa
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    tasks = [task for tasks in held_files(stored, partitions).values() for task in tasks]
    schema = schema_to_pyarrow(stored.schema(), include_field_ids=False)
    return pa.Table.from_batches(stored_batches(stored, tasks), schema=schema)


def stored_batches(stored: "Table", tasks: "Iterable[FileScanTask]") -> Iterator["pa.RecordBatch"]:
    """Yield the rows of files as the table's columns are now, a few MB at a time.

    PyIceberg reads what is not simply a file of Parquet with names and ids as the table has them: files of before a
    column was renamed, and files with deletions; of these, one is in memory at once.

    Raises:
        PermanentFailure: PyIceberg would have to read structs in lists or maps, where it takes null for empty.
    """
    from pyiceberg.expressions import AlwaysTrue
    from pyiceberg.io.pyarrow import ArrowScan, schema_to_pyarrow

    target = schema_to_pyarrow(stored.schema(), include_field_ids=False)
    scan = ArrowScan(stored.metadata, stored.io, stored.schema(), AlwaysTrue())
    for task in tasks:
        if _is_plain(stored, task):
            yield from _plain(stored, task, target)
        elif _has_structs_inside(target):
            raise PermanentFailure(
                f"{task.file.file_path} cannot be read as {'.'.join(stored.name())} is now: "
                "it has lists of structs, and deletions or other column ids; have the engine that wrote it rewrite it"
            )
        else:
            for batch in scan.to_record_batches([task]):
                yield projected(batch, target, target)


def _is_plain(stored: "Table", task: "FileScanTask") -> bool:
    """Tell whether each column of a file is the column of the table that has its name, as files spell it."""
    import pyarrow.parquet as pq
    from pyiceberg.io.pyarrow import pyarrow_to_schema
    from pyiceberg.manifest import FileFormat
    from pyiceberg.schema import sanitize_column_names

    if task.delete_files or task.file.file_format != FileFormat.PARQUET:
        return False
    with stored.io.new_input(task.file.file_path).open() as source:
        arrow = pq.read_schema(source)
    try:
        found = pyarrow_to_schema(arrow)
    except ValueError:  # a file without ids
        return False
    now = sanitize_column_names(stored.schema())
    return all(
        path in now.column_names and now.find_field(path).field_id == found.find_field(path).field_id
        for path in found.column_names
    )


def _plain(stored: "Table", task: "FileScanTask", target: "pa.Schema") -> Iterator["pa.RecordBatch"]:
    import pyarrow.parquet as pq
    from pyiceberg.io.pyarrow import schema_to_pyarrow
    from pyiceberg.schema import sanitize_column_names

    columns = schema_to_pyarrow(sanitize_column_names(stored.schema()), include_field_ids=False)
    with stored.io.new_input(task.file.file_path).open() as source:
        file = pq.ParquetFile(source)
        size = sum(file.metadata.row_group(number).total_byte_size for number in range(file.metadata.num_row_groups))
        rows = max(1, _STREAMED_BYTES * file.metadata.num_rows // max(1, size))
        for batch in file.iter_batches(batch_size=min(rows, _STREAMED_ROWS)):
            yield projected(batch, columns, target)


def _has_structs_inside(schema: "pa.Schema") -> bool:
    return any(re.search("(list|map)<.*struct<", str(field.type)) for field in schema)


def holds(stored: "Table", tasks: "Sequence[FileScanTask]", stage: Stage, partition: str) -> bool:
    """Tell whether files hold the rows of a stage's partition.

    They are compared as they would be stored, so that a narrower declaration compares as what it is written as. Memory
    is bounded: what is small is sorted and compared, what is large is compared batch by batch.
    """
    import pyarrow as pa
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    exact = not any(task.delete_files for task in tasks)
    if exact and sum(task.file.record_count for task in tasks) != stage.rows[partition]:
        return False
    target = schema_to_pyarrow(stored.schema(), include_field_ids=False)
    held = stored_batches(stored, tasks)
    new = (projected(batch, target, target) for batch in stage.batches(partition))
    if stage.bytes[partition] <= ARROW_BYTES_SORTED:
        return _sorted(pa.Table.from_batches(held)) == _sorted(pa.Table.from_batches(new))
    return _same_stream(held, new)


def _sorted(table: "pa.Table") -> "list[pa.RecordBatch]":
    import pyarrow as pa

    flat = [
        field.name
        for field in table.schema
        if not pa.types.is_nested(field.type) and not isinstance(field.type, pa.BaseExtensionType)
    ]
    if flat:
        table = table.sort_by([(name, "ascending") for name in flat])
    return [_by_bits(batch) for batch in table.combine_chunks().to_batches()]


def _by_bits(rows: "pa.RecordBatch") -> "pa.RecordBatch":
    """Give floats as integers of the same bits: a float that is not a number equals nothing, not even itself."""
    import pyarrow as pa

    kinds = [_bits(field.type) for field in rows.schema]
    columns = [one if one.type == kind else one.view(kind) for one, kind in zip(rows.columns, kinds, strict=True)]
    return pa.RecordBatch.from_arrays(columns, names=rows.schema.names)


def _bits(kind: "pa.DataType") -> "pa.DataType":
    import pyarrow as pa

    def inside(field: "pa.Field") -> "pa.Field":
        return field.with_type(_bits(field.type))

    if pa.types.is_floating(kind):
        return {32: pa.int32(), 64: pa.int64()}[kind.bit_width]
    if pa.types.is_struct(kind):
        return pa.struct([inside(field) for field in kind])
    if pa.types.is_large_list(kind):
        return pa.large_list(inside(kind.value_field))
    return pa.map_(inside(kind.key_field), inside(kind.item_field)) if pa.types.is_map(kind) else kind


def _same_stream(held: Iterator["pa.RecordBatch"], new: Iterator["pa.RecordBatch"]) -> bool:
    """Compare two streams of equally many rows."""
    one = next(held, None)
    for batch in new:
        other = batch
        while len(other):
            if one is None:
                return False
            rows = min(len(one), len(other))
            if not _by_bits(one.slice(0, rows)).equals(_by_bits(other.slice(0, rows))):
                return False
            one, other = one.slice(rows), other.slice(rows)
            if not len(one):
                one = next(held, None)
    return True
