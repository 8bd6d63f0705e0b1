"""Rows on their way into a table: checked, counted and kept in local files until they are committed.

The commit may have to be tried again, and what the table holds already need not be written, so rows are read from
their source once, into Arrow files of a temporary folder. Batch by batch: memory does not grow with the rows.
"""

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ol_core.failures import PermanentFailure, TransientFailure

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.schema import Schema

WHOLE_TABLE = ""
"""Stands for the one partition of a table that has none."""

_SHOWN = 3

_GATHERED_BYTES = 4 << 20
"""What is in memory before it is written: a file for each of the partitions in it."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Rows of some partitions.

    Attributes:
        declared: Their columns.
        column: Column of the partitions; None for a table that has none.
        partitions: The partitions that are replaced, each once; some may have no row.
        rows: Rows of each partition.
        bytes: Bytes of each partition as Arrow holds them.
    """

    declared: "Schema"
    column: str | None
    partitions: tuple[str, ...]
    rows: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    _files: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))

    def batches(self, partition: str) -> Iterator["pa.RecordBatch"]:
        """Yield the rows of a partition in the order in which they came."""
        import pyarrow as pa

        for file in self._files.get(partition, ()):
            with pa.OSFile(str(file)) as source, pa.ipc.open_stream(source) as batches:
                yield from batches


@contextmanager
def staged(name: str, stage: Stage, batches: Iterable["pa.Table | pa.RecordBatch"]) -> Iterator[Stage]:
    """Read all rows of a table to their end, and give the stage that holds them.

    Raises:
        PermanentFailure: a batch does not have the declared columns, or holds rows of another partition.
        TransientFailure: the disk is full.
    """
    import pyarrow as pa
    from pyiceberg.io.pyarrow import schema_to_pyarrow
    from pyiceberg.types import StringType

    kinds, column = {one.name: one.field_type for one in stage.declared.fields}, stage.column
    if column is not None and not isinstance(kinds.get(column), StringType):
        found = kinds.get(column, "missing")
        raise PermanentFailure(f"{name}: the partition column {column} must be declared as string; it is {found}")
    schema = schema_to_pyarrow(stage.declared, include_field_ids=False)
    with tempfile.TemporaryDirectory(prefix="ol-rows-") as folder:
        spool = _Spool(name, stage, Path(folder))
        for batch in batches:
            table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
            if len(table):
                spool.add(_declared(name, table, schema))
        spool.close()
        yield stage


class _Spool:
    """Writes the files of a stage: rows are gathered up to a few MB, then each partition in them gets a stretch."""

    def __init__(self, name: str, stage: Stage, folder: Path) -> None:
        self._name, self._stage, self._folder = name, stage, folder
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None
        self._partition: str | None = None
        self._number = 0
        self._gathered: dict[str, list[pa.Table]] = defaultdict(list)
        self._bytes = 0

    def close(self) -> None:
        self._write_gathered()
        self._close_file()

    def _close_file(self) -> None:
        if self._writer is not None:
            with self._kept():
                self._writer.close()

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TransientFailure(
                f"{self._name}: cannot keep rows in {self._folder.parent} until they are committed ({error}); "
                "make room there, or set TMPDIR to a folder that has it"
            ) from error

    def add(self, table: "pa.Table") -> None:
        import pyarrow.compute as pc

        column = self._stage.column
        if column is None:
            self._gather(WHOLE_TABLE, table, table.get_total_buffer_size())
            return
        given = pc.unique(table[column]).to_pylist()
        strangers = sorted(set(given) - set(self._stage.partitions), key=str)
        if strangers:
            shown = ", ".join(self._stage.partitions[:_SHOWN]) + (
                ", ..." if len(self._stage.partitions) > _SHOWN else ""
            )
            raise PermanentFailure(
                f"{self._name}: rows of {strangers[0]!r} are not of the partitions that are replaced ({shown})"
            )
        if len(given) == 1:
            self._gather(given[0], table, table.get_total_buffer_size())
            return
        ordered = table.take(pc.sort_indices(table[column]))
        start = 0
        for counted in pc.value_counts(ordered[column]).to_pylist():
            rows = ordered.slice(start, counted["counts"])
            self._gather(counted["values"], rows, rows.nbytes)
            start += len(rows)

    def _gather(self, partition: str, rows: "pa.Table", size: int) -> None:
        """Keep rows, and what is in memory for them: with a slice, all that it was cut from."""
        self._stage.rows[partition] += len(rows)
        self._stage.bytes[partition] += rows.nbytes
        if self._bytes + size > _GATHERED_BYTES:
            self._write_gathered()
        self._gathered[partition].append(rows)
        self._bytes += size
        if size > _GATHERED_BYTES:
            self._write_gathered()

    def _write_gathered(self) -> None:
        import pyarrow as pa

        for partition, parts in self._gathered.items():
            self._write(partition, parts[0] if len(parts) == 1 else pa.concat_tables(parts).combine_chunks())
        self._gathered.clear()
        self._bytes = 0

    def _write(self, partition: str, rows: "pa.Table") -> None:
        import pyarrow as pa

        with self._kept():
            if self._writer is None or partition != self._partition:
                self._close_file()
                self._number += 1
                file = self._folder / f"{self._number}.arrow"
                options = pa.ipc.IpcWriteOptions(compression="lz4")
                self._writer = pa.ipc.new_stream(str(file), rows.schema, options=options)
                self._stage._files[partition].append(file)  # noqa: SLF001 - of this module
                self._partition = partition
            self._writer.write_table(rows)


def _declared(name: str, table: "pa.Table", schema: "pa.Schema") -> "pa.Table":
    import pyarrow as pa

    declared, found = Counter(schema.names), Counter(table.column_names)
    missing, unknown = list(declared - found), list(found - declared)
    if missing or unknown:
        raise PermanentFailure(
            f"{name}: the rows lack the declared columns {missing or '-'} and have others {unknown or '-'}"
        )
    nulls = [one.name for one in schema if not one.nullable and table[one.name].null_count]
    if nulls:
        raise PermanentFailure(f"{name}: {', '.join(nulls)} is declared as required, but rows hold null there")
    try:
        cast = table.select(schema.names).cast(schema)
        cast.validate()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise PermanentFailure(f"{name}: the rows do not fit the declared columns: {error}") from error
    return cast
