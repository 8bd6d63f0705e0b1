"""`ol dev`: the whole platform in the browser."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import IO

import click
from ol_core import code_locations
from ol_core.cli import workspace_yaml
from ol_core.environment import Settings, load_environment
from ol_core.failures import PermanentFailure

from ol_devkit.sandbox import CampusChoice, sandbox

DEFAULT_COURSES = 6
LOG_NAME = "dev.log"
"""All that Dagster's processes say; below the data folder."""

_HOST = "127.0.0.1"
_STOP_SECONDS = 30
_END_SECONDS = 5
_QUIET = "ignore:Function `dev_command` is superseded"  # by `dg dev`, which serves a project folder, not packages
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_RECORD = re.compile(r"\S+ (?P<time>\S+) \S+ - \S+ - (?P<level>[A-Z]+) - (?P<message>.*)")
_RUN_END = re.compile(r"(?P<job>\S+) - \S+ - \d+ - RUN_(?P<end>SUCCESS|CANCELED) - ")


def run_dev(names: Sequence[str], choice: CampusChoice, *, data_dir: Path, port: int) -> None:
    """Serve the chosen code locations with `dagster dev`, on the simulated campus or on the configured sources.

    Ends the process with 0 once it is told to stop (SIGINT, SIGTERM, SIGHUP), with 1 where Dagster ends by itself.

    Raises:
        PermanentFailure: the port or the data folder cannot be used, or the configured environment is wrong.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # also where a shell made this process ignore it
        signal.signal(number, signal.default_int_handler)
    locations = code_locations.installed(names)
    _refuse_port_in_use(port)
    folder = data_dir.absolute()
    with _sources(folder, choice) as sources:
        workspace = folder / "workspace.yaml"
        workspace.write_text(workspace_yaml(locations), encoding="utf-8")
        _say(f"{', '.join(one.name for one in locations)} on {sources}")
        _say(f"data in {folder}; all that Dagster says goes to {folder / LOG_NAME}")
        _say("starting, which takes about half a minute; Ctrl-C stops")
        command = [sys.executable, "-m", "dagster", "dev", "-w", str(workspace), "-h", _HOST, "-p", str(port)]
        code = _serve(command, log=folder / LOG_NAME)
    sys.exit(code)


def _say(line: str) -> None:
    click.echo(line, err=True)


def _refuse_port_in_use(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise PermanentFailure(f"cannot serve port {port}: {error.strerror}; name another by --port") from error


@contextmanager
def _sources(folder: Path, choice: CampusChoice) -> Iterator[str]:
    """Set the environment of the code locations, with a campus unless sources are configured; yield what they read."""
    settings = Settings()
    home = folder / "dagster"
    if settings.environment_file is None and settings.name == "dev":
        with sandbox(folder, choice.remembered(folder).content(DEFAULT_COURSES)) as campus:
            _skip_greeting(home)
            _give_up_unfinished_runs()
            yield f"a simulated campus at {campus.url}"
        return
    environment = load_environment()
    _skip_greeting(home)
    os.environ.setdefault("DAGSTER_HOME", str(home))
    os.environ.setdefault("OL_DATA_DIR", str(folder))
    yield f"the sources of {settings.environment_file} ({environment.name})"


def _skip_greeting(home: Path) -> None:
    """Leave the mark of a person who skipped the form for an e-mail address with which Dagster greets a new home."""
    (home / ".nux").mkdir(parents=True, exist_ok=True)
    (home / ".nux" / "nux.yaml").touch()


def _give_up_unfinished_runs() -> None:
    import dagster as dg

    from ol_devkit.daemon import give_up_unfinished

    with dg.DagsterInstance.get() as instance:
        if left := give_up_unfinished(instance):
            _say(f"{left} runs were never finished; what they left undone is requested again")


def _serve(command: Sequence[str], *, log: Path) -> int:
    """Run Dagster in a process group of its own until it ends, or this process is told to stop; leave none behind."""
    warnings = ",".join(filter(None, [_QUIET, os.environ.get("PYTHONWARNINGS")]))
    served = subprocess.Popen(  # noqa: S603 - our own interpreter
        command,
        env={**os.environ, "PYTHONWARNINGS": warnings, "DAGSTER_DISABLE_TELEMETRY": "yes"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    relay = Thread(target=_relay, args=(served.stdout, log, f"http://{_HOST}:{command[-1]}"), daemon=True)
    relay.start()
    try:
        served.wait()
    except KeyboardInterrupt:
        _say("stopping")
        served.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):  # who asks twice does not wait
            served.wait(_STOP_SECONDS)
        return 0
    else:
        _say(f"Dagster ended by itself; the end of {log} says why")
        return 1
    finally:
        _end_group(served)
        relay.join(_END_SECONDS)


def _relay(output: IO[str], log: Path, url: str) -> None:
    """Write all that Dagster says to a file; show people warnings, errors and what became of each run."""
    shown = True
    with log.open("w", encoding="utf-8") as file:
        for line in output:
            plain = _COLOUR.sub("", line)
            file.write(plain)
            file.flush()
            if record := _RECORD.match(plain):
                shown = record["level"] in ("WARNING", "ERROR", "CRITICAL")
                if record["message"].startswith("Serving dagster-webserver"):
                    _say(f"ready at {url}")
                if end := _RUN_END.match(record["message"]):
                    _say(f"{record['time']} {end['job']}: {end['end'].lower()}")
            if shown or plain.startswith("Traceback"):
                shown = True
                _say(plain.rstrip())


def _end_group(served: subprocess.Popen[str]) -> None:
    """End what is left of Dagster's processes; by SIGTERM first, so that runs record their end."""
    deadline = monotonic() + _END_SECONDS
    with suppress(ProcessLookupError):  # none is left
        os.killpg(served.pid, signal.SIGTERM)
        while monotonic() < deadline:
            served.poll()
            os.killpg(served.pid, 0)
            sleep(0.1)
        os.killpg(served.pid, signal.SIGKILL)
