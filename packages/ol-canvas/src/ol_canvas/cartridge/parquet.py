"""The tables of many cartridges as one Parquet file per kind."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ol_canvas.cartridge.records import Cartridge
from ol_canvas.cartridge.tables import TABLE_KINDS, table_schema

if TYPE_CHECKING:
    import pyarrow.parquet as pq


class ParquetTables:
    """Takes cartridges one after the other; see `parquet_tables`."""

    def __init__(self, writers: "dict[str, pq.ParquetWriter]") -> None:
        self._writers = writers

    def write(self, cartridge: Cartridge) -> None:
        """Appends the rows of one cartridge, its name in the column `cartridge`."""
        import pyarrow as pa

        for kind, writer in self._writers.items():
            rows = [{"cartridge": cartridge.name, **row} for row in cartridge.rows(kind)]
            writer.write_table(pa.Table.from_pylist(rows, schema=writer.schema))


@contextmanager
def parquet_tables(folder: Path) -> Iterator[ParquetTables]:
    """Writes `folder/<kind>.parquet` for each kind; they appear together at the end, or not at all.

    Args:
        folder: Is made where it is missing; files of these names are replaced.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".tables-") as scratch:
        with ExitStack() as opened:
            writers = {}
            for kind in TABLE_KINDS:
                schema = table_schema(kind).insert(0, pa.field("cartridge", pa.string(), nullable=False))
                writers[kind] = opened.enter_context(pq.ParquetWriter(Path(scratch, f"{kind}.parquet"), schema))
            yield ParquetTables(writers)
        for kind in TABLE_KINDS:
            Path(scratch, f"{kind}.parquet").replace(folder / f"{kind}.parquet")
