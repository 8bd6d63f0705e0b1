"""What is judged: real Dagster definitions, what of them ticks, and how to read what became of their partitions."""

import base64
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import dagster as dg
from ol_core.failures import PermanentFailure
from ol_core.orchestration.desired_state import AttemptPolicy, held_versions, outcomes

from ol_devkit.daemon import evaluate

Event = dg.AssetMaterialization | dg.AssetObservation

_DAGSTERS_OWN = "default_automation_condition_sensor"
"""Sensor that Dagster adds for conditions that no sensor covers."""


class Ticker(Protocol):
    """What the daemon evaluates again and again."""

    @property
    def name(self) -> str:
        """What a tick of it is called."""

    @property
    def interval_seconds(self) -> float:
        """Shortest time between two ticks."""

    def evaluate(self, instance: dg.DagsterInstance, cursor: str | None) -> dg.SensorResult:
        """Evaluate a tick; whatever it raises is the tick's failure."""


@dataclass(frozen=True, slots=True)
class SensorTicker:
    """A sensor of the definitions."""

    definitions: dg.Definitions
    sensor: dg.SensorDefinition

    @property
    def name(self) -> str:
        """Name of the sensor."""
        return self.sensor.name

    @property
    def interval_seconds(self) -> float:
        """Its own, or Dagster's."""
        return _interval(self.sensor)

    def evaluate(self, instance: dg.DagsterInstance, cursor: str | None) -> dg.SensorResult:
        """Evaluate the sensor."""
        return evaluate(instance, self.definitions, self.sensor, cursor=cursor)


class ConditionTicker:
    """The automation conditions of some assets; one run per job and partition, of the assets that are requested.

    Args:
        definitions: The definitions.
        jobs: The job that makes each asset.
        name: What a tick is called.
        interval_seconds: Shortest time between two ticks.
        run_tags: Tags of each run.
    """

    def __init__(
        self,
        definitions: dg.Definitions,
        jobs: Mapping[dg.AssetKey, str],
        *,
        name: str = "automation conditions",
        interval_seconds: float = 30.0,
        run_tags: Mapping[str, str] = {},
    ) -> None:
        self.name, self.interval_seconds = name, interval_seconds
        self._definitions, self._jobs, self._run_tags = definitions, jobs, run_tags

    @property
    def keys(self) -> set[dg.AssetKey]:
        """Assets whose conditions it evaluates."""
        graph = self._definitions.resolve_asset_graph()
        return {key for key in self._jobs if graph.get(key).automation_condition is not None}

    @classmethod
    def of(cls, definitions: dg.Definitions, sensor: dg.AutomationConditionSensorDefinition) -> "ConditionTicker":
        """Return the ticker of a sensor of conditions, which only Dagster's daemon evaluates.

        Raises:
            PermanentFailure: it has a condition for assets without one, which only a code server evaluates.
        """
        if sensor.default_condition is not None:
            raise PermanentFailure(
                f"{sensor.name} has a default condition, which cannot be simulated; "
                "state the condition on the assets instead"
            )
        keys = sensor.asset_selection.resolve(definitions.resolve_asset_graph())
        job = definitions.resolve_implicit_global_asset_job_def().name
        return cls(
            definitions,
            dict.fromkeys(sorted(keys), job),
            name=sensor.name,
            interval_seconds=_interval(sensor),
            run_tags=sensor.run_tags,
        )

    def evaluate(self, instance: dg.DagsterInstance, cursor: str | None) -> dg.SensorResult:
        """Evaluate the conditions."""
        evaluated = dg.evaluate_automation_conditions(
            self._definitions,
            instance,
            dg.AssetSelection.assets(*self._jobs),
            cursor=self._cursor(cursor),
        )
        graph, chosen = self._definitions.resolve_asset_graph(), defaultdict[tuple[str, str], set[dg.AssetKey]](set)
        for key, job in self._jobs.items():
            for partition in sorted(one or "" for one in evaluated.get_requested_partitions(key)):
                chosen[job, partition] |= graph.get(key).execution_set_asset_keys
        requests = [
            dg.RunRequest(
                job_name=job, partition_key=partition or None, asset_selection=sorted(keys), tags=self._run_tags
            )
            for (job, partition), keys in chosen.items()
        ]
        packed = base64.b64encode(zlib.compress(dg.serialize_value(evaluated.cursor).encode()))  # as Dagster keeps it
        return dg.SensorResult(run_requests=requests, cursor=packed.decode())

    @staticmethod
    def _cursor(text: str | None) -> Any:  # noqa: ANN401 - Dagster does not export its type
        return None if text is None else dg.deserialize_value(zlib.decompress(base64.b64decode(text)).decode())


@dataclass(frozen=True, slots=True)
class Subject:
    """Definitions under judgement, over the partitions of one asset.

    Attributes:
        name: What it is called.
        definitions: The definitions; their source is simulated.
        asset_key: The asset whose partitions must hold what the source has.
        job: The job that makes it.
        partitions: Name of its dynamic partitions.
        tickers: What the daemon evaluates.
        wanted: The version that is wanted of a partition where the source has this one.
        seeds: Makes the events which say that a partition holds a version that is wanted of it.
        held: Reads which version (as wanted) each partition holds.
        given_up: Reads which partitions need a person, and the version (as wanted) that cannot be had.
        listed: Makes the events which say that what the source lists is held as well.
        calls_per_version: Most calls of its source by which a sweep learns one partition's version.
    """

    name: str
    definitions: dg.Definitions
    asset_key: dg.AssetKey
    job: str
    partitions: str
    tickers: Sequence[Ticker]
    wanted: Callable[[str, str], str]
    seeds: Callable[[str, str], Iterator[Event]]
    held: Callable[[dg.DagsterInstance], Mapping[str, str]]
    given_up: Callable[[dg.DagsterInstance], Mapping[str, str]]
    listed: Callable[[], Iterable[Event]] = lambda: ()
    calls_per_version: int = 1


def sensors_of(definitions: dg.Definitions, names: Collection[str] = ()) -> list[Ticker]:
    """Return what ticks the sensors of these definitions that are called so; all without a name.

    Conditions that no sensor covers have the one that Dagster adds.

    Raises:
        PermanentFailure: there is nothing to tick, none is called so, or it cannot be simulated.
    """
    sensors = {one.name: one for one in definitions.sensors or []}
    every = definitions.get_repository_def().sensor_defs
    sensors |= {one.name: one for one in every if one.name not in sensors}
    unknown = set(names) - sensors.keys()
    if unknown or not sensors:
        raise PermanentFailure(
            f"no sensor is called {', '.join(sorted(unknown))}; valid are {', '.join(sensors) or 'none'}"
            if unknown
            else "the definitions have neither a sensor nor an automation condition, so nothing would tick"
        )
    return [
        ConditionTicker.of(definitions, one)
        if isinstance(one, dg.AutomationConditionSensorDefinition)
        else SensorTicker(definitions, one)
        for one in sensors.values()
        if not names or one.name in names
    ]


def each_once(tickers: Sequence[Ticker]) -> list[Ticker]:
    """Leave out the sensor that Dagster adds where other tickers evaluate all of its conditions."""
    conditions = [one for one in tickers if isinstance(one, ConditionTicker)]
    stated = {key for one in conditions if one.name != _DAGSTERS_OWN for key in one.keys}
    spare = [one for one in conditions if one.name == _DAGSTERS_OWN and one.keys <= stated]
    return [one for one in tickers if one not in spare]


def _interval(sensor: dg.SensorDefinition) -> float:
    return float(sensor.minimum_interval_seconds or 30)


def held_by_outcome(asset_key: dg.AssetKey) -> Callable[[dg.DagsterInstance], Mapping[str, str]]:
    """Return how to read the versions held where `ol_core.orchestration.desired_state` records them."""
    return lambda instance: held_versions(instance, asset_key)


def given_up_by_outcome(
    asset_key: dg.AssetKey, policy: AttemptPolicy
) -> Callable[[dg.DagsterInstance], Mapping[str, str]]:
    """Return how to read which partitions have no attempt left at the version that was tried last."""
    return lambda instance: {
        partition: outcome.version
        for partition, outcome in outcomes(instance, asset_key).items()
        if outcome.failed and not policy.may_try(outcome, outcome.version)
    }
