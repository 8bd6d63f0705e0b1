"""Rows on their way into a table: checked, counted and kept in local files until they are committed.

The commit may have to be tried again, and what the table holds already need not be written, so rows are read from
their source once, into Parquet files of a temporary folder.
"""

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ol_core.failures import PermanentFailure
from ol_core.tables.commits import PARTITION_COLUMN

if TYPE_CHECKING:
    import pyarrow as pa

WHOLE_TABLE = ""
"""Stands for the one partition of a table that has none."""


@dataclass
class Stage:
    """Rows of some partitions.

    Attributes:
        schema: Their columns.
        partitions: The partitions that are replaced; some may have no row.
        rows: Rows of each partition.
    """

    schema: "pa.Schema"
    partitions: tuple[str, ...]
    rows: Counter[str] = field(default_factory=Counter)
    _files: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))

    def tables(self, partitions: Iterable[str]) -> Iterator["pa.Table"]:
        """Yield the rows of some partitions, a file at a time."""
        import pyarrow.parquet as pq

        for partition in partitions:
            for file in self._files.get(partition, ()):
                yield pq.read_table(file, schema=self.schema, partitioning=None)

    def _add(self, batch: "pa.Table", folder: Path, name: str) -> None:
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        given = [WHOLE_TABLE]
        if self.partitions != (WHOLE_TABLE,):
            given = pc.unique(batch[PARTITION_COLUMN]).to_pylist()
            strangers = sorted(set(given) - set(self.partitions), key=str)
            if strangers:
                raise PermanentFailure(
                    f"{name}: rows of {strangers[0]!r} are not of the partitions that are replaced "
                    f"({', '.join(self.partitions[:3])}{', ...' if len(self.partitions) > 3 else ''})"  # noqa: PLR2004
                )
        for partition in given:
            some = batch if len(given) == 1 else batch.filter(pc.field(PARTITION_COLUMN) == partition)
            file = folder / f"{sum(map(len, self._files.values()))}.parquet"
            pq.write_table(some, file)
            self._files[partition].append(file)
            self.rows[partition] += len(some)


@contextmanager
def staged(
    name: str,
    schema: "pa.Schema",
    partitions: Sequence[str],
    batches: Iterable["pa.Table | pa.RecordBatch"],
) -> Iterator[Stage]:
    """Read all rows to their end.

    Raises:
        PermanentFailure: a batch does not have the declared columns, or holds rows of another partition.
    """
    import pyarrow as pa

    stage = Stage(schema, tuple(dict.fromkeys(partitions)))
    with tempfile.TemporaryDirectory(prefix="ol-rows-") as folder:
        for batch in batches:
            table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
            if len(table):
                stage._add(_declared(name, table, schema), Path(folder), name)  # noqa: SLF001 - of this module
        yield stage


def _declared(name: str, table: "pa.Table", schema: "pa.Schema") -> "pa.Table":
    import pyarrow as pa

    missing = [column for column in schema.names if column not in table.column_names]
    unknown = [column for column in table.column_names if column not in schema.names]
    if missing or unknown:
        raise PermanentFailure(
            f"{name}: the rows lack the declared columns {missing or '-'} and have others {unknown or '-'}"
        )
    try:
        cast = table.select(schema.names).cast(schema)
        cast.validate()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise PermanentFailure(f"{name}: the rows do not fit the declared columns: {error}") from error
    return cast
