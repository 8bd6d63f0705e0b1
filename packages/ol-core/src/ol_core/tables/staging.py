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

WHOLE_TABLE = ""
"""Stands for the one partition of a table that has none."""

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Stage:
    """Rows of some partitions.

    Attributes:
        schema: Their columns.
        column: Column of the partitions; None for a table that has none.
        partitions: The partitions that are replaced, each once; some may have no row.
        rows: Rows of each partition.
        bytes: Bytes of each partition as Arrow holds them.
    """

    schema: "pa.Schema"
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

    def table(self, partition: str) -> "pa.Table":
        """Return the rows of a partition, all at once."""
        import pyarrow as pa

        return pa.Table.from_batches(self.batches(partition), schema=self.schema)


@contextmanager
def staged(name: str, stage: Stage, batches: Iterable["pa.Table | pa.RecordBatch"]) -> Iterator[Stage]:
    """Read all rows of a table to their end, and give the stage that holds them.

    Raises:
        PermanentFailure: a batch does not have the declared columns, or holds rows of another partition.
        TransientFailure: the disk is full.
    """
    import pyarrow as pa

    schema, column = stage.schema, stage.column
    if column is not None and (column not in schema.names or not pa.types.is_string(schema.field(column).type)):
        found = schema.field(column).type if column in schema.names else "missing"
        raise PermanentFailure(f"{name}: the partition column {column} must be declared as string; it is {found}")
    with tempfile.TemporaryDirectory(prefix="ol-rows-") as folder:
        spool = _Spool(name, stage, Path(folder))
        for batch in batches:
            table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
            if len(table):
                spool.add(_declared(name, table, schema))
        spool.close()
        yield stage


class _Spool:
    """Writes the files of a stage: one for each stretch of rows of the same partition."""

    def __init__(self, name: str, stage: Stage, folder: Path) -> None:
        self._name, self._stage, self._folder = name, stage, folder
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None
        self._partition: str | None = None
        self._number = 0

    def close(self) -> None:
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
            self._write(WHOLE_TABLE, table)
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
        for partition in given:
            some = table if len(given) == 1 else table.filter(pc.equal(table[column], partition))
            self._write(partition, some)

    def _write(self, partition: str, rows: "pa.Table") -> None:
        import pyarrow as pa

        with self._kept():
            if self._writer is None or partition != self._partition:
                self.close()
                self._number += 1
                file = self._folder / f"{self._number}.arrow"
                options = pa.ipc.IpcWriteOptions(compression="lz4")
                self._writer = pa.ipc.new_stream(str(file), self._stage.schema, options=options)
                self._stage._files[partition].append(file)  # noqa: SLF001 - of this module
                self._partition = partition
            self._writer.write_table(rows)
        self._stage.rows[partition] += len(rows)
        self._stage.bytes[partition] += rows.nbytes


def _declared(name: str, table: "pa.Table", schema: "pa.Schema") -> "pa.Table":
    import pyarrow as pa

    missing = [column for column in schema.names if column not in table.column_names]
    unknown = [column for column in table.column_names if column not in schema.names]
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
