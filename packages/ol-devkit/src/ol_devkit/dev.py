"""`ol dev`: the whole platform in the browser."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep
from typing import IO

import click
from ol_core import code_locations
from ol_core.cli import workspace_yaml
from ol_core.environment import Settings, load_environment
from ol_core.failures import PermanentFailure

from ol_devkit.sandbox import CampusChoice, make_home, sandbox, set_pools

DEFAULT_COURSES = 6
LOG_NAME = "dev.log"
"""All that Dagster's processes say; below the data folder."""

_HOST = "127.0.0.1"
_STOP_SECONDS = 30
_END_SECONDS = 5
_QUIET = "ignore:Function `dev_command` is superseded"  # by `dg dev`, which serves a project folder, not packages
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_RECORD = re.compile(r"\S+ (?P<time>\S+) \S+ - \S+ - (?P<level>[A-Z]+) - (?P<message>.*)")
_RUN_END = re.compile(r"(?P<job>\S+) - (?P<run>\S+) - \d+ - RUN_(?P<end>SUCCESS|FAILURE|CANCELED) - ")
_SHOWN_LEVELS = ("WARNING", "ERROR", "CRITICAL")
_TOLD_TWICE = (" failed. Steps failed: ", " - Sensor tick caught an error")


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
    with _sources(folder, choice) as (sources, runs_are_ours):
        workspace = folder / "workspace.yaml"
        workspace.write_text(workspace_yaml(locations), encoding="utf-8")
        _say(f"{', '.join(one.name for one in locations)} on {sources}")
        _say(f"data in {folder}; all that Dagster says goes to {folder / LOG_NAME}")
        _say("starting, which takes about half a minute; Ctrl-C stops")
        command = [sys.executable, "-m", "dagster", "dev", "-w", str(workspace), "-h", _HOST, "-p", str(port)]
        code = _serve(command, port, log=folder / LOG_NAME, before_end=_cancel_runs if runs_are_ours else None)
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
def _sources(folder: Path, choice: CampusChoice) -> Iterator[tuple[str, bool]]:
    """Set the environment of the code locations, with a campus unless sources are configured.

    Yields:
        What they read, in words; and whether no other process runs anything on Dagster's instance.
    """
    settings = Settings()
    home = folder / "dagster"
    if settings.environment_file is None and settings.name == "dev":
        with sandbox(folder, choice.remembered(folder).content(DEFAULT_COURSES)) as campus:
            _start_afresh()
            yield f"a simulated campus at {campus.url}", True
        return
    environment = load_environment()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OL_DATA_DIR", str(folder))
    if "DAGSTER_HOME" not in os.environ:  # else the instance is somebody's who sets its pools
        make_home(home)
        os.environ["DAGSTER_HOME"] = str(home)
        set_pools()
    yield f"the sources of {settings.environment_file} ({environment.name})", False


def _start_afresh() -> None:
    """Give up what an earlier process left, and let each sensor look at once, not an interval after its last look."""
    import dagster as dg

    from ol_devkit.daemon import give_up_unfinished

    with dg.DagsterInstance.get() as instance:
        if left := give_up_unfinished(instance):
            _say(f"{left} runs were never finished; what they left undone is requested again")
        for state in instance.all_instigator_state():
            touched = state.status.value != "DECLARED_IN_CODE" or getattr(state.instigator_data, "cursor", None)
            if not touched:  # by a person, who switched it on or off, or by the sensor itself
                instance.delete_instigator_state(state.instigator_origin_id, state.selector_id)


def _cancel_runs() -> None:
    """Mark the runs that are about to be interrupted as canceled by a person, so that none is a failed attempt."""
    import dagster as dg
    from ol_core.dagster_storage import tag_run
    from ol_core.orchestration.desired_state import GIVEN_UP_TAG

    statuses = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
    with dg.DagsterInstance.get() as instance:
        for run in instance.get_runs(dg.RunsFilter(statuses=statuses)):
            tag_run(instance, run.run_id, {GIVEN_UP_TAG: "ol dev stopped"})
            instance.report_run_canceling(run)


def _serve(command: Sequence[str], port: int, *, log: Path, before_end: Callable[[], None] | None) -> int:
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
    stopping = Event()
    relay = Thread(target=_relay, args=(served.stdout, log, port, stopping), daemon=True)
    relay.start()
    try:
        served.wait()
    except KeyboardInterrupt:
        _say("stopping")
        stopping.set()
        with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):  # who asks twice does not wait
            served.send_signal(signal.SIGINT)
            served.wait(_STOP_SECONDS)
            if before_end:
                before_end()
        return 0
    else:
        _say(f"Dagster ended by itself; the end of {log} says why")
        return 1
    finally:
        _end_group(served)
        relay.join(_END_SECONDS)


def _relay(output: IO[str], log: Path, port: int, stopping: Event) -> None:
    """Write all that Dagster says to a file; show people warnings, errors and what became of each run.

    Where in the code an error was raised stands in the file only. What is interrupted complains at length, so once
    Dagster is told to stop only the end of each run is shown.
    """
    shown, repeated, in_trace = True, False, False
    with log.open("w", encoding="utf-8") as file:
        for line in output:
            plain = _COLOUR.sub("", line).rstrip()
            file.write(f"{plain}\n")
            file.flush()
            if record := _RECORD.match(plain):
                if news := _news(record, port):
                    _say(news)
                repeated = any(message in plain for message in _TOLD_TWICE)
                shown = record["level"] in _SHOWN_LEVELS and not repeated
            if not plain.startswith(" "):
                in_trace = plain.startswith(("Traceback", "Stack Trace:"))
            if plain.startswith("Traceback") and not repeated:  # also of a process that can say no more
                shown = True
            if plain and shown and not in_trace and not stopping.is_set():
                _say(plain)


def _news(record: re.Match[str], port: int) -> str | None:
    """Say in a line what a person waits for: that the server is up, that a run has ended."""
    url = f"http://{_HOST}:{port}"
    if record["message"].startswith("Serving dagster-webserver"):
        _wait_until_open(port)
        return f"ready at {url}"
    end = _RUN_END.match(record["message"])
    if end is None:
        return None
    where = "" if end["end"] == "SUCCESS" else f", see {url}/runs/{end['run']}"
    return f"{record['time']} {end['job']}: {end['end'].lower()}{where}"


def _wait_until_open(port: int) -> None:
    """Wait a few seconds at most: the server announces itself just before it listens."""
    deadline = monotonic() + _END_SECONDS
    while monotonic() < deadline:
        with suppress(OSError), socket.create_connection((_HOST, port), timeout=1):
            return
        sleep(0.1)


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
