"""Exports that go on when nobody waits for them any longer: each takes a slot until it ends or counts as dead."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ol_core.failures import OlError, PermanentFailure, TransientFailure
from ol_core.orchestration.exports import Accepted, Clock, ExportLimits, Look, Submission, export_all

LIMITS = ExportLimits(in_flight=2, deadline_seconds=100)


@dataclass
class Remote:
    """A remote system on a clock of its own; ids are `{partition}{number}`."""

    lasts: float = 10.0
    says: Mapping[str, Sequence[Look | OlError]] = field(default_factory=dict)
    now: float = 1000.0
    ends: dict[str, float] = field(default_factory=dict)
    begun: list[tuple[float, str]] = field(default_factory=list)
    looks: dict[str, int] = field(default_factory=dict)
    most_running: int = 0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def clock(self) -> float:
        return self.now

    def begin(self, partition: str, version: str = "1") -> Submission:
        number = f"{partition}{len(self.begun)}"
        self.begun.append((self.now, partition))
        self.ends[number] = self.now + self.lasts
        self.most_running = max(self.most_running, sum(end > self.now for end in self.ends.values()))
        return Submission(partition, version, number, "", self.now)

    def submit(self, partitions: Sequence[str]) -> Mapping[str, Accepted | OlError]:
        return {one: Accepted(self.begin(one).remote_id) for one in partitions}

    def look(self, submission: Submission) -> Look:
        looks = self.looks[submission.remote_id] = self.looks.get(submission.remote_id, 0) + 1
        answers = self.says.get(submission.partition, [])
        if looks <= len(answers):
            answer = answers[looks - 1]
            if isinstance(answer, OlError):
                raise answer
            return answer
        return Look("ready" if self.now >= self.ends[submission.remote_id] else "waiting", "at work")

    def collect(self, submission: Submission) -> str:
        return submission.remote_id

    def export(
        self, partitions: str, *, version: str = "1", resume: Sequence[Submission] = (), limits: ExportLimits = LIMITS
    ) -> dict[str, str | OlError]:
        clock = Clock(self.sleep, self.clock, self.clock)
        wanted, unfinished = dict.fromkeys(partitions, version), {one.remote_id: one for one in resume}
        return dict(export_all(self, wanted, limits=limits, resume=unfinished, clock=clock))


def test_an_export_that_is_given_up_keeps_its_slot() -> None:
    remote = Remote(lasts=250)
    results = remote.export("abcd")
    assert all(isinstance(one, TransientFailure) and "at its deadline" in str(one) for one in results.values())
    assert len(results) == 4
    assert remote.most_running == 2


def test_an_export_that_never_ends_counts_as_dead_in_the_end() -> None:
    remote = Remote(lasts=1e9)
    assert set(remote.export("abcd")) == set("abcd")
    assert [at for at, _ in remote.begun] == [1000, 1000, 1500, 1500]


def test_exports_of_a_killed_process_take_slots_whatever_they_are_of() -> None:
    remote = Remote(lasts=50)
    left = [remote.begin("a"), remote.begin("x")]
    assert set(remote.export("abc", version="2", resume=left)) == set("abc")
    assert remote.most_running == 2


def test_an_older_version_ends_before_a_newer_one_is_submitted() -> None:
    remote = Remote(lasts=50)
    assert remote.export("a", version="2", resume=[remote.begin("a")]) == {"a": "a1"}
    assert remote.begun[1][0] >= 1050


def test_an_older_version_that_is_late_only_takes_a_slot() -> None:
    remote = Remote(lasts=1e9)
    old = remote.begin("a")
    remote.lasts, remote.now = 10, 1150
    assert remote.export("a", version="2", resume=[old]) == {"a": "a1"}
    assert remote.now < 1200


def test_a_late_export_of_the_version_wanted_is_collected_where_it_ended() -> None:
    remote = Remote(lasts=130)
    late = remote.begin("a")
    remote.now = 1150
    assert remote.export("a", resume=[late]) == {"a": "a0"}


def test_a_late_export_is_collected_where_it_ends_before_there_is_a_slot_for_another() -> None:
    remote = Remote(lasts=250)
    late = [remote.begin("a"), remote.begin("x")]
    remote.now = 1150
    assert remote.export("a", resume=late) == {"a": "a0"}


def test_what_is_dead_is_not_even_looked_at() -> None:
    remote = Remote()
    old = remote.begin("a")
    remote.now += LIMITS.dead_after_seconds
    assert remote.export("a", resume=[old]) == {"a": "a1"}
    assert set(remote.looks) == {"a1"}


def test_a_look_that_cannot_be_read_is_waited_for() -> None:
    unreadable = [PermanentFailure("a page of somebody"), TransientFailure("throttled", retry_after_seconds=30)]
    remote = Remote(says={"a": unreadable})
    assert remote.export("a") == {"a": "a0"}
    remote = Remote(says={"a": [PermanentFailure("a page of somebody")] * 100})
    (error,) = remote.export("a").values()
    assert type(error) is TransientFailure
    assert "still unknown (a page of somebody) at its deadline" in str(error)
    assert remote.now == 1100


def test_an_export_is_lost_after_a_minute_and_frees_its_slot() -> None:
    unknown = [Look("missing", "not known")]
    assert Remote(says={"a": unknown * 10}).export("a") == {"a": "a0"}
    remote = Remote(says={"a": unknown * 100})
    results = remote.export("ab", limits=ExportLimits(in_flight=1, deadline_seconds=1000))
    assert "was lost: not known" in str(results["a"])
    assert results["b"] == "b1"
    assert 1060 <= remote.begun[1][0] < 1090
