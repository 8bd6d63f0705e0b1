"""A tick of the sensor that tells failures."""

import base64
import json
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import dagster as dg

from ol_core.dagster_storage import EndingCount, count_endings, newest_tag_id, sample_event_ids, tag_run
from ol_core.failures import OlError, TransientFailure
from ol_core.orchestration.alerts.messages import Alert
from ol_core.orchestration.alerts.sinks import AlertSink
from ol_core.orchestration.desired_state import (
    FAILURE_PATTERN,
    FAILURES,
    RUN_TAG,
    SETTLED_TAG,
    WANTED_VERSION_TAG,
    Step,
    as_version,
    failed_attempt,
    observations_since,
)

LAG_CHECK = "alert_lag"
"""Name of the asset check that says how old the oldest failure is that nobody was told of."""

DELIVERY_TAG = "ol/delivery_id"
"""On an observation of a location's alerts: the message that is about to be told."""

_SAMPLE = 5
_LOOK_BACK_ROWS = 500_000  # without a cursor: as far back as either bound
_LOOK_BACK_SECONDS = 3600
_GRACE_SECONDS = 10
_TICK_SECONDS = 30.0
_UNTOLD = 200
_RUNS = 20


@dataclass(frozen=True, slots=True)
class AlertPlan:
    """What a location tells.

    Attributes:
        location: Name of the code location.
        environment: Name of the environment.
        steps: Steps whose failures are told.
        window_seconds: Failures of one step and kind within so many seconds are one message.
        whole_runs: Steps whose attempts are runs, and whose sensors record none: those that failed are recorded here.
    """

    location: str
    environment: str
    steps: Sequence[Step]
    window_seconds: int
    whole_runs: Sequence[Step] = ()

    @property
    def asset_key(self) -> dg.AssetKey:
        """The asset whose observations are the messages."""
        return dg.AssetKey(["alerts", self.location])

    @property
    def limit_seconds(self) -> int:
        """How old an untold failure may become: its window has to close, and as long again."""
        return 2 * self.window_seconds


@dataclass(frozen=True, slots=True)
class _Cursor:
    """Where the alerts are.

    Attributes:
        after_id: Place in the storage before which all failures are counted.
        since: Unix seconds before which all failures are counted; 0 before the first look.
        late: Whether the check says that something is untold for too long.
        untold: Messages that were not taken, and how often they were told.
    """

    after_id: int = 0
    since: int = 0
    late: bool = False
    untold: Sequence[tuple[Alert, int]] = ()

    @classmethod
    def parse(cls, text: str | None) -> "_Cursor":
        try:
            stated = json.loads(text or "{}")
            packed = stated.pop("untold", "")
            untold = json.loads(zlib.decompress(base64.b85decode(packed))) if packed else []
            return cls(**stated, untold=[(Alert(**alert), int(times)) for alert, times in untold])
        except (ValueError, TypeError, AttributeError, zlib.error):
            return cls()

    def __str__(self) -> str:
        untold = json.dumps([(alert.fields, times) for alert, times in self.untold]).encode()
        packed = base64.b85encode(zlib.compress(untold)).decode() if self.untold else ""
        return json.dumps({"after_id": self.after_id, "since": self.since, "late": self.late, "untold": packed})


def alert_tick(context: dg.SensorEvaluationContext, plan: AlertPlan, sink: AlertSink) -> dg.SensorResult:
    """Tell the failures of each window that has closed, and what was not taken before.

    Args:
        context: Of the sensor.
        plan: What the location tells.
        sink: Whom.
    """
    instance, now, cursor = context.instance, time.time(), _Cursor.parse(context.cursor)
    for step in plan.whole_runs:
        _record_failed_runs(instance, step)
    counts, after_id, since = _counted(instance, plan, cursor, now)
    due = [(alert, times) for alert, times in cursor.untold if not times or since > cursor.since]  # once a window
    alerts = [*due, *((_alert(instance, plan, one), 0) for one in counts)]
    untold = [one for one in cursor.untold if one not in due]
    untold += _told(context, plan, sink, alerts) if alerts else []
    if len(untold) > _UNTOLD:
        context.log.error("%d messages are given up; all stand at %s", len(untold) - _UNTOLD, plan.asset_key)
    evaluation = lag(plan, [alert for alert, _ in untold], now)
    return dg.SensorResult(
        skip_reason=f"{len(alerts)} messages were due; {len(untold)} are to be told again",
        cursor=str(_Cursor(after_id, since, not evaluation.passed, untold[-_UNTOLD:])),
        asset_events=[evaluation] if evaluation.passed is cursor.late else [],
    )


def untold_failures(instance: dg.DagsterInstance, plan: AlertPlan) -> list[Alert]:
    """Return what the closed windows hold that was never written down, as far back as the storage is searched."""
    now = time.time()
    counts, _, _ = _counted(instance, plan, _Cursor(), now)
    written = set(_written(instance, plan, now - _look_back_seconds(plan) - 2 * plan.window_seconds))
    alerts = [_alert(instance, plan, one, limit=0) for one in counts]
    return [alert for alert in alerts if alert.delivery_id not in written]


def lag(plan: AlertPlan, untold: Sequence[Alert], now: float) -> dg.AssetCheckEvaluation:
    """Return the check's evaluation: how old the oldest unreported failure is."""
    age = max((now - alert.first_at for alert in untold), default=0.0)
    return dg.AssetCheckEvaluation(
        asset_key=plan.asset_key,
        check_name=LAG_CHECK,
        passed=age <= plan.limit_seconds,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{len(untold)} alerts not delivered; the oldest failure is {age:.0f} s old",
        metadata={
            "untold": dg.MetadataValue.int(len(untold)),
            "oldest_seconds": dg.MetadataValue.float(round(age, 1)),
            "limit_seconds": dg.MetadataValue.int(plan.limit_seconds),
        },
    )


def _look_back_seconds(plan: AlertPlan) -> int:
    """Return how far back failures are looked for where there is no cursor, in whole windows."""
    return max(4, _LOOK_BACK_SECONDS // plan.window_seconds) * plan.window_seconds


def _counted(
    instance: dg.DagsterInstance, plan: AlertPlan, cursor: _Cursor, now: float
) -> tuple[list[EndingCount], int, int]:
    """Return the counts of the windows that closed, and from where to count the next time."""
    window = plan.window_seconds
    open_since = int(now - _GRACE_SECONDS) // window * window
    since = cursor.since or open_since - _look_back_seconds(plan)
    after_id = cursor.after_id or max(0, newest_tag_id(instance) - _LOOK_BACK_ROWS)
    counts, newest = count_endings(
        instance,
        [step.asset_key for step in (*plan.steps, *plan.whole_runs)],
        FAILURE_PATTERN,
        after_id=after_id,
        since=since,
        window_seconds=window,
    )
    closed = [one for one in counts if one.window * window < open_since]
    still_open = [one.first_id - 1 for one in counts if one.window * window >= open_since]
    return closed, min([*still_open, newest]), open_since


def _record_failed_runs(instance: dg.DagsterInstance, step: Step) -> None:
    failed = dg.RunsFilter(job_name=step.job_name, statuses=[dg.DagsterRunStatus.FAILURE])
    for run in instance.get_runs(failed, limit=_RUNS):
        if SETTLED_TAG not in run.tags:
            version = as_version(run.tags.get(WANTED_VERSION_TAG, run.run_id))
            error = TransientFailure(f"run {run.run_id} failed; its own page says why")
            instance.report_runless_asset_event(
                failed_attempt(step.asset_key, "", version, error, tags={RUN_TAG: run.run_id})
            )
            tag_run(instance, run.run_id, {SETTLED_TAG: "told"})


def _told(
    context: dg.SensorEvaluationContext, plan: AlertPlan, sink: AlertSink, alerts: Sequence[tuple[Alert, int]]
) -> Iterator[tuple[Alert, int]]:
    """Tell messages; yield those that are to be told again, and how often they were told."""
    deadline = time.monotonic() + _TICK_SECONDS
    written = Counter(_written(context.instance, plan, float(min(alert.window_start for alert, _ in alerts))))
    for alert, times in alerts:
        if written[alert.delivery_id] > times:
            context.log.warning("message %s may not have arrived: its process was killed", alert.delivery_id)
        elif time.monotonic() > deadline:
            yield alert, times
        else:
            context.instance.report_runless_asset_event(_message(plan, alert))
            try:
                sink.tell(alert, context.log)
            except OlError as error:
                context.log.warning("message %s was not taken: %s", alert.delivery_id, error)
                yield alert, times + 1


def _written(instance: dg.DagsterInstance, plan: AlertPlan, since: float) -> Iterator[str]:
    for record in observations_since(instance, plan.asset_key, since):
        event = record.asset_observation
        if event is not None and DELIVERY_TAG in event.tags:
            yield event.tags[DELIVERY_TAG]


def _message(plan: AlertPlan, alert: Alert) -> dg.AssetObservation:
    return dg.AssetObservation(
        plan.asset_key,
        description=str(alert),
        metadata={name: _shown(value) for name, value in alert.fields.items()},
        tags={DELIVERY_TAG: alert.delivery_id},
    )


def _shown(value: object) -> dg.MetadataValue:
    if isinstance(value, int):
        return dg.MetadataValue.int(value)
    return dg.MetadataValue.json(list(value)) if isinstance(value, tuple) else dg.MetadataValue.text(str(value))


def _alert(instance: dg.DagsterInstance, plan: AlertPlan, counted: EndingCount, *, limit: int = _SAMPLE) -> Alert:
    step = next(step for step in (*plan.steps, *plan.whole_runs) if step.asset_key.to_string() == counted.asset_key)
    partitions, run_ids = _sample(instance, plan, step, counted, limit=limit) if limit else ((), ())
    kinds = {ending: kind.__name__ for ending, kind in FAILURES.items()}
    return Alert(
        environment=plan.environment,
        location=plan.location,
        step=step.job_name,
        asset=step.asset_key.to_user_string(),
        error=kinds[counted.ending],  # type: ignore[index]  # the pattern allows these letters only
        window_start=counted.window * plan.window_seconds,
        window_seconds=plan.window_seconds,
        count=counted.count,
        first_at=counted.first_at,
        last_at=counted.last_at,
        partitions=partitions,
        run_ids=run_ids,
    )


def _sample(
    instance: dg.DagsterInstance, plan: AlertPlan, step: Step, counted: EndingCount, *, limit: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    ids = sample_event_ids(instance, counted, FAILURE_PATTERN, window_seconds=plan.window_seconds, limit=limit)
    some = dg.AssetRecordsFilter(asset_key=step.asset_key, storage_ids=ids)
    records = instance.fetch_observations(some, limit=limit).records if ids else []
    runs = (record.asset_observation.tags.get(RUN_TAG, record.run_id) for record in records if record.asset_observation)
    partitions = (record.partition_key for record in records if record.partition_key)
    return tuple(dict.fromkeys(partitions)), tuple(dict.fromkeys(run for run in runs if run))
