"""`ol dev`: the whole platform in the browser."""

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import click
from ol_core import code_locations
from ol_core.cli import workspace_yaml
from ol_core.environment import Settings

from ol_devkit.sandbox import CampusChoice, sandbox

DEFAULT_COURSES = 6


def run_dev(names: Sequence[str], choice: CampusChoice, *, data_dir: Path, port: int) -> None:
    """Serve the chosen code locations with `dagster dev`, on the simulated campus or on the configured sources."""
    locations = code_locations.installed(names)
    folder = data_dir.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    workspace = folder / "workspace.yaml"
    real_sources = Settings().environment_file is not None
    if real_sources:
        os.environ.setdefault("DAGSTER_HOME", str(folder / "dagster"))
        Path(os.environ["DAGSTER_HOME"]).mkdir(parents=True, exist_ok=True)
    campus = nullcontext() if real_sources else sandbox(folder, choice.remembered(folder).content(DEFAULT_COURSES))
    with campus:
        workspace.write_text(workspace_yaml(locations), encoding="utf-8")
        click.echo(f"{', '.join(one.name for one in locations)} at http://127.0.0.1:{port}, data in {folder}", err=True)
        command = [sys.executable, "-m", "dagster", "dev", "-w", str(workspace), "-h", "127.0.0.1", "-p", str(port)]
        served = subprocess.Popen(command)  # noqa: S603 - our own interpreter
        try:
            code = served.wait()
        except KeyboardInterrupt:  # the terminal has sent it to Dagster as well, which stops its servers
            code = served.wait()
    sys.exit(code)
