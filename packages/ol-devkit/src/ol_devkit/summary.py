"""What a demo did: printed for people, or as JSON."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
from ol_core.environment import RAW_NAMESPACE
from ol_core.orchestration.desired_state import failure_reasons, latest_by_partition
from ol_core.orchestration.desired_state import outcomes as outcomes_of
from ol_core.tables import RawTableIOManager

from ol_devkit.daemon import FailedTick, FinishedRun, failure_reason

_QUARANTINE_SUFFIX = "__course_quarantine"
_PARTITIONS_BLAMED = "failed"
"""Label of the metadata with which `ol_core.orchestration.desired_state.recorded` fails a run."""


@dataclass(slots=True)
class Summary:
    """What a demo did and what stands after it.

    Attributes:
        data_dir: Where everything is.
        seconds: Wall time of the whole.
        up_to_date: Whether there was nothing to do.
        ok: Whether everything was built and nothing stands in quarantine.
        assets_materialized: Number of assets that got at least one materialization now.
        partitions_materialized: Number of materializations now, of partitioned assets one per partition.
        assets: For each asset, materializations now and partitions held.
        runs: What was run.
        failed: What could not be built: asset (or job, or sensor), partition, reason, and where there is one the
            archive that the campus served.
        quarantined: What in the archives could not be used: table, course, path, reason, detail, archive.
        rows: Rows of each table, raw and built.
        webhooks: Deliveries that the receiver got, and how many it could verify.
        paths: Where to look.
    """

    data_dir: str
    seconds: float = 0.0
    up_to_date: bool = False
    ok: bool = False
    assets_materialized: int = 0
    partitions_materialized: int = 0
    assets: dict[str, dict[str, int]] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    quarantined: list[dict[str, Any]] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    webhooks: dict[str, int] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the summary as a JSON object."""
        return asdict(self)


def summarize(
    summary: Summary,
    instance: dg.DagsterInstance,
    locations: Mapping[str, dg.Definitions],
    outcomes: Sequence[FinishedRun | FailedTick],
    *,
    served: Mapping[str, Path | None],
) -> Summary:
    """Fill a summary from what was run and from what Dagster and the tables hold now.

    Args:
        summary: What is filled.
        instance: Where runs and events are recorded.
        locations: Loaded code locations by name.
        outcomes: What was run now.
        served: Courses that the sources have, by id, each with its file where it comes from one. Of a course that
            they no longer have, a failure is past.
    """
    runs = [outcome for outcome in outcomes if isinstance(outcome, FinishedRun)]
    now: dict[str, int] = {}
    for run in runs:
        for made, count in run.materialized.items():
            now[made] = now.get(made, 0) + count
    built: set[str] = set()
    for definitions in locations.values():
        for key in sorted(definitions.resolve_asset_graph().materializable_asset_keys):
            name = key.to_user_string()
            held = latest_by_partition(instance, key)
            built |= held.keys()
            summary.assets[name] = {"materialized": now.get(name, 0), "partitions": len(held.keys() - {""})}
            summary.rows.update(_row_count(held))
            summary.failed += [failure for failure in _failures(instance, key) if failure["partition"] in served]
    summary.assets_materialized = sum(1 for count in now.values() if count)
    summary.partitions_materialized = sum(now.values())
    summary.runs = [asdict(run) for run in runs]
    summary.failed += [
        {"asset": "", "partition": course, "reason": "the source lists it, and nothing of it was built; see the log"}
        for course in sorted(served.keys() - built - {failure["partition"] for failure in summary.failed})
    ]
    summary.failed += _broken_runs(instance)
    summary.failed += [
        {"asset": tick.sensor, "partition": "", "reason": tick.error}
        for tick in outcomes
        if isinstance(tick, FailedTick)
    ]
    tables = _raw_tables(locations.values())
    for table in tables.snapshots():
        summary.rows.setdefault(f"{RAW_NAMESPACE}.{table}", 0)  # those that no course was written to
    summary.quarantined = list(_quarantined(tables, summary.rows))
    for entry in [*summary.failed, *summary.quarantined]:
        if (archive := served.get(entry.get("partition") or entry.get("course_id") or "")) is not None:
            entry["archive"] = str(archive)
    summary.up_to_date = not outcomes
    summary.ok = not summary.failed and not summary.quarantined
    return summary


def _row_count(held: Mapping[str, dg.AssetMaterialization]) -> dict[str, int]:
    newest = next(iter(held.values()), None)
    if newest is None or "dagster/row_count" not in newest.metadata:
        return {}
    table = newest.metadata.get("dagster/table_name")
    name = str(table.value) if table else newest.asset_key.to_user_string().replace("/", ".")
    return {name: int(str(newest.metadata["dagster/row_count"].value))}


def _failures(instance: dg.DagsterInstance, key: dg.AssetKey) -> list[dict[str, str]]:
    """Return the partitions whose newest attempt failed, with its reason."""
    failed = [partition for partition, outcome in outcomes_of(instance, key).items() if outcome.failed]
    reasons = failure_reasons(instance, key, failed) if failed else {}
    return [
        {"asset": key.to_user_string(), "partition": partition, "reason": reason}
        for partition, reason in sorted(reasons.items())
    ]


def _broken_runs(instance: dg.DagsterInstance) -> Iterator[dict[str, str]]:
    """Yield, for each job and stretch of partitions, its newest run where it broke without blaming a partition."""
    statuses = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
    newest: dict[tuple[str, ...], dg.DagsterRun] = {}
    for run in instance.get_runs(dg.RunsFilter(statuses=statuses)):
        stretch = (run.tags.get(f"dagster/asset_partition_range_{end}", "") for end in ("start", "end"))
        newest.setdefault((run.job_name, *stretch), run)
    for (job, first, last), run in sorted(newest.items()):
        if run.is_failure and (reason := _breakage(instance, run)):
            yield {"asset": job, "partition": first if first == last else f"{first}...{last}", "reason": reason}


def _breakage(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """Return why a run failed; nothing where the record of each partition says it (see `recorded`)."""
    failures = [
        entry.dagster_event.step_failure_data
        for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        if entry.dagster_event
    ]
    if not failures:
        return f"run {run.run_id} failed before its first step; see its log in Dagster"
    return "\n".join(
        failure_reason(failure)
        for failure in failures
        if failure.user_failure_data is None or _PARTITIONS_BLAMED not in failure.user_failure_data.metadata
    )


def _raw_tables(locations: Iterable[dg.Definitions]) -> RawTableIOManager:
    return next(
        resource
        for definitions in locations
        for resource in (definitions.resources or {}).values()
        if isinstance(resource, RawTableIOManager)
    )


def _quarantined(tables: RawTableIOManager, rows: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    for name in sorted(rows):
        if name.endswith(_QUARANTINE_SUFFIX) and rows[name]:
            table = name.rpartition(".")[2]
            for row in tables.read(table).to_pylist():
                yield {"table": table, **row}
