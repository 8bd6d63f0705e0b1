"""An instance as a source of sweeps, against a scripted Canvas."""

from collections import Counter
from pathlib import Path

import httpx
import pytest
from canvas_server import API, REFUSED, THROTTLED, Answer, FakeTime, ScriptedCanvas, client_of
from ol_canvas.client import CanvasClient
from ol_canvas.resources import CanvasApiClientFactory, Instance
from ol_canvas.sweep import InstanceSource
from ol_core.failures import PermanentFailure, TransientFailure
from ol_core.orchestration.discovery import Known, Unknown
from ol_core.orchestration.sweep import SweepCursor
from ol_core.secrets import LocalSecrets

LISTINGS = ("files", "pages", "assignments", "modules")


def a_canvas(*courses: str, **changes: Answer) -> ScriptedCanvas:
    """A Canvas whose courses have one page each; `changes` are listings of a course, such as `pages_7`."""
    answers: dict[str, Answer] = {"GET accounts/1/courses": [{"id": course} for course in courses]}
    for course in courses:
        for what in LISTINGS:
            page = [{"page_id": course, "url": "a", "updated_at": "2026-01-01T00:00:00Z"}]
            answer = changes.get(f"{what}_{course}", page if what == "pages" else [])
            answers[f"GET courses/{course}/{what}"] = answer
    return ScriptedCanvas(answers)


def source_of(canvas: ScriptedCanvas, time: FakeTime | None = None) -> InstanceSource:
    return InstanceSource(client_of(canvas, time))


def swept(source: InstanceSource, *courses: str, held: dict[str, str] | None = None) -> dict[str, str | Exception]:
    result = source.sweep(sorted(courses), 30.0).run(
        courses,
        SweepCursor().next_rotation(now=0.0),
        is_settled=lambda course, version: (held or {}).get(course) == version,
        room=1000,
    )
    return {**result.changed, **result.failed}


def test_what_exists_is_the_list_and_its_version_follows_what_it_says() -> None:
    first, again = (source_of(a_canvas("7", "8")).discover(20.0) for _ in range(2))
    renamed = a_canvas()
    renamed.answers["GET accounts/1/courses"] = [{"id": "8"}, {"id": "7", "name": "Writing"}]
    other = source_of(renamed).discover(20.0)
    assert first == again
    assert isinstance(first, Known)
    assert isinstance(other, Known)
    assert first.keys == ["7", "8"]
    assert first.version
    assert first.version != other.version


@pytest.mark.parametrize(
    "second",
    [httpx.Response(403, json=REFUSED), httpx.Response(500), httpx.Response(200, text="<html>")],
    ids=["refused", "broken", "login page"],
)
def test_a_list_that_cannot_be_read_to_its_end_is_unknown_and_names_what_was_seen(second: httpx.Response) -> None:
    canvas = a_canvas()

    def pages(request: httpx.Request) -> httpx.Response:
        if request.url.params.get("page") == "2":
            return second
        link = f'<{API}/accounts/1/courses?page=2>; rel="next"'
        return httpx.Response(200, json=[{"id": 7}], headers={"Link": link})

    canvas.answers["GET accounts/1/courses"] = pages
    found = source_of(canvas).discover(20.0)
    assert isinstance(found, Unknown)
    assert found.seen == ["7"]
    assert "the list of courses" in found.reason


def test_a_list_that_takes_too_long_is_unknown() -> None:
    ticks = iter(range(100))
    found = InstanceSource(client_of(a_canvas("7", "8", "9")), clock=lambda: float(next(ticks))).discover(1.5)
    assert isinstance(found, Unknown)
    assert found.seen == ["7", "8"]
    assert "DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS" in found.reason


def test_a_version_is_that_of_the_metadata() -> None:
    before = swept(source_of(a_canvas("7", "8")), "7", "8")
    moved = [{"page_id": "7", "url": "a", "updated_at": "2026-01-02T00:00:00Z"}]
    after = swept(source_of(a_canvas("7", "8", pages_7=moved)), "7", "8")
    assert before["7"] != after["7"]
    assert before["8"] == after["8"]
    assert swept(source_of(a_canvas("7", "8")), "7", "8", held={k: str(v) for k, v in before.items()}) == {}


def test_a_course_costs_a_call_a_listing() -> None:
    courses = [str(number) for number in range(100)]
    canvas = a_canvas(*courses)
    assert len(swept(source_of(canvas), *courses)) == 100
    assert Counter(Counter(one.split("/")[1] for one in canvas.asked).values()) == {len(LISTINGS): 100}


def test_a_course_that_cannot_be_read_costs_the_others_nothing() -> None:
    hidden = {f"{what}_8": httpx.Response(403, json=REFUSED) for what in LISTINGS}
    canvas = a_canvas("7", "8", "9", **hidden)
    canvas.answers["GET courses/9/pages"] = httpx.Response(404, json={"errors": [{"message": "no"}]})
    found = swept(source_of(canvas), "7", "8", "9")
    assert isinstance(found["7"], str)
    assert isinstance(found["8"], PermanentFailure)
    assert isinstance(found["9"], PermanentFailure)


def test_throttling_is_waited_for_and_fails_no_course() -> None:
    throttled = httpx.Response(403, text=THROTTLED, headers={"X-Rate-Limit-Remaining": "0.0"})
    time = FakeTime()
    canvas = a_canvas("7", "8", files_7=iter([throttled, []]))
    found = swept(source_of(canvas, time), "7", "8")
    assert all(isinstance(one, str) for one in found.values())
    assert time.now >= 10  # what an empty quota needs to hold a reserve again


def test_a_large_account_is_swept_in_many_ticks_and_no_course_is_left_out() -> None:
    courses = [str(number) for number in range(300)]
    canvas, time = a_canvas(*courses), FakeTime()

    def slowly(_: httpx.Request) -> httpx.Response:
        time.now += 0.1
        return httpx.Response(200, json=[])

    canvas.answers = dict.fromkeys(canvas.answers, slowly)
    cursor, ticks, reached = SweepCursor().next_rotation(now=0.0), 0, Counter[str]()
    while cursor.is_open:
        ticks, started = ticks + 1, time.now
        sweep = InstanceSource(client_of(canvas, time), clock=time.clock).sweep(courses, 45.0)
        result = sweep.run(courses, cursor, is_settled=lambda _course, _version: True, room=1)
        reached.update(result.unchanged)
        cursor = SweepCursor.parse(str(result.cursor))
        assert time.now - started <= 45.0
    assert reached == Counter(courses)
    assert 4 <= ticks <= 6


def test_a_canvas_that_is_down_fails_the_sweep() -> None:
    courses = [str(number) for number in range(50)]
    canvas = ScriptedCanvas({f"GET courses/{course}/files": httpx.Response(503) for course in courses})
    with pytest.raises(TransientFailure, match="none of"):
        swept(source_of(canvas), *courses)
    assert len(canvas.requests) < 100


def test_a_client_is_that_of_the_instance_which_is_named(tmp_path: Path) -> None:
    def instance(name: str) -> Instance:
        return Instance(name=name, url=f"https://{name}.example", account_id=1, access_token=f"{name}#token")

    file = tmp_path / "secrets.toml"
    file.write_text('[canvas]\ntoken = "a"\n[exeter]\ntoken = "b"\n', encoding="utf-8")
    file.chmod(0o600)
    factory = CanvasApiClientFactory(
        instances=[instance("canvas"), instance("exeter")], secrets=LocalSecrets(file=str(file))
    )
    with factory.client("exeter") as client:
        assert isinstance(client, CanvasClient)
    with pytest.raises(
        PermanentFailure, match="no Canvas instance is called 'north'; the environment has canvas, exeter"
    ):
        factory.client("north")
