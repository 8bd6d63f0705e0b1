"""A server as a child process: started, waited for, stopped, and killed where it does not stop."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Self


class ServerUnavailable(RuntimeError):
    """The server is not installed, or did not start; the message says which and shows the end of its log."""


def free_ports(count: int) -> list[int]:
    """Return distinct loopback ports that nobody listens on at this moment."""
    with ExitStack() as stack:
        probes = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def find_command(name: str, *, package: str, elsewhere: Iterable[Path] = ()) -> str:
    """Return the path of a command beside this Python, on PATH, or in one of the folders `elsewhere`.

    Raises:
        ServerUnavailable: it is not installed; `package` brings it.
    """
    beside = Path(sys.executable).with_name(name)
    candidates = (shutil.which(name), *(shutil.which(name, path=folder) for folder in elsewhere))
    found = str(beside) if beside.exists() else next(filter(None, candidates), None)
    if found is None:
        raise ServerUnavailable(f"the command {name} is not installed; {package} brings it")
    return found


@contextmanager
def running(
    command: Sequence[str],
    *,
    log: Path,
    ready: Callable[[], bool],
    environment: Mapping[str, str] | None = None,
    timeout_seconds: float = 60.0,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends.

    Args:
        command: Program and arguments.
        log: File for what it prints.
        ready: Whether it answers; an `OSError` counts as no.
        environment: Variables beside PATH and HOME (the log's folder).
        timeout_seconds: How long it may take to be ready.

    Raises:
        ServerUnavailable: it ended, or was not ready in time.
    """
    variables = {"PATH": os.environ.get("PATH", ""), "HOME": str(log.parent), **(environment or {})}
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=variables, stdout=output, stderr=output)  # noqa: S603 - our own servers
    try:
        _wait(process, log, ready, timeout_seconds)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Restartable:
    """A server that can be stopped, and started again, while the block that it was made in runs.

    Args:
        start: Runs it until the block ends, as `running` does.
        stop_signal: Ends it though clients are connected.
    """

    def __init__(
        self, start: Callable[[], AbstractContextManager["subprocess.Popen[bytes]"]], *, stop_signal: signal.Signals
    ) -> None:
        self._start, self._stop_signal = start, stop_signal
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = self._stack.enter_context(self._start())

    def stop(self) -> None:
        """Stop it; whoever is connected is cut off. Nothing where it does not run."""
        if self._process.poll() is None:
            self._process.send_signal(self._stop_signal)
            with suppress(subprocess.TimeoutExpired):  # it is killed below
                self._process.wait(15)
        self._stack.close()

    def restart(self) -> None:
        """Stop it and start it again, on the same port."""
        self.stop()
        self.start()


def _wait(process: subprocess.Popen[bytes], log: Path, ready: Callable[[], bool], timeout_seconds: float) -> None:
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if ready():
                return
        except OSError:  # nobody listens yet
            pass
        time.sleep(0.1)
    state = "is not ready" if process.poll() is None else f"ended with code {process.returncode}"
    tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
    raise ServerUnavailable(
        f"{process.args!s} {state} after at most {timeout_seconds:.0f} s; the end of its log:\n{tail}"
    )
