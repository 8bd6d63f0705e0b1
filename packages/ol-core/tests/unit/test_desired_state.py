"""Runs that are requested and what becomes of their partitions: attempts, pauses, deaths, outages."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import dagster as dg
import pytest
import time_machine
from ol_core.dagster_storage import tag_run
from ol_core.failures import OlError, PermanentFailure, TransientFailure
from ol_core.orchestration.desired_state import (
    GIVEN_UP_TAG,
    MAX_ATTEMPTS,
    WANTED_VERSION_TAG,
    AttemptPolicy,
    Decision,
    Recorded,
    Step,
    WantedVersions,
    attempts_reset,
    behind,
    changed,
    decide,
    failure_reasons,
    held_versions,
    in_order,
    outcomes,
    recorded,
)

KEY = dg.AssetKey("exports")
JOB = "export"
AT_ONCE = AttemptPolicy(backoff_seconds=0)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path)) as made:
        yield made


def told_of(instance: dg.DagsterInstance, found: Iterable[tuple[str, str | OlError]]) -> str:
    """Run over a, bad and c with these outcomes; return how the run failed."""
    partitions = dg.StaticPartitionsDefinition(["a", "bad", "c"])

    @dg.asset(key=KEY, partitions_def=partitions, output_required=False, backfill_policy=dg.BackfillPolicy.single_run())
    def exports(context: dg.AssetExecutionContext) -> Iterator[Recorded]:
        wanted = dict.fromkeys(context.partition_keys, "1")
        yield from recorded(
            KEY, wanted, found, lambda partition, _: [dg.AssetMaterialization(KEY, partition=partition)]
        )

    tags = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "c"}
    result = dg.materialize([exports], instance=instance, tags=tags, raise_on_error=False)
    (failure,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert failure.user_failure_data is not None
    return str(failure.user_failure_data.description)


CUT = ("bad", PermanentFailure("cut short"))


def test_a_bad_partition_fails_the_run_and_costs_the_others_nothing(instance: dg.DagsterInstance) -> None:
    told = told_of(instance, [("a", "a"), CUT, ("c", "c")])

    assert told == "1 of 3 partitions failed; the others are done\n- bad: PermanentFailure: cut short"
    assert instance.get_materialized_partitions(KEY) == {"a", "c"}
    assert changed(instance, KEY, {"a": "1", "bad": "1", "c": "1"}) == {}


def test_outcomes_that_break_off_leave_a_list_of_what_failed(instance: dg.DagsterInstance) -> None:
    def found() -> Iterator[tuple[str, str | OlError]]:
        yield "a", "a"
        yield CUT
        raise ValueError("no page 3")

    told = told_of(instance, found())

    assert told.startswith(
        "ValueError: no page 3\n1 of 3 partitions failed; 1 are without an outcome: c\n- bad: Permanent"
    )
    assert instance.get_materialized_partitions(KEY) == {"a"}


@pytest.mark.parametrize(
    ("found", "said", "left"),
    [
        ([("a", "a")], "0 of 3 partitions failed; 2 are without an outcome: bad, c", {"bad", "c"}),
        ([("a", "a"), ("d", "d")], "an outcome of 'd': the run does not want it; tell that of each", {"bad", "c"}),
        ([CUT, ("bad", "bad")], "an outcome of 'bad': it was told before; tell that of each", {"a", "c"}),
    ],
    ids=["ends early", "unknown", "twice"],
)
def test_each_partition_is_told_once(
    instance: dg.DagsterInstance, found: list[tuple[str, str | OlError]], said: str, left: set[str]
) -> None:
    assert said in told_of(instance, found)
    assert changed(instance, KEY, dict.fromkeys(["a", "bad", "c"], "1")).keys() == left


def test_what_a_run_leaves_untold_has_no_more_attempts_than_anything_else(instance: dg.DagsterInstance) -> None:
    world = World(instance)
    world.publish(a="1", b="1", c="1")
    world.untold = {"b"}
    for hours in range(9):
        with hours_from_now(hours):
            world.tick()
    assert instance.get_runs_count() == MAX_ATTEMPTS
    assert {one: outcome.attempts for one, outcome in outcomes(instance, KEY).items()} == {"a": 0, "b": 3, "c": 0}


class World:
    """A job of one op over many partitions, whose worker does as it is told; time is moved by hand."""

    def __init__(self, instance: dg.DagsterInstance, *, policy: AttemptPolicy | None = None) -> None:
        policy = policy or AttemptPolicy()
        self.instance, self.policy = instance, policy
        self.current: dict[str, str] = {}
        self.errors: dict[str, OlError] = {}
        self.killed_after: int | None = None
        self.untold: set[str] = set()
        self.tried: list[tuple[str, str]] = []
        self.step = Step(JOB, KEY, "export_all")
        partitions = dg.DynamicPartitionsDefinition(name="courses")

        @dg.multi_asset(name="export_all", specs=[dg.AssetSpec(KEY, partitions_def=partitions, skippable=True)])
        def export_all(context: dg.AssetExecutionContext, config: WantedVersions) -> Iterator[Recorded]:
            todo = config.partitions(context)
            current = {one: self.current[one] for one in todo}
            due = behind(context.instance, KEY, current, self.policy) if config.wanted else todo
            yield from recorded(
                KEY,
                {one: current[one] for one in due},
                self._work(due),
                lambda partition, _: [dg.AssetMaterialization(KEY, partition=partition)],
            )

        self.job = dg.Definitions(
            assets=[export_all], jobs=[dg.define_asset_job(JOB, selection=[KEY])], executor=dg.in_process_executor
        ).resolve_job_def(JOB)

    def _work(self, partitions: Iterable[str]) -> Iterator[tuple[str, str | OlError]]:
        for number, partition in enumerate(partitions):
            if number == self.killed_after:
                raise RuntimeError("killed")
            if partition in self.untold:
                continue
            self.tried.append((partition, self.current[partition]))
            yield partition, self.errors.get(partition, partition)

    def publish(self, **versions: str) -> None:
        self.current |= versions
        self.instance.add_dynamic_partitions("courses", list(versions))

    def tick(self, wanted: dict[str, str] | None = None) -> Decision:
        decision = decide(self.instance, self.step, self.current if wanted is None else wanted, self.policy)
        for request in decision.requests:
            self.job.execute_in_process(
                instance=self.instance, run_config=request.run_config, tags=dict(request.tags), raise_on_error=False
            )
        return decision


@pytest.fixture
def world(instance: dg.DagsterInstance) -> World:
    return World(instance)


def hours_from_now(hours: int) -> time_machine.travel:
    return time_machine.travel(datetime.now(UTC) + timedelta(hours=hours), tick=True)


def test_one_run_takes_all_that_is_wanted_and_then_nothing_is_requested(world: World) -> None:
    world.publish(a="1", b="1", c="1")
    assert world.tick().requested == {"a": "1", "b": "1", "c": "1"}
    assert world.tick() == Decision(reason="export: nothing is behind")
    world.publish(b="2")
    assert world.tick().requested == {"b": "2"}
    assert world.instance.get_runs_count() == 2


def test_a_run_takes_no_more_than_a_batch_and_the_rest_waits(instance: dg.DagsterInstance) -> None:
    world = World(instance, policy=AttemptPolicy(batch_size=2))
    world.publish(a="1", b="1", c="1", d="1", e="1")
    assert [len(world.tick().requested) for _ in range(4)] == [2, 2, 1, 0]
    assert sorted(world.tried) == [(name, "1") for name in "abcde"]


def test_only_one_partition_is_planned_whatever_a_run_works_on(world: World) -> None:
    world.publish(a="1", b="1", c="1")
    world.tick()
    (run,) = world.instance.get_runs()
    planned = world.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    assert len(planned) == 1
    assert world.instance.get_materialized_partitions(KEY) == {"a", "b", "c"}


def test_failures_are_tried_within_the_budget_with_growing_pauses(world: World) -> None:
    world.publish(a="1", b="1")
    world.errors = {"a": TransientFailure("throttled")}
    world.tick()
    assert world.tick().reason == "export: 1 wait before they are tried again"
    for minutes, tried in [(4, 1), (6, 2), (12, 2), (17, 3), (600, 3), (60000, 3)]:
        with time_machine.travel(datetime.now(UTC) + timedelta(minutes=minutes), tick=True):
            world.tick()
        assert world.tried.count(("a", "1")) == tried, minutes
    assert world.tried.count(("b", "1")) == 1


def test_a_permanent_failure_is_tried_once_in_a_thousand_ticks(world: World) -> None:
    world.publish(a="1")
    world.errors = {"a": PermanentFailure("corrupt")}
    world.tick()
    for hours in range(1, 50):
        with hours_from_now(hours):
            assert world.tick().requests == ()
    assert outcomes(world.instance, KEY)["a"].ending == "p"
    assert failure_reasons(world.instance, KEY, ["a"]) == {"a": "PermanentFailure: corrupt"}


def test_success_clears_failures_and_the_next_version_has_a_fresh_budget(world: World) -> None:
    world.publish(a="1")
    world.errors = {"a": TransientFailure("throttled")}
    world.tick()
    world.errors = {}
    with hours_from_now(1):
        world.tick()
    assert outcomes(world.instance, KEY)["a"].attempts == 0
    world.errors = {"a": TransientFailure("throttled")}
    world.publish(a="2")
    for hours in range(2, 9):
        with hours_from_now(hours):
            world.tick()
    assert world.tried.count(("a", "2")) == MAX_ATTEMPTS


def test_a_run_that_is_killed_at_once_counts_for_all_that_it_was_asked_for(world: World) -> None:
    world.publish(a="1", b="1")
    world.killed_after = 0
    for hours in range(9):
        with hours_from_now(hours):
            world.tick()
    assert world.instance.get_runs_count() == MAX_ATTEMPTS
    assert {outcome.attempts for outcome in outcomes(world.instance, KEY).values()} == {MAX_ATTEMPTS}
    assert "became FAILURE before it said" in failure_reasons(world.instance, KEY, ["a"])["a"]


def test_runs_that_never_start_cost_no_attempt_and_come_ever_later(world: World) -> None:
    world.publish(a="1", b="1")
    requested: list[int] = []
    for minutes in range(0, 600, 2):
        with time_machine.travel(datetime.now(UTC) + timedelta(minutes=minutes), tick=True):
            for request in decide(world.instance, world.step, world.current, world.policy).requests:
                requested.append(minutes)
                run = world.instance.create_run_for_job(
                    world.job, run_config=request.run_config, tags=dict(request.tags)
                )
                world.instance.report_run_failed(run, "no node could be found for it")

    assert requested[:5] == [0, 6, 16, 36, 76]
    pauses = [later - earlier for earlier, later in pairwise(requested)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 80
    assert outcomes(world.instance, KEY)["a"].attempts == 0
    assert "became FAILURE before it started" in failure_reasons(world.instance, KEY, ["a"])["a"]
    with hours_from_now(20):
        assert world.tick().requested == {"a": "1", "b": "1"}
    assert sorted(world.tried) == [("a", "1"), ("b", "1")]


def test_a_killed_run_counts_for_what_it_was_working_on_only(world: World) -> None:
    world.publish(**dict.fromkeys("abcdefgh", "1"))
    world.killed_after = 3
    world.tick()
    (run,) = world.instance.get_runs()
    order = in_order(run.run_id, world.current)
    assert [partition for partition, _ in world.tried] == order[:3]

    left = world.tick().requested

    assert sorted(left) == sorted(order[4:])  # at once; what it may have died of waits
    blamed = {one for one, outcome in outcomes(world.instance, KEY).items() if outcome.failed}
    assert order[3] in blamed


def test_a_killed_run_of_a_person_counts_too(world: World) -> None:
    world.publish(a="1")
    world.killed_after = 0
    tags = dict.fromkeys(["dagster/asset_partition_range_start", "dagster/asset_partition_range_end"], "a")
    world.job.execute_in_process(instance=world.instance, tags=tags, raise_on_error=False)
    world.killed_after = None
    assert world.tick().requests == ()
    assert outcomes(world.instance, KEY)["a"].attempts == 1
    with hours_from_now(1):
        assert world.tick().requested == {"a": "1"}


def test_a_run_that_ended_with_its_users_process_is_no_failed_attempt(world: World) -> None:
    world.publish(a="1")
    world.killed_after = 0
    world.tick()
    (run,) = world.instance.get_runs()
    tag_run(world.instance, run.run_id, {GIVEN_UP_TAG: "ended"})
    world.killed_after = None

    assert world.tick().requested == {"a": "1"}
    assert outcomes(world.instance, KEY)["a"].ending == "s"


def test_a_run_of_a_person_that_succeeds_leaves_nothing_to_request(world: World) -> None:
    world.publish(a="1")
    tags = dict.fromkeys(["dagster/asset_partition_range_start", "dagster/asset_partition_range_end"], "a")
    assert world.job.execute_in_process(instance=world.instance, tags=tags).success
    assert world.tick().requests == ()


def test_a_version_published_before_the_run_begins_is_made_once(world: World) -> None:
    world.publish(a="1")
    asked = dict(world.current)
    world.publish(a="2")
    assert world.tick(asked).requested == {"a": "1"}
    assert world.tick().requests == ()
    world.tick(asked)  # an old request comes late
    assert world.tried == [("a", "2")]


def test_failures_of_a_newer_version_than_asked_for_are_counted_under_it(world: World) -> None:
    world.publish(a="1")
    asked = dict(world.current)
    world.publish(a="2")
    world.errors = {"a": PermanentFailure("corrupt")}
    world.tick(asked)
    for hours in range(1, 5):
        with hours_from_now(hours):
            world.tick({})
    assert world.tried == [("a", "2")]


def test_a_source_that_is_down_costs_few_their_attempts_and_is_left_alone(world: World) -> None:
    names = [f"c{number}" for number in range(60)]
    world.publish(**dict.fromkeys(names, "1"))
    world.errors = dict.fromkeys(names, TransientFailure("down"))
    world.tick()
    assert len(world.tried) == 20
    assert "its source was down" in world.tick().reason
    world.errors = {}
    with hours_from_now(1):
        world.tick()
        assert world.tick().requests == ()
    assert set(held_versions(world.instance, KEY)) == set(names)


def test_a_reset_gives_a_fresh_budget(world: World) -> None:
    world.publish(a="1")
    world.errors = {"a": PermanentFailure("corrupt")}
    world.tick()
    assert world.tick().requests == ()
    world.errors = {}
    world.instance.report_runless_asset_event(attempts_reset(KEY, "a"))
    assert world.tick().requested == {"a": "1"}
    assert held_versions(world.instance, KEY) == {"a": "1"}


def test_a_step_without_partitions_follows_the_same_rules(instance: dg.DagsterInstance) -> None:
    attempts = 0

    @dg.asset(key=dg.AssetKey("listing"))
    def listing(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise TransientFailure("down")
        return dg.MaterializeResult(tags={WANTED_VERSION_TAG: context.run.tags[WANTED_VERSION_TAG]})

    job = dg.Definitions(
        assets=[listing], jobs=[dg.define_asset_job("list", selection=[listing])], executor=dg.in_process_executor
    ).resolve_job_def("list")
    step = Step("list", dg.AssetKey("listing"))
    for hours in range(6):
        with hours_from_now(hours):
            for request in decide(instance, step, {"": "v1"}).requests:
                job.execute_in_process(instance=instance, tags=dict(request.tags), raise_on_error=False)
    assert attempts == 3
    assert held_versions(instance, dg.AssetKey("listing")) == {"": "v1"}
