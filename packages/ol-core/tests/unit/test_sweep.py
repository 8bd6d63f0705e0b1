import asyncio
import json
import threading
from collections.abc import Callable, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ol_core.failures import OlError, PermanentFailure, TransientFailure, UpstreamMissing
from ol_core.orchestration.sweep import Sweep, SweepCursor, tick_budget_seconds

OPEN = SweepCursor().next_rotation(now=0.0)
Settled = Callable[[str, str], bool]


def never(_key: str, _version: str) -> bool:
    return False


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Source:
    """Answers with version 1, or as scripted; each call takes some time of the clock."""

    def __init__(self, seconds: float = 0.0, answers: Mapping[str, str | OlError] | None = None) -> None:
        self.clock, self.seconds, self.answers = Clock(), seconds, answers or {}
        self.asked: list[str] = []
        self.calls = 0

    def look(self, batch: Sequence[str]) -> dict[str, str | OlError]:
        self.calls += 1
        self.clock.now += self.seconds
        self.asked += batch
        return {key: self.answers.get(key, "1") for key in batch}

    def sweep(self, *, batch_size: int = 1, concurrency: int = 1, budget_seconds: float = 45.0) -> Sweep:
        return Sweep(
            self.look,
            batch_size=batch_size,
            concurrency=concurrency,
            budget_seconds=budget_seconds,
            look_seconds=5.0,
            clock=self.clock,
        )


KEYS = [f"course {number}" for number in range(100)]


def test_results_add_up() -> None:
    source = Source(answers={"course 1": "2", "course 2": PermanentFailure("gone")})
    result = source.sweep(batch_size=7).run(KEYS, OPEN, is_settled=lambda _key, version: version == "1", room=10)
    assert result.changed == {"course 1": "2"}
    assert list(result.failed) == ["course 2"]
    assert len(result.unchanged) == 98
    assert result.not_reached == []
    assert (result.cursor.is_open, result.cursor.read, result.cursor.failed) == (False, 99, 1)
    assert source.calls == 15


def test_a_sweep_slower_than_its_budget_goes_on_where_it_was_and_starves_nobody() -> None:
    source, cursor, ticks = Source(seconds=3.0), OPEN, 0
    while cursor.is_open:
        started = source.clock.now
        result = source.sweep().run(KEYS, cursor, is_settled=never, room=1000)
        assert source.clock.now - started <= 45
        assert len(result.changed) + len(result.not_reached) + ticks * 14 == 100
        cursor, ticks = SweepCursor.parse(str(result.cursor)), ticks + 1
    assert sorted(source.asked) == sorted(KEYS)
    assert ticks == 8


def test_the_deadline_counts_from_the_entry() -> None:
    source = Source(seconds=1.0)
    sweep = source.sweep()
    source.clock.now += 30  # what the tick did before
    result = sweep.run(KEYS, OPEN, is_settled=never, room=1000)
    assert len(result.changed) == 11


def test_what_comes_and_goes_during_a_rotation_hides_nobody() -> None:
    source = Source(seconds=3.0)
    first = source.sweep().run(KEYS, OPEN, is_settled=never, room=1000)
    survivors = [key for key in KEYS if key not in source.asked][5:]
    others = [*survivors, *(f"new {number}" for number in range(50))]
    cursor = first.cursor
    while cursor.is_open:
        cursor = source.sweep().run(others, cursor, is_settled=never, room=1000).cursor
    assert set(survivors) <= set(source.asked)
    assert len(source.asked) == len(set(source.asked))


def test_each_rotation_has_another_order() -> None:
    source = Source()
    source.sweep().run(KEYS, OPEN, is_settled=never, room=1000)
    source.sweep().run(KEYS, OPEN.next_rotation(now=1.0), is_settled=never, room=1000)
    assert source.asked[:100] != source.asked[100:]


def test_it_stops_before_what_has_no_room_and_takes_it_up_next() -> None:
    source, cursor, found = Source(), OPEN, list[str]()
    while cursor.is_open:
        result = source.sweep(batch_size=8, concurrency=2).run(KEYS, cursor, is_settled=never, room=10)
        assert len(result.changed) <= 10
        found += result.changed
        cursor = result.cursor
    assert sorted(found) == sorted(KEYS)


def test_without_room_nothing_is_asked() -> None:
    source = Source()
    result = source.sweep().run(KEYS, OPEN, is_settled=never, room=0)
    assert (source.calls, len(result.not_reached), result.cursor) == (0, 100, OPEN)


@pytest.mark.parametrize("error", [TransientFailure("down"), PermanentFailure("forbidden")])
def test_a_sweep_that_reads_nothing_at_all_fails(error: OlError) -> None:
    source = Source(answers=dict.fromkeys(KEYS, error))
    with pytest.raises(type(error), match=f"none of .* can be read: .*{error}"):
        source.sweep().run(KEYS, OPEN, is_settled=never, room=1000)


def test_a_source_that_is_down_is_left_alone_soon() -> None:
    source = Source(answers=dict.fromkeys(KEYS, TransientFailure("down")))
    with pytest.raises(TransientFailure):
        source.sweep().run(KEYS, OPEN, is_settled=never, room=1000)
    assert source.calls == 10


@pytest.mark.parametrize("concurrency", [1, 4, 8])
def test_bad_ones_in_a_row_are_no_outage_where_others_are_answered(concurrency: int) -> None:
    source = Source()
    source.sweep().run(KEYS, OPEN, is_settled=never, room=1000)
    bad = {*source.asked[:12], *source.asked[40:60]}
    source.answers = dict.fromkeys(bad, TransientFailure("503"))
    result = source.sweep(concurrency=concurrency).run(KEYS, OPEN, is_settled=never, room=1000)
    assert (set(result.failed), len(result.changed), result.cursor.is_open) == (bad, 68, False)


def test_that_something_does_not_exist_is_an_answer() -> None:
    source = Source(seconds=9.0, answers=dict.fromkeys(KEYS, UpstreamMissing("no outline")))
    result = source.sweep().run(KEYS, OPEN, is_settled=never, room=1000)
    assert len(result.failed) == result.cursor.failed == 5


def test_a_throttled_sweep_says_how_long_to_wait() -> None:
    throttled = TransientFailure("throttled", retry_after_seconds=600.0)
    source = Source()
    source.sweep().run(KEYS, OPEN, is_settled=never, room=1000)

    def look(batch: Sequence[str]) -> dict[str, str | OlError]:
        source.calls += 1
        return dict.fromkeys(batch, throttled if source.calls > 140 else "1")

    result = Sweep(look, concurrency=1).run(KEYS, OPEN, is_settled=never, room=1000)
    assert (len(result.changed), result.failed, result.retry_after_seconds) == (40, {}, 600.0)
    with pytest.raises(TransientFailure) as caught:
        Sweep(look, concurrency=1).run(KEYS, result.cursor, is_settled=never, room=1000)
    assert caught.value.retry_after_seconds == 600.0


def test_a_defect_costs_its_own_batch_only_and_is_named() -> None:
    def look(batch: Sequence[str]) -> dict[str, str]:
        return {key: str(1 // (key != "course 3")) for key in batch}

    result = Sweep(look, batch_size=10, concurrency=2).run(KEYS, OPEN, is_settled=never, room=1000)
    assert (len(result.failed), len(result.changed)) == (10, 90)
    assert all(isinstance(one, PermanentFailure) for one in result.failed.values())
    assert "ZeroDivisionError" in str(result.failed["course 3"])


def test_who_was_asked_while_the_source_went_down_is_asked_again() -> None:
    class GoesDown(Source):
        def look(self, batch: Sequence[str]) -> dict[str, str | OlError]:
            self.calls += 1
            if 40 < self.calls <= 60:
                raise TransientFailure("down")
            return super().look(batch)

    source, cursor, failed_ticks = GoesDown(), OPEN, 0
    while cursor.is_open:
        try:
            result = source.sweep().run(KEYS, cursor, is_settled=never, room=1000)
        except TransientFailure:
            failed_ticks += 1
            continue
        assert result.failed == {}
        cursor = result.cursor
    assert sorted(source.asked) == sorted(KEYS)
    assert failed_ticks > 0


def test_a_few_bad_ones_at_the_end_of_a_rotation_do_not_stop_it() -> None:
    source = Source()
    cursor = source.sweep().run(KEYS, OPEN, is_settled=never, room=1000).cursor
    late = next(f"late {n}" for n in range(999) if _after(f"late {n}", cursor))
    source.answers = {late: TransientFailure("always")}
    result = source.sweep().run([*KEYS, late], cursor, is_settled=never, room=1000)
    assert list(result.failed) == [late]
    assert not result.cursor.is_open


def _after(key: str, cursor: SweepCursor) -> bool:
    result = Source().sweep().run([key], cursor, is_settled=never, room=1)
    return bool(result.changed)


def test_a_call_that_hangs_costs_its_own_batch_only() -> None:
    answered = threading.Event()

    def look(batch: Sequence[str]) -> dict[str, str | OlError]:
        if "course 3" in batch:
            answered.wait()
        return dict.fromkeys(batch, "1")

    sweep = Sweep(look, batch_size=10, concurrency=3, budget_seconds=60.0, look_seconds=2.0)
    try:
        result = sweep.run(KEYS, OPEN, is_settled=never, room=1000)
    finally:
        answered.set()
    assert len(result.failed) == 10
    assert all("no answer within" in str(error) for error in result.failed.values())


def test_as_many_calls_at_a_time_as_allowed() -> None:
    running = most = 0

    async def look(batch: Sequence[str]) -> dict[str, str | OlError]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return dict.fromkeys(batch, "1")

    result = Sweep(look, concurrency=6).run(KEYS, OPEN, is_settled=never, room=1000)
    assert (len(result.changed), most) == (100, 6)


@given(st.text())
def test_a_cursor_that_cannot_be_read_starts_afresh(text: str) -> None:
    assert isinstance(SweepCursor.parse(text), SweepCursor)


@pytest.mark.parametrize("name", SweepCursor.__slots__)
def test_a_cursor_with_a_value_of_another_type_starts_afresh(name: str) -> None:
    stated = json.loads(str(OPEN))
    for value in (["a"], {"a": None}, 7 if isinstance(stated[name], str) else "text"):
        assert SweepCursor.parse(json.dumps({**stated, name: value})) == SweepCursor(), value
    if name != "pending":
        assert SweepCursor.parse(json.dumps({**stated, name: None})) == SweepCursor()


@given(st.dictionaries(st.text(max_size=40), st.text(max_size=40), max_size=30), st.integers(0, 10**6))
def test_a_cursor_survives_being_written(pending: dict[str, str], rotation: int) -> None:
    cursor = SweepCursor(rotation=rotation, pending=pending, sample={"a": "b"}, started_at=1.5)
    assert SweepCursor.parse(str(cursor)) == cursor


def test_a_cursor_with_a_full_batch_waiting_is_small() -> None:
    pending = {f"course-v1:MITx+6.{n}x+2T2024": f"{n * 7919:040x}" for n in range(500)}
    assert len(str(SweepCursor(pending=pending))) < 30_000


@given(
    st.sets(st.integers(0, 300), max_size=120),
    st.sets(st.integers(0, 300), max_size=60),
    st.tuples(st.integers(1, 9), st.integers(1, 5), st.integers(1, 12)),
)
def test_every_key_of_a_rotation_is_answered_for_once(
    keys: set[int], moved: set[int], bounds: tuple[int, int, int]
) -> None:
    batch_size, concurrency, room = bounds
    names = [str(key) for key in keys]
    source = Source(seconds=4.0, answers={str(key): "2" for key in moved})
    changed, unchanged, cursor = list[str](), list[str](), OPEN
    while cursor.is_open:
        sweep = source.sweep(batch_size=batch_size, concurrency=concurrency)
        result = sweep.run(names, cursor, is_settled=lambda _key, version: version == "1", room=room)
        changed += result.changed
        unchanged += result.unchanged
        cursor = SweepCursor.parse(str(result.cursor))
    assert sorted(changed) == sorted(str(key) for key in keys & moved)
    assert sorted(unchanged) == sorted(str(key) for key in keys - moved)


def test_the_budget_follows_the_daemons_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS", raising=False)
    assert tick_budget_seconds() == 45
    monkeypatch.setenv("DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS", "200")
    assert tick_budget_seconds() == 150
