"""The `ol openedx` commands. They need no Dagster and no configuration."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from ol_core.terminal import table

if TYPE_CHECKING:
    from ol_openedx.archive import ArchiveSummary
    from ol_openedx.archive.tables import ParquetTables


@click.group()
def openedx() -> None:
    """Open edX course exports."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    archive: str
    seconds: float
    summary: "ArchiveSummary | None" = None
    error: str | None = None


class _NothingRead(Exception):
    """No archive could be read: tables that were there before stay."""


@openedx.command()
@click.argument(
    "archives",
    nargs=-1,
    required=True,
    metavar="ARCHIVE...",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the tables; made if missing.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
@click.pass_context
def extract(context: click.Context, archives: tuple[Path, ...], out: Path, *, as_json: bool) -> None:
    """Extract the tables of course or library exports (tar.gz) into Parquet files.

    Writes one file per kind of table over all archives, OUT/course_blocks.parquet and so on, whose first column
    `archive` is the archive's file name. Nothing is unpacked. An archive that cannot be read is reported and the others
    are extracted all the same; the exit code is 1 then. Where none can be read no file is written.
    """
    from ol_openedx.archive.tables import ParquetTables

    outcomes: list[_Outcome] = []
    paths: dict[str, Path] = {}
    try:
        with ParquetTables(out, leading=("archive",)) as tables:
            outcomes.extend(_extract(path, name, tables) for path, name in _named(archives))
            if all(outcome.summary is None for outcome in outcomes):
                raise _NothingRead  # noqa: TRY301 - leaves the tables without writing them
        paths = tables.paths
    except _NothingRead:
        pass
    except OSError as error:
        raise click.ClickException(f"the tables cannot be written to {out}: {error.strerror or error}") from error
    click.echo(_as_json(outcomes, paths) if as_json else _as_table(outcomes, paths))
    for outcome in outcomes:
        if outcome.error is not None and not as_json:
            click.echo(f"failed: {outcome.error}", err=True)
    if any(outcome.error is not None for outcome in outcomes):
        context.exit(1)


def _named(archives: Sequence[Path]) -> list[tuple[Path, str]]:
    """Each archive with the name it has in the tables: its file name, or its path where two have the same."""
    names = [path.name for path in archives]
    return [(path, path.name if names.count(path.name) == 1 else str(path)) for path in archives]


def _extract(path: Path, name: str, tables: "ParquetTables") -> _Outcome:
    from ol_core.failures import OlError

    from ol_openedx.archive import read_archive

    def write(kind: str, rows: list[dict[str, object]]) -> None:
        tables.write(kind, rows, archive=name)

    started = time.perf_counter()
    try:
        stream = path.open("rb")
    except OSError as error:
        return _Outcome(name, time.perf_counter() - started, error=f"archive {name!r}: {error.strerror}")
    with stream:
        try:
            summary = read_archive(stream, name=name, write=write)
        except OlError as error:
            return _Outcome(name, time.perf_counter() - started, error=str(error))
    return _Outcome(name, time.perf_counter() - started, summary=summary)


def _as_json(outcomes: Sequence[_Outcome], paths: dict[str, Path]) -> str:
    archives: list[dict[str, object]] = []
    for outcome in outcomes:
        found: dict[str, object] = {
            "archive": outcome.archive,
            "status": "failed" if outcome.summary is None else "ok",
            "error": outcome.error,
            "seconds": round(outcome.seconds, 3),
        }
        if outcome.summary is not None:
            found |= asdict(outcome.summary)
            del found["name"]
        archives.append(found)
    return json.dumps({"archives": archives, "tables": {kind: str(path) for kind, path in paths.items()}}, indent=2)


_HEADINGS = (
    "archive",
    "course",
    "blocks",
    "orphans",
    "drafts",
    "videos",
    "static_files",
    "static_bytes",
    "quarantined",
    "seconds",
)


def _as_table(outcomes: Sequence[_Outcome], paths: dict[str, Path]) -> str:
    numbers = range(2, len(_HEADINGS))
    text = [table(_HEADINGS, [_cells(outcome) for outcome in outcomes], right=numbers)]
    for outcome in outcomes:
        if outcome.summary is not None:
            text += ["", outcome.archive, f"  blocks       {_counts(outcome.summary.blocks_by_type)}"]
            text.append(f"  quarantined  {_counts(outcome.summary.quarantined_by_reason)}")
    if paths:
        text += ["", "tables", *(f"  {path}" for path in paths.values())]
    return "\n".join(text)


def _cells(outcome: _Outcome) -> tuple[str, ...]:
    summary = outcome.summary
    if summary is None:
        return (outcome.archive, "failed", *[""] * 7, f"{outcome.seconds:.2f}")
    numbers = (
        summary.block_count,
        summary.orphan_block_count,
        summary.draft_block_count,
        summary.video_count,
        summary.static_file_count,
        summary.static_bytes,
        summary.quarantined_count,
    )
    return (outcome.archive, summary.course_id, *(f"{number:,}" for number in numbers), f"{outcome.seconds:.2f}")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"
