"""The tables of an archive: their columns, and Parquet files of them."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self
from uuid import uuid4

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

Column = tuple[str, str, bool]  # name, type, whether it may be null

_ROW_GROUP_ROWS = 10_000


def _columns(text: str) -> tuple[Column, ...]:
    """Columns written `name type`, a `!` after the name where it is never null; text where no type is given."""
    found = []
    for item in text.split(","):
        name, _, kind = item.strip().partition(" ")
        found.append((name.removesuffix("!"), kind or "string", not name.endswith("!")))
    return tuple(found)


COLUMNS: Mapping[str, tuple[Column, ...]] = {
    # One row per course.
    "course_metadata": _columns(
        "course_id!, olx_course_id, org, course, run, display_name, language, start_at timestamp, end_at timestamp,"
        "enrollment_start_at timestamp, enrollment_end_at timestamp, self_paced bool, course_image, archive_format!,"
        "content_digest!, block_count! int64, orphan_block_count! int64, draft_block_count! int64, video_count! int64,"
        "static_file_count! int64, static_bytes! int64, member_count! int64, quarantined_count! int64, attributes"
    ),
    # One row per block and state; key (course_id, state, block_id).
    "course_blocks": _columns(
        "course_id!, block_id!, block_type!, url_name!, display_name, parent_block_id, block_index int64, depth int64,"
        "state!, path!, is_inline! bool, child_count! int64, format, graded bool, start_at timestamp, due_at timestamp,"
        "attributes"
    ),
    # One row per video block and state; key (course_id, state, block_id).
    "course_video": _columns(
        "course_id!, block_id!, url_name!, display_name, state!, edx_video_id, youtube_id, duration_seconds double,"
        "html5_sources, transcripts, encoded_videos"
    ),
    # One row per policy file; key (course_id, path).
    "course_policy": _columns("course_id!, run!, kind!, path!, is_current! bool, content!"),
    # One row per file under static/; key (course_id, path).
    "course_static_assets_manifest": _columns("course_id!, path!, size_bytes! int64, sha256!, content_type"),
    # One row for each thing that could not be used.
    "course_quarantine": _columns("course_id!, path!, line int64, reason!, detail!, size_bytes int64"),
}
TABLE_KINDS: tuple[str, ...] = tuple(COLUMNS)


def table_schema(kind: str) -> "pa.Schema":
    """Arrow schema of a kind of table; timestamps are UTC without a zone, in microseconds.

    Raises:
        KeyError: No such kind.
    """
    import pyarrow as pa

    types = {
        "string": pa.string(),
        "int64": pa.int64(),
        "double": pa.float64(),
        "bool": pa.bool_(),
        "timestamp": pa.timestamp("us"),
    }
    return pa.schema(
        [pa.field(name, types[type_name], nullable=nullable) for name, type_name, nullable in COLUMNS[kind]]
    )


class ParquetTables:
    """One Parquet file per kind in a folder, written row group by row group under temporary names.

    Leaving the context renames all files to `KIND.parquet`; leaving it by an exception removes them.

    Args:
        folder: Where the files go; made if missing.
        leading: Text columns that stand before the others and are the same in every row of one `write`.
    """

    def __init__(self, folder: Path, *, leading: Sequence[str] = ()) -> None:
        self._folder = folder
        self._leading = tuple(leading)
        self._schemas: dict[str, pa.Schema] = {}
        self._writers: dict[str, pq.ParquetWriter] = {}
        self._files: dict[str, Path] = {}
        self._rows: dict[str, list[dict[str, object]]] = {kind: [] for kind in TABLE_KINDS}

    def __enter__(self) -> Self:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            for kind in TABLE_KINDS:
                self._files[kind] = self._folder / f".{kind}.{uuid4().hex}.part"
                fields = [pa.field(column, pa.string(), nullable=False) for column in self._leading]
                self._schemas[kind] = pa.schema([*fields, *table_schema(kind)])
                self._writers[kind] = pq.ParquetWriter(self._files[kind], self._schemas[kind], compression="zstd")
        except BaseException:
            self._discard()
            raise
        return self

    def write(self, kind: str, rows: list[dict[str, object]], **leading: str) -> None:
        """Append rows to a table."""
        self._rows[kind].extend({**leading, **row} for row in rows)
        if len(self._rows[kind]) >= _ROW_GROUP_ROWS:
            self._flush(kind)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._discard()
            return
        try:
            for table in TABLE_KINDS:
                self._flush(table)
                self._writers[table].close()
        except BaseException:
            self._discard()
            raise
        for table, path in self.paths.items():
            self._files[table].replace(path)

    @property
    def paths(self) -> dict[str, Path]:
        """Where each table ends up."""
        return {kind: self._folder / f"{kind}.parquet" for kind in TABLE_KINDS}

    def _flush(self, kind: str) -> None:
        import pyarrow as pa

        if self._rows[kind]:
            self._writers[kind].write_table(pa.Table.from_pylist(self._rows[kind], schema=self._schemas[kind]))
            self._rows[kind] = []

    def _discard(self) -> None:
        for writer in self._writers.values():
            with suppress(Exception):
                writer.close()
        for path in self._files.values():
            path.unlink(missing_ok=True)
