"""`ol demo` and `ol dev`: the whole platform with no server and no credential; `ol simulate`: its policy, judged."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def _campus_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option(
            "--courses", type=click.IntRange(min=1), help="Generate so many courses for each system (default 6)."
        ),
        click.option("--cartridges", type=click.Path(), help="Serve the *.imscc of this folder as the Canvas courses."),
        click.option("--olx", type=click.Path(), help="Serve the *.tar.gz of this folder as the Open edX course runs."),
    ):
        command = option(command)
    return command


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where everything goes (default: a fresh folder).")
@_campus_options
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON on standard output.")
def demo(*, data_dir: Path | None, olx: str | None, cartridges: str | None, courses: int | None, as_json: bool) -> None:
    """Run the whole pipeline once: simulated campus, exports, raw tables, models, webhooks.

    Exit code 0 says that everything was built and nothing stands in quarantine. A second run on the same --data-dir
    confirms that all is current.
    """
    from ol_devkit.demo import run_demo
    from ol_devkit.sandbox import CampusChoice

    choice = CampusChoice(courses=courses, olx=olx, cartridges=cartridges)
    run_demo(choice, data_dir=data_dir, as_json=as_json)


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--data-dir", type=click.Path(path_type=Path), default=Path(".ol"), show_default=True, help="Where everything goes."
)
@click.option("--port", type=int, default=3000, show_default=True, help="Port of Dagster's web server.")
@_campus_options
def dev(
    *,
    names: tuple[str, ...],
    data_dir: Path,
    port: int,
    olx: str | None,
    cartridges: str | None,
    courses: int | None,
) -> None:
    """Serve the code locations NAMES (default: all) in the browser, on a simulated campus.

    Where OL_ENVIRONMENT_FILE is set, the sources and stores that it states are used instead of the campus.
    """
    from ol_devkit.dev import run_dev
    from ol_devkit.sandbox import CampusChoice

    choice = CampusChoice(courses=courses, olx=olx, cartridges=cartridges)
    run_dev(names, choice, data_dir=data_dir, port=port)


@click.command()
@click.argument("scenario", required=False)
@click.option("--list", "is_list", is_flag=True, help="List the scenarios.")
@click.option(
    "--location",
    default="generic",
    show_default=True,
    help="What is judged: generic, canvas, openedx, or module:function of your own, which returns a Subject.",
)
@click.option("--partitions", type=click.IntRange(min=10), help="How many; by default what the scenario says.")
@click.option("--ticks", type=click.IntRange(min=1), help="How long; by default what the scenario says.")
@click.option("--postgres", "database", help="Address of an empty PostgreSQL database instead of SQLite.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
def simulate(
    *,
    scenario: str | None,
    is_list: bool,
    location: str,
    partitions: int | None,
    ticks: int | None,
    database: str | None,
    as_json: bool,
) -> None:
    """Play SCENARIO against real sensors and jobs, with a fake clock and a scripted source.

    Exit code 1 says that a bar is missed.
    """
    from ol_devkit.simulator.report import list_scenarios, run_simulation

    if is_list or scenario is None:
        list_scenarios()
        return
    run_simulation(scenario, location=location, partitions=partitions, ticks=ticks, database=database, as_json=as_json)
