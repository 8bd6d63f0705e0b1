"""The data files of a table: which of them hold a partition, and new ones.

A file is named after the version of the content that it holds, so that the version of a partition is known from the
table's manifests alone.
"""

import re
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ol_core.failures import PermanentFailure
from ol_core.tables.commits import joint_version
from ol_core.tables.schemas import partition_column
from ol_core.tables.staging import WHOLE_TABLE

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.manifest import DataFile
    from pyiceberg.partitioning import PartitionKey
    from pyiceberg.table import FileScanTask, Table

ARROW_BYTES_A_FILE = 512 << 20
ARROW_BYTES_A_ROW_GROUP = 32 << 20
"""What is in memory at once while a file is written."""

_NAME = re.compile(r"/([0-9a-f]{32})-[0-9a-f]{8}-\d{5}\.parquet$")

Held = Mapping[str, "Sequence[FileScanTask]"]
"""The files of each partition that has any."""


_PRUNED = 200
"""For more partitions than so many, PyIceberg looks at every manifest anyway, and at every name for every file."""


def of_partitions(column: str | None, partitions: Collection[str] | None) -> "BooleanExpression":
    """Return a filter for the files of some partitions, which the files of others may pass as well; None for all."""
    from pyiceberg.expressions import AlwaysTrue, In

    if column is None or partitions is None or len(partitions) > _PRUNED:
        return AlwaysTrue()
    return In(column, set(partitions))  # type: ignore[misc,call-arg]


def held_files(stored: "Table", partitions: Collection[str] | None = None) -> Held:
    """Find the files of some partitions, or of all, without reading one.

    Raises:
        PermanentFailure: the table was partitioned differently when a file was written, which may hold rows of others.
    """
    column = partition_column(stored)
    asked = None if partitions is None else set(partitions)
    found: dict[str, list[FileScanTask]] = defaultdict(list)
    for task in stored.scan(row_filter=of_partitions(column, asked)).plan_files():
        if task.file.spec_id != stored.spec().spec_id:
            raise PermanentFailure(
                f"{task.file.file_path} was written when {'.'.join(stored.name())} was partitioned differently; "
                "rewrite the table's old files with its present partitions first"
            )
        partition = WHOLE_TABLE if column is None else task.file.partition[0]
        if asked is None or partition in asked:
            found[partition].append(task)
    return {name: sorted(tasks, key=lambda task: task.file.file_path) for name, tasks in found.items()}


def held_version(tasks: "Sequence[FileScanTask]") -> str:
    """Return the version of what some files hold together."""
    named = [(_NAME.search(task.file.file_path), task.file.file_path) for task in tasks]
    return joint_version([match[1] if match else path for match, path in named])


def write_files(stored: "Table", partition: str, batches: Iterable["pa.RecordBatch"], version: str) -> "list[DataFile]":
    """Write rows of a partition as files of the table, which no snapshot needs yet."""
    from pyiceberg.io.pyarrow import ParquetFormatWriter, schema_to_pyarrow
    from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
    from pyiceberg.schema import sanitize_column_names
    from pyiceberg.typedef import Record

    schema = sanitize_column_names(stored.schema())
    columns, target = schema_to_pyarrow(stored.schema()), schema_to_pyarrow(schema)
    key = _partition_key(stored, partition)
    prefix = f"{version}-{uuid.uuid4().hex[:8]}"
    written = []
    rows_now = (projected(batch, columns, target) for batch in batches)
    for number, groups in enumerate(_by_file(_row_groups(rows_now))):
        # Without a folder for each partition: their names may be longer than a file system takes.
        path = stored.location_provider().new_data_location(f"{prefix}-{number:05}.parquet")
        output = stored.io.new_output(path)
        writer = ParquetFormatWriter(output, schema, stored.properties)
        with writer:
            for rows in groups:
                writer.write(rows)
        written.append(
            DataFile.from_args(
                content=DataFileContent.DATA,
                file_path=path,
                file_format=FileFormat.PARQUET,
                partition=key.partition if key else Record(),
                file_size_in_bytes=len(output),
                sort_order_id=None,
                spec_id=stored.spec().spec_id,
                equality_ids=None,
                key_metadata=None,
                **writer.result().to_serialized_dict(),
            )
        )
    return written


def _partition_key(stored: "Table", partition: str) -> "PartitionKey | None":
    from pyiceberg.partitioning import PartitionFieldValue, PartitionKey

    spec = stored.spec()
    if spec.is_unpartitioned():
        return None
    return PartitionKey([PartitionFieldValue(spec.fields[0], partition)], spec, stored.schema())


def projected(batch: "pa.RecordBatch", columns: "pa.Schema", target: "pa.Schema") -> "pa.RecordBatch":
    """Give rows some columns, null where they lack them, by the names of `target`, which is the same but for names.

    Parquet files spell names without blanks and signs, which a cast would take for those of other fields.
    """
    import pyarrow as pa

    arrays = [
        batch[one.name].cast(one.type) if one.name in batch.schema.names else pa.nulls(len(batch), one.type)
        for one in columns
    ]
    spelled = [
        one if one.type == field.type else one.view(field.type) for one, field in zip(arrays, target, strict=True)
    ]
    return pa.RecordBatch.from_arrays(spelled, schema=target)


def _row_groups(batches: Iterable["pa.RecordBatch"]) -> Iterator["pa.Table"]:
    import pyarrow as pa

    some: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        some.append(batch)
        size += batch.nbytes
        if size >= ARROW_BYTES_A_ROW_GROUP:
            yield pa.Table.from_batches(some)
            some, size = [], 0
    if some:
        yield pa.Table.from_batches(some)


def _by_file(groups: Iterator["pa.Table"]) -> Iterator[Iterator["pa.Table"]]:
    """Split row groups among files of a bounded size; each part is read to its end before the next is asked for."""
    for first in groups:

        def part(first: "pa.Table" = first) -> Iterator["pa.Table"]:
            yield first
            size = first.nbytes
            while size < ARROW_BYTES_A_FILE and (rows := next(groups, None)) is not None:
                size += rows.nbytes
                yield rows

        yield part()
