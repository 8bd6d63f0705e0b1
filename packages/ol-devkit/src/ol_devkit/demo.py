"""`ol demo`: run the whole pipeline once, in this process, and say what became of it."""

import json
import shlex
import sys
import tempfile
import time
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import click
import dagster as dg
from ol_core import code_locations
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ol_devkit.campus import Campus
from ol_devkit.daemon import FailedTick, FinishedRun, give_up_unfinished, run_until_quiet
from ol_devkit.sandbox import CampusChoice, sandbox
from ol_devkit.summary import Summary, summarize

DEFAULT_COURSES = 6
LOG_NAME = "demo.log"
"""What the runs print, such as dbt's own log; below the data folder."""


def run_demo(choice: CampusChoice, *, data_dir: Path | None, as_json: bool) -> None:
    """Run the demo; ends the process with 1 where something was not built or stands in quarantine."""
    warnings.filterwarnings("ignore", message=".*is currently in (beta|preview)")
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="ol-demo-")) if data_dir is None else data_dir.absolute()
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"[bold]ol demo[/] in {escape(str(folder))}")
    content = choice.remembered(folder).content(DEFAULT_COURSES)
    with (
        sandbox(folder, content) as campus,
        (folder / LOG_NAME).open("a", encoding="utf-8") as log,
        redirect_stdout(log),  # dbt talks a lot
        console.status("loading the installed code locations") as status,
    ):
        locations = code_locations.load(code_locations.installed())
        with dg.DagsterInstance.get() as instance:
            if left := give_up_unfinished(instance):
                console.print(f"{left} runs were never finished; what they left undone is requested again")
            outcomes = []
            for outcome in run_until_quiet(
                instance, locations, lambda location, job: status.update(f"{location}: {job}")
            ):
                _report(console, outcome)
                outcomes.append(outcome)
            status.update("adding up")
            summary = summarize(Summary(data_dir=str(folder)), instance, locations, outcomes, served=content.files)
    _complete(summary, campus, folder, time.monotonic() - started)
    if as_json:
        click.echo(json.dumps(summary.to_json(), indent=2, default=str))
    _print(console, summary)
    sys.exit(0 if summary.ok else 1)


def _report(console: Console, outcome: FinishedRun | FailedTick) -> None:
    if isinstance(outcome, FailedTick):
        console.print(f"[red]failed[/]  {outcome.sensor}: {escape(outcome.error)}")
        return
    done = f"{sum(outcome.materialized.values()):4d} materialized in {outcome.seconds:5.1f} s"
    console.print(f"{'[green]ok[/]    ' if outcome.success else '[red]failed[/]'}  {outcome.job:42s} {done}")
    if not outcome.success:
        console.print(outcome.error, style="red", markup=False)


def _complete(summary: Summary, campus: Campus, folder: Path, seconds: float) -> None:
    summary.seconds = round(seconds, 1)
    summary.webhooks = {
        "received": len(campus.deliveries),
        "verified": sum(delivery.verified for delivery in campus.deliveries),
    }
    summary.paths = {
        "objects": str(folder / "objects"),
        "tables": str(folder / "tables"),
        "warehouse": str(folder / "warehouse.duckdb"),
        "dagster_home": str(folder / "dagster"),
        "log": str(folder / LOG_NAME),
    }


def _print(console: Console, summary: Summary) -> None:
    rows = Table("table", "rows", title="Tables", title_justify="left")
    rows.columns[1].justify = "right"
    for name, count in sorted(summary.rows.items()):
        rows.add_row(name, f"{count:,}")
    console.print(rows)
    for entry in summary.quarantined:
        what = f"{entry['course_id']} {entry['path']}: {entry['reason']}: {entry['detail']}"
        console.print(f"[yellow]quarantined[/] {escape(what)}")
    for failure in summary.failed:
        what = f"{failure['asset']} {failure['partition']} {failure.get('archive', '')}\n       {failure['reason']}"
        console.print(f"[red]failed[/] {escape(what)}")
    if summary.up_to_date:
        kept = "What failed is not tried again; everything else" if summary.failed else "Everything"
        console.print(f"{kept} is current: nothing was run.")
    console.print(
        f"{summary.assets_materialized} assets, {summary.partitions_materialized} materializations, "
        f"{len(summary.failed)} failed, {len(summary.quarantined)} quarantined, "
        f"{summary.webhooks['verified']} webhooks verified, {summary.seconds} s"
    )
    console.print(f"Look at it: ol dev --data-dir {shlex.quote(summary.data_dir)}", markup=False)
