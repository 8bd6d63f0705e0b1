"""The command `ol-dbt`: dbt over the platform's project and the data in `OL_DATA_DIR`."""

import os
import sys
from importlib.metadata import version


def main() -> None:
    """Run dbt with the project, the profile and the folder of its artifacts already chosen.

    `--version` is answered from what is installed. dbt's own answer asks PyPI for newer releases, with five attempts of
    30 seconds where a network swallows packets, and dagster-dbt wants it before every run.
    """
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"dbt-core {version('dbt-core')}\n")
        return
    from dbt.cli.main import cli
    from ol_core.environment import Settings

    from ol_lakehouse.project import project_directory

    project, data_dir = project_directory(), Settings().data_dir.absolute()
    os.environ["OL_DATA_DIR"] = str(data_dir)  # dbt changes the working directory before it reads a relative path
    for name, folder in {"PROJECT_DIR": project, "PROFILES_DIR": project}.items():
        os.environ.setdefault(f"DBT_{name}", str(folder))
    for name in ("TARGET_PATH", "LOG_PATH"):
        os.environ.setdefault(f"DBT_{name}", str(data_dir / "dbt"))
    cli()
