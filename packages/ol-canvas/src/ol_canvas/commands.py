"""`ol canvas`: looks into cartridges on a laptop, without Dagster."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ol_canvas.cartridge import Cartridge
    from ol_canvas.cartridge.parquet import ParquetTables


@click.group(help="Look into what Canvas exports.")
def canvas() -> None:
    """The group `ol canvas`."""


@canvas.command()
@click.argument("cartridges", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CARTRIDGE...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list instead of tables.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Write one Parquet file per table here.")
def inspect(cartridges: tuple[Path, ...], out: Path | None, *, as_json: bool) -> None:
    """Say what each CARTRIDGE (.imscc) holds.

    A cartridge that cannot be read is reported, the others are read all the same, and the exit code is 1. Where none
    can be read no file is written.
    """
    from ol_canvas.cartridge.parquet import parquet_tables

    reports: list[dict[str, object]] = []
    try:
        with nullcontext() if out is None else parquet_tables(out) as tables:
            reports.extend(_inspect(path, tables) for path in cartridges)
            if all(report["status"] == "failed" for report in reports):
                raise _NothingRead  # noqa: TRY301 - leaves the tables without writing them
    except _NothingRead:
        pass
    except OSError as error:
        raise click.ClickException(f"the tables cannot be written to {out}: {error.strerror or error}") from error
    if as_json:
        click.echo(json.dumps(reports, indent=2, ensure_ascii=False))
    else:
        click.echo("\n\n".join(_table(report) for report in reports))
    if any(report["status"] == "failed" for report in reports):
        raise SystemExit(1)


class _NothingRead(Exception):
    """No cartridge could be read: tables that were there before stay."""


def _inspect(path: Path, tables: "ParquetTables | None") -> dict[str, object]:
    from ol_canvas.cartridge import CartridgeError, read_cartridge

    try:
        cartridge = read_cartridge(path, name=str(path))
    except CartridgeError as error:
        return {"cartridge": str(path), "status": "failed", "error": str(error)}
    if tables is not None:
        tables.write(cartridge)
    return _report(cartridge)


def _report(cartridge: "Cartridge") -> dict[str, object]:
    quarantine = [
        {key: value for key, value in row.items() if key != "course_id"} for row in cartridge.rows("course_quarantine")
    ]
    return {
        "cartridge": cartridge.name,
        "status": "ok",
        "error": None,
        "title": cartridge.title,
        "schema_version": cartridge.schema_version,
        "content_digest": cartridge.content_digest,
        "items_by_type": dict(cartridge.items_by_type),
        "item_count": len(cartridge.items),
        "file_count": cartridge.file_count,
        "file_bytes": cartridge.file_bytes,
        "member_count": cartridge.member_count,
        "quarantined_count": cartridge.quarantined_count,
        "quarantine": quarantine,
    }


def _table(report: dict[str, object]) -> str:
    if report["status"] == "failed":
        return f"{report['cartridge']}\n  failed: {report['error']}"
    items, quarantine = report["items_by_type"], report["quarantine"]
    lines = [
        ("title", report["title"] or "(none)"),
        ("version", report["schema_version"] or "(none)"),
        ("digest", report["content_digest"]),
        *((f"items: {kind}", count) for kind, count in (items.items() if isinstance(items, dict) else ())),
        ("files", report["file_count"]),
        ("bytes", report["file_bytes"]),
        ("quarantined", report["quarantined_count"]),
    ]
    width = max(len(label) for label, _ in lines)
    text = [str(report["cartridge"]), *(f"  {label:<{width}}  {value}" for label, value in lines)]
    for entry in quarantine if isinstance(quarantine, list) else ():
        place = entry["path"] if entry["line"] is None else f"{entry['path']}, line {entry['line']}"
        text.append(f"    {entry['reason']}: {place}: {entry['detail']}")
    return "\n".join(text)
