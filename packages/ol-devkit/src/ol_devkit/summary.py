"""What a demo did: printed for people, or as JSON."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import dagster as dg
from ol_core.desired_state import failed_attempts, held_versions, latest_by_partition
from ol_core.tables import RawTableIOManager

from ol_devkit.daemon import FailedTick, FinishedRun

_QUARANTINE_SUFFIX = "__course_quarantine"


@dataclass(slots=True)
class Summary:
    """What a demo did and what stands after it.

    Attributes:
        data_dir: Where everything is.
        seconds: Wall time of the whole.
        up_to_date: Whether there was nothing to do.
        ok: Whether everything was built and nothing stands in quarantine.
        assets_materialized: Number of assets that got at least one materialization now.
        partitions_materialized: Number of materializations now, of partitioned assets one a partition.
        assets: For each asset, materializations now and partitions held.
        runs: What was run.
        failed: What could not be built: asset, partition, reason.
        quarantined: What in the archives could not be used: table, course, path, reason, detail.
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
) -> Summary:
    """Fill a summary from what was run and from what Dagster and the tables hold now."""
    runs = [outcome for outcome in outcomes if isinstance(outcome, FinishedRun)]
    now: dict[str, int] = {}
    for run in runs:
        for made, count in run.materialized.items():
            now[made] = now.get(made, 0) + count
    for definitions in locations.values():
        for key in sorted(definitions.resolve_asset_graph().materializable_asset_keys):
            name = key.to_user_string()
            held = latest_by_partition(instance, key)
            summary.assets[name] = {"materialized": now.get(name, 0), "partitions": len(held.keys() - {""})}
            summary.rows.update(_row_count(held))
            summary.failed += _failures(instance, key)
    summary.assets_materialized = sum(1 for count in now.values() if count)
    summary.partitions_materialized = sum(now.values())
    summary.runs = [asdict(run) for run in runs]
    summary.failed += _unexplained(runs, summary.failed)
    summary.failed += [
        {"asset": tick.sensor, "partition": "", "reason": tick.error}
        for tick in outcomes
        if isinstance(tick, FailedTick)
    ]
    summary.quarantined = list(_quarantined(locations.values(), summary.rows))
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
    """Return the partitions whose newest attempt failed, with the newest reason."""
    held = held_versions(instance, key)
    newest: dict[str, tuple[str, str]] = {}
    for (partition, version), errors in failed_attempts(instance, key).items():
        newest.setdefault(partition, (version, errors[0]))
    return [
        {"asset": key.to_user_string(), "partition": partition, "reason": reason}
        for partition, (version, reason) in sorted(newest.items())
        if held.get(partition) != version
    ]


def _unexplained(runs: Iterable[FinishedRun], failed: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return failed runs whose failure no partition's record explains."""
    reasons = [failure["reason"] for failure in failed]
    return [
        {"asset": run.job, "partition": "", "reason": run.error or "the run failed"}
        for run in runs
        if not run.success and not any(reason in run.error for reason in reasons)
    ]


def _quarantined(locations: Iterable[dg.Definitions], rows: Mapping[str, int]) -> Iterable[dict[str, Any]]:
    tables = next(
        resource
        for definitions in locations
        for resource in (definitions.resources or {}).values()
        if isinstance(resource, RawTableIOManager)
    )
    for name in sorted(rows):
        if name.endswith(_QUARANTINE_SUFFIX) and rows[name]:
            table = name.rpartition(".")[2]
            for row in tables.read(table).to_pylist():
                yield {"table": table, **row}
