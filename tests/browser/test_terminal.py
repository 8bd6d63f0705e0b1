"""What `ol dev` passes on of Dagster's output, and what it leaves to the log."""

import io
from pathlib import Path
from threading import Event

import pytest
from ol_devkit.dev import _relay

START = "2026-09-01 10:11:12 +0000 - "
RUN = "11111111-2222-3333-4444-555555555555 - 77"
FAILED_STEP = f"""\x1b[31m{START}dagster - ERROR - job - {RUN} - step - STEP_FAILURE - Execution of step failed.\x1b[0m

dagster._core.definitions.events.Failure: 1 of 3 partitions failed; the others are done
- course-v1:a+b+c: PermanentFailure: not a gzip stream

Stack Trace:
  File "execute_plan.py", line 243, in dagster_event_sequence_for_step
    yield from check.generator(step_events)
{START}dagster - ERROR - job - {RUN} - RUN_FAILURE - Execution of run for "job" failed. Steps failed: ['step'].

dagster._core.definitions.events.Failure: 1 of 3 partitions failed; the others are done
"""


def relayed(output: str, capsys: pytest.CaptureFixture[str], log: Path, *, stopping: bool = False) -> list[str]:
    told = Event()
    if stopping:
        told.set()
    _relay(io.StringIO(output), log, 3000, told)
    return capsys.readouterr().err.splitlines()


def test_ticks_and_events_stand_in_the_log_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = (
        f"{START}dagster.daemon.SensorDaemon - INFO - Checking for new runs for sensor: canvas_sweep\n"
        f"{START}dagster - DEBUG - job - {RUN} - step - STEP_START - Started execution of step.\nsaid by dbt\n"
    )

    assert relayed(output, capsys, tmp_path / "log") == []
    assert (tmp_path / "log").read_text() == output


def test_the_end_of_a_run_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = f"{START}dagster - DEBUG - job - {RUN} - RUN_SUCCESS - Finished execution of run.\n"

    assert relayed(output, capsys, tmp_path / "log") == ["10:11:12 job: success"]


def test_an_error_is_told_once_and_without_its_stack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert relayed(FAILED_STEP, capsys, tmp_path / "log") == [
        f"{START}dagster - ERROR - job - {RUN} - step - STEP_FAILURE - Execution of step failed.",
        "dagster._core.definitions.events.Failure: 1 of 3 partitions failed; the others are done",
        "- course-v1:a+b+c: PermanentFailure: not a gzip stream",
        f"10:11:12 job: failure, see http://127.0.0.1:3000/runs/{RUN.partition(' ')[0]}",
    ]
    assert "dagster_event_sequence_for_step" in (tmp_path / "log").read_text()


def test_a_process_that_breaks_is_heard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = (
        f"{START}dagster - INFO - Launching Dagster services...\n"
        'Traceback (most recent call last):\n  File "x.py", line 1, in <module>\nImportError: no such module\n'
        "  and why\n"
    )

    assert relayed(output, capsys, tmp_path / "log") == ["ImportError: no such module", "  and why"]


def test_what_is_interrupted_is_not_heard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = f"{START}dagster - ERROR - job - {RUN} - RUN_CANCELED - Execution of run canceled\n"

    heard = relayed(FAILED_STEP + output, capsys, tmp_path / "log", stopping=True)

    assert [line.rpartition("/")[0] for line in heard] == [
        f"10:11:12 job: {end}, see http://127.0.0.1:3000/runs" for end in ("failure", "canceled")
    ]
