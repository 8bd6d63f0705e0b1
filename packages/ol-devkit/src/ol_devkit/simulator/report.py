"""`ol simulate`: play a scenario, and say which bars hold."""

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

import click
from ol_core.failures import PermanentFailure
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ol_devkit.simulator.scenarios import SCENARIOS, Scenario, Verdict, play
from ol_devkit.simulator.storage import Storage, postgres, sqlite
from ol_devkit.simulator.subjects import subject_called

_BYTES = {"database_bytes", "cursor_bytes_max", "peak_memory_bytes"}


def list_scenarios() -> None:
    """Print every scenario."""
    width = max(len(one.name) for one in SCENARIOS)
    for one in SCENARIOS:
        size = f"{one.partitions:,} partitions, {one.ticks:,} ticks"
        click.echo(f"{one.name.ljust(width)}  {one.about} {size}.")


def run_simulation(  # noqa: PLR0913 - the command's options
    name: str,
    *,
    location: str,
    partitions: int | None,
    ticks: int | None,
    database: str | None,
    as_json: bool,
) -> None:
    """Play a scenario and print the verdict; ends the process with 1 where a bar is missed."""
    warnings.filterwarnings("ignore", message=".*is currently in (beta|preview)")
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="dagster")

    def open_storage(folder: Path) -> AbstractContextManager[Storage]:
        return sqlite(folder) if database is None else postgres(folder, database)

    scenario, make_subject = _chosen(name), subject_called(location)
    verdict = play(scenario, make_subject, partitions=partitions, ticks=ticks, open_storage=open_storage)
    if as_json:
        click.echo(json.dumps({**asdict(verdict), "holds": verdict.holds}, indent=2))
    else:
        _print(Console(highlight=False), verdict)
    sys.exit(0 if verdict.holds else 1)


def _chosen(name: str) -> Scenario:
    for one in SCENARIOS:
        if one.name == name:
            return one
    raise PermanentFailure(f"no scenario is called {name!r}; there are {', '.join(one.name for one in SCENARIOS)}")


def _print(console: Console, verdict: Verdict) -> None:
    bars = Table("bar", "measured", "", title=_title(verdict), title_justify="left")
    for finding in verdict.findings:
        bars.add_row(
            escape(finding.bar), escape(finding.measured), "[green]ok[/]" if finding.holds else "[red]missed[/]"
        )
    console.print(bars)
    counted = Table("counted", "", show_header=False, box=None)
    for name, value in _counted(verdict):
        counted.add_row(name, escape(value))
    console.print(counted)


def _title(verdict: Verdict) -> str:
    return f"{verdict.scenario}: {verdict.subject}, {verdict.partitions:,} partitions"


def _counted(verdict: Verdict) -> Iterator[tuple[str, str]]:
    for name, value in verdict.figures.items():
        if isinstance(value, dict):
            yield name.replace("_", " "), ", ".join(f"{key} {count:,}" for key, count in sorted(value.items())) or "-"
        elif name in _BYTES:
            yield name.replace("_bytes", "").replace("_", " "), f"{value / 1024:,.1f} KiB"
        else:
            yield name.replace("_", " "), f"{value:,}"
