"""A data folder with all that `dev` needs: this process's settings, Dagster's instance, the campus's secrets."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TextIO

from ol_core.environment import load_environment
from ol_core.failures import PermanentFailure
from ol_core.orchestration.pools import apply_pools

from ol_devkit.campus import Campus, CampusContent, serve
from ol_devkit.campus.content import files_below

SEED = 20260901
DAGSTER_YAML = """\
# The policy of every deployment, on SQLite; a person is there to run again what died. See docs/adr/0004.
concurrency:
  pools: { default_limit: 1, granularity: op }
run_monitoring:
  enabled: true
  start_timeout_seconds: 300
  max_runtime_seconds: 21600
  free_slots_after_run_end_seconds: 60
telemetry: { enabled: false }
"""
"""The instance of `ol dev` and `ol demo`."""


@dataclass(frozen=True, slots=True)
class CampusChoice:
    """What the simulated campus serves.

    Attributes:
        courses: Courses to generate for each system: Open edX course runs in all, and Canvas courses.
        olx: Folder of course archives to serve instead of generated course runs.
        cartridges: Folder of cartridges to serve instead of generated Canvas courses.
    """

    courses: int | None = None
    olx: str | None = None
    cartridges: str | None = None

    def remembered(self, data_dir: Path) -> "CampusChoice":
        """Return this choice, or the one that the data folder was made with where this one states nothing.

        Raises:
            PermanentFailure: a folder does not exist or holds no archive, or the data folder cannot be written.
        """
        file = data_dir / "campus.json"
        if self == CampusChoice() and file.exists():
            return CampusChoice(**json.loads(file.read_text(encoding="utf-8")))
        olx, cartridges = (None if folder is None else str(folder) for folder in self._folders())
        stated = replace(self, olx=olx, cartridges=cartridges)
        with _writing(data_dir):
            data_dir.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(asdict(stated)), encoding="utf-8")
        return stated

    def content(self, default_courses: int) -> CampusContent:
        """Make what the campus serves.

        Raises:
            PermanentFailure: a folder does not exist or holds no archive.
        """
        courses = self.courses or default_courses
        olx, cartridges = self._folders()
        return CampusContent.from_folders(olx, cartridges, seed=SEED, courses=courses)

    def _folders(self) -> tuple[Path | None, Path | None]:
        return _folder(self.olx, "--olx", ".tar.gz", ".tgz"), _folder(self.cartridges, "--cartridges", ".imscc")


def _folder(name: str | None, option: str, *suffixes: str) -> Path | None:
    if name is None:
        return None
    folder = Path(name).absolute()
    if not folder.is_dir():
        raise PermanentFailure(f"{option} {name}: there is no such folder")
    try:
        files_below(folder, *suffixes)
    except ValueError as error:
        raise PermanentFailure(f"{option} {name}: no file in it ends in {' or '.join(suffixes)}") from error
    return folder


@contextmanager
def sandbox(data_dir: Path, content: CampusContent, *, port: int = 0) -> Iterator[Campus]:
    """Serve a campus and point this process, and those that it starts, at it and at the data folder.

    Raises:
        PermanentFailure: the data folder cannot be written, or another process uses it.
    """
    home = data_dir / "dagster"
    with _writing(data_dir):
        make_home(home)
        lock = (data_dir / "lock").open("w", encoding="utf-8")
    with lock:
        _take(lock, data_dir)
        with serve(content, port=port) as campus:
            _write_secrets(data_dir / "secrets.toml", campus.secrets)
            os.environ.pop("OL_ENVIRONMENT_FILE", None)
            os.environ |= {
                "DAGSTER_ENV": "dev",
                "DAGSTER_HOME": str(home),
                "OL_DATA_DIR": str(data_dir),
                "OL_CAMPUS_URL": campus.url,
            }
            set_pools()
            yield campus


def make_home(home: Path) -> None:
    """Make a folder for Dagster's instance that it does not greet with a form for an e-mail address."""
    (home / ".nux").mkdir(parents=True, exist_ok=True)
    (home / ".nux" / "nux.yaml").touch()  # the mark of a person who skipped that form
    if not (home / "dagster.yaml").exists():
        (home / "dagster.yaml").write_text(DAGSTER_YAML, encoding="utf-8")


def set_pools() -> None:
    """Let Dagster's instance enforce what the installed packages declare."""
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        apply_pools(instance, load_environment())


@contextmanager
def _writing(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PermanentFailure(
            f"cannot write to the data folder {data_dir}: {error.strerror}; name another --data-dir"
        ) from error


def _take(lock: TextIO, data_dir: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel frees it with the process, however that ends
    except BlockingIOError as error:
        raise PermanentFailure(
            f"another `ol demo` or `ol dev` uses {data_dir}; wait for it or stop it, or name another --data-dir"
        ) from error


def _write_secrets(file: Path, secrets: Mapping[str, Mapping[str, str]]) -> None:
    tables = [
        "\n".join([f"[{json.dumps(path)}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())])
        for path, values in secrets.items()
    ]
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as writer:
        writer.write("\n\n".join(tables) + "\n")
