"""What any package may define: sensors in every form in which Dagster takes them, and automation conditions."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg
import pytest
from ol_core.failures import PermanentFailure
from ol_devkit.simulator import ConditionTicker, Simulation, Subject, memory, sensors_of, sqlite, staged
from ol_devkit.simulator.clock import FakeClock
from ol_devkit.simulator.stage import OpenStorage
from ol_devkit.simulator.subject import Ticker

PARTITIONS = dg.DynamicPartitionsDefinition(name="toys")
WHERE_MISSING = dg.AutomationCondition.missing().newly_true()


@dg.asset(partitions_def=PARTITIONS)
def toy() -> None: ...


@dg.asset
def box() -> None: ...


WITH_CONDITIONS = dg.map_asset_specs(
    lambda spec: spec.replace_attributes(automation_condition=WHERE_MISSING), [toy, box]
)


@dg.asset
def never_wanted() -> None:
    raise AssertionError


JOBS = [dg.define_asset_job("toys", selection=[toy]), dg.define_asset_job("boxes", selection=[box])]


def defined(*sensors: dg.SensorDefinition, made: Sequence[Any] = (toy, box)) -> dg.Definitions:
    return dg.Definitions(assets=[*made, never_wanted], jobs=JOBS, sensors=sensors, executor=dg.in_process_executor)


@contextmanager
def simulated(
    definitions: dg.Definitions, *tickers: Ticker, partitions: Mapping[str, str], open_storage: OpenStorage = memory
) -> Iterator[Simulation]:
    subject = Subject(
        name="toys",
        definitions=definitions,
        asset_key=toy.key,
        job="toys",
        partitions="toys",
        tickers=tickers or sensors_of(definitions),
        wanted=lambda _, version: version,
        seeds=lambda _partition, _version: iter([]),
        held=lambda _: {},
        given_up=lambda _: {},
    )
    with staged(lambda *_: subject, partitions, open_storage=open_storage) as simulation:
        yield simulation


def ran(simulation: Simulation, ticks: int = 3) -> list[tuple[str, tuple[str, ...]]]:
    figures = simulation.run(ticks)
    assert [tick.error for tick in figures.failed_ticks] == []
    assert {run.ended for run in figures.runs} <= {"succeeded"}
    return [(run.job, run.requested) for run in figures.runs]


@pytest.mark.parametrize("open_storage", [memory, sqlite])
def test_a_sensor_names_dynamic_partitions_also_those_that_it_adds(open_storage: OpenStorage) -> None:
    @dg.sensor(job_name="toys")
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | None:
        if context.cursor:
            return None
        wanted = [dg.RunRequest(partition_key=name) for name in ("old", "new")]
        return dg.SensorResult(wanted, cursor="x", dynamic_partitions_requests=[PARTITIONS.build_add_request(["new"])])

    with simulated(defined(sensor), partitions={"old": "1"}, open_storage=open_storage) as simulation:
        assert ran(simulation) == [("toys", ("old",)), ("toys", ("new",))]


def test_a_partition_that_does_not_exist_fails_the_tick() -> None:
    @dg.sensor(job_name="toys")
    def sensor() -> dg.RunRequest:
        return dg.RunRequest(partition_key="naught")

    with simulated(defined(sensor), partitions={"old": "1"}) as simulation:
        assert "naught" in simulation.run(1).ticks[0].error


def test_a_run_key_has_one_run_for_each_sensor() -> None:
    def request() -> list[dg.RunRequest]:
        return [dg.RunRequest(run_key=key, partition_key="old") for key in ("same", "same", "other")]

    sensors = [dg.SensorDefinition(name=name, job_name="toys", evaluation_fn=lambda _: request()) for name in "ab"]
    with simulated(defined(*sensors), partitions={"old": "1"}) as simulation:
        assert ran(simulation) == [("toys", ("old",))] * 4


def test_a_run_key_whose_run_waits_or_goes_on_is_not_requested_again() -> None:
    clocks: list[FakeClock] = []

    @dg.asset(partitions_def=PARTITIONS)
    def slow() -> None:
        clocks[0].advance(150)

    @dg.sensor(target=[slow])
    def sensor() -> list[dg.RunRequest]:
        return [dg.RunRequest(run_key=name, partition_key=name) for name in ("a", "b")]

    definitions = dg.Definitions(assets=[slow], sensors=[sensor], executor=dg.in_process_executor)
    with simulated(definitions, partitions={"a": "1", "b": "1"}) as simulation:
        clocks.append(simulation.world.clock)
        assert [partitions for _, partitions in ran(simulation, ticks=6)] == [("a",), ("b",)]
        assert [len(tick.requested) for tick in simulation.figures.ticks] == [2, 0, 0, 0, 0, 0]


def test_a_run_makes_the_assets_that_are_selected_and_no_other() -> None:
    @dg.sensor(target=[box, never_wanted])
    def sensor() -> dg.RunRequest:
        return dg.RunRequest(run_key="once", asset_selection=[box.key])

    with simulated(defined(sensor), partitions={}) as simulation:
        assert len(ran(simulation)) == 1


def test_conditions_request_assets_with_partitions_and_without() -> None:
    definitions = defined(made=WITH_CONDITIONS)
    ticker = ConditionTicker(definitions, {toy.key: "toys", box.key: "boxes"})
    with simulated(definitions, ticker, partitions={"a": "1", "b": "1"}) as simulation:
        assert ran(simulation) == [("toys", ("a",)), ("toys", ("b",)), ("boxes", ())]


def test_a_sensor_of_conditions_is_evaluated_as_the_daemon_does() -> None:
    @dg.multi_asset(specs=[dg.AssetSpec("x", automation_condition=WHERE_MISSING), dg.AssetSpec("y")])
    def pair() -> tuple[None, None]:
        return None, None

    sensors = [
        dg.AutomationConditionSensorDefinition("some", target=[toy, never_wanted], minimum_interval_seconds=60),
        dg.AutomationConditionSensorDefinition("others", target=["box", "x"], run_tags={"of": "conditions"}),
    ]
    definitions = dg.Definitions.merge(defined(*sensors, made=WITH_CONDITIONS), dg.Definitions(assets=[pair]))
    with simulated(definitions, partitions={"a": "1"}) as simulation:
        assert [(one.name, one.interval_seconds) for one in simulation.subject.tickers] == [
            ("some", 60),
            ("others", 30),
        ]
        assert ran(simulation) == [("__ASSET_JOB", ("a",)), ("__ASSET_JOB", ())]
        assert simulation.watch.materialized == {f'["{name}"]': 1 for name in ("toy", "box", "x", "y")}
        assert len(simulation.storage.instance.get_runs(dg.RunsFilter(tags={"of": "conditions"}))) == 1


def test_a_default_condition_is_refused() -> None:
    sensor = dg.AutomationConditionSensorDefinition(
        "eager", target=[toy], use_user_code_server=True, default_condition=dg.AutomationCondition.eager()
    )
    with pytest.raises(PermanentFailure, match="eager has a default condition"):
        sensors_of(defined(sensor))


def test_conditions_without_a_sensor_have_the_one_that_dagster_adds() -> None:
    covered = dg.AutomationConditionSensorDefinition("boxes_only", target=[box])
    assert [one.name for one in sensors_of(defined(covered, made=WITH_CONDITIONS))] == [
        "boxes_only",
        "default_automation_condition_sensor",
    ]
    with simulated(defined(made=WITH_CONDITIONS), partitions={"a": "1"}) as simulation:
        assert ran(simulation) == [("__ASSET_JOB", ()), ("__ASSET_JOB", ("a",))]


def test_conditions_that_a_ticker_of_the_subject_evaluates_are_not_evaluated_twice() -> None:
    definitions = defined(made=WITH_CONDITIONS)
    tickers = [*sensors_of(definitions), ConditionTicker(definitions, {toy.key: "toys", box.key: "boxes"})]
    with simulated(definitions, *tickers, partitions={"a": "1"}) as simulation:
        assert ran(simulation) == [("toys", ("a",)), ("boxes", ())]


def test_what_would_tick_nothing_is_refused() -> None:
    with pytest.raises(PermanentFailure, match="no sensor is called swep; valid are default_automation_condition"):
        sensors_of(defined(made=WITH_CONDITIONS), ["swep"])
    with pytest.raises(PermanentFailure, match="so nothing would tick"):
        sensors_of(defined())
