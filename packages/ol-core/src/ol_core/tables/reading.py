"""What the data files of a table hold: their rows, and whether these are the rows of a stage."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ol_core.failures import PermanentFailure
from ol_core.tables.files import held_files
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
                yield _cast(batch, target)


def _is_plain(stored: "Table", task: "FileScanTask") -> bool:
    """Tell whether each column of a file is the column of the table that has its name."""
    import pyarrow.parquet as pq
    from pyiceberg.io.pyarrow import pyarrow_to_schema
    from pyiceberg.manifest import FileFormat

    if task.delete_files or task.file.file_format != FileFormat.PARQUET:
        return False
    with stored.io.new_input(task.file.file_path).open() as source:
        arrow = pq.read_schema(source)
    try:
        found = pyarrow_to_schema(arrow)
    except ValueError:  # a file without ids
        return False
    now = stored.schema()
    return all(
        path in now.column_names and now.find_field(path).field_id == found.find_field(path).field_id
        for path in found.column_names
    )


def _plain(stored: "Table", task: "FileScanTask", target: "pa.Schema") -> Iterator["pa.RecordBatch"]:
    import pyarrow.parquet as pq

    with stored.io.new_input(task.file.file_path).open() as source:
        file = pq.ParquetFile(source)
        size = sum(file.metadata.row_group(number).total_byte_size for number in range(file.metadata.num_row_groups))
        rows = max(1, _STREAMED_BYTES * file.metadata.num_rows // max(1, size))
        for batch in file.iter_batches(batch_size=min(rows, _STREAMED_ROWS)):
            yield _cast(batch, target)


def _cast(batch: "pa.RecordBatch", target: "pa.Schema") -> "pa.RecordBatch":
    import pyarrow as pa

    columns = [
        batch[field.name].cast(field.type) if field.name in batch.schema.names else pa.nulls(len(batch), field.type)
        for field in target
    ]
    return pa.RecordBatch.from_arrays(columns, schema=target)


def _has_structs_inside(schema: "pa.Schema") -> bool:
    return any(re.search("(list|map)<.*struct<", str(field.type)) for field in schema)


def holds(stored: "Table", tasks: "Sequence[FileScanTask]", stage: Stage, partition: str) -> bool:
    """Tell whether files hold the rows of a stage's partition.

    Memory is bounded: what is small is sorted and compared, what is large is compared batch by batch.
    """
    import pyarrow as pa

    exact = not any(task.delete_files for task in tasks)
    if exact and sum(task.file.record_count for task in tasks) != stage.rows[partition]:
        return False
    if stage.bytes[partition] <= ARROW_BYTES_SORTED:
        parts = [_as_declared(batch, stage.schema) for batch in stored_batches(stored, tasks)]
        held = [part for part in parts if part is not None]
        return len(held) == len(parts) and _sorted(pa.concat_tables(held)).equals(_sorted(stage.table(partition)))
    held_rows = (_as_declared(batch, stage.schema) for batch in stored_batches(stored, tasks))
    return _same_stream(held_rows, stage.batches(partition))


def _as_declared(batch: "pa.RecordBatch", schema: "pa.Schema") -> "pa.Table | None":
    """Give stored rows the declared columns; None where others hold values, which new rows would not."""
    import pyarrow as pa

    others = set(batch.schema.names) - set(schema.names)
    if not set(schema.names) <= set(batch.schema.names) or any(batch[one].null_count < len(batch) for one in others):
        return None
    return pa.Table.from_batches([batch]).select(schema.names).cast(schema)


def _sorted(table: "pa.Table") -> "pa.Table":
    import pyarrow as pa

    flat = [
        field.name
        for field in table.schema
        if not pa.types.is_nested(field.type) and not isinstance(field.type, pa.BaseExtensionType)
    ]
    if flat:
        table = table.sort_by([(name, "ascending") for name in flat])
    return _by_bits(table.combine_chunks())


def _by_bits(table: "pa.Table") -> "pa.Table":
    """Give floats as integers of the same bits: a float that is not a number equals nothing, not even itself."""
    import pyarrow as pa

    for position, field in enumerate(table.schema):
        if pa.types.is_floating(field.type):
            bits = {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[field.type.bit_width]
            chunks = [chunk.view(bits) for chunk in table.column(position).chunks]
            table = table.set_column(position, field.name, pa.chunked_array(chunks, bits))
    return table


def _same_stream(held: Iterator["pa.Table | None"], new: Iterator["pa.RecordBatch"]) -> bool:
    """Compare two streams of equally many rows."""
    import pyarrow as pa

    one = next(held, None)
    for batch in new:
        other = pa.Table.from_batches([batch])
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
