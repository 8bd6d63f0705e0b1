"""What became of each partition, as events: the newest observation of a partition says how its last attempt ended.

Its data version is `{wanted version}-{attempts}{s|h|t|p|q|m|r}{unix seconds}`: succeeded, held again, failed in one of
four ways, or forgiven; with a letter before the attempts where the source asked for a pause, and an `x` at its end
where it no longer has the partition. So one query tells for all partitions which version each holds, and how often the
wanted one failed. What was held or tried before at other versions stands in the observation's metadata, for a version
that comes back.
"""

import hashlib
import math
import re
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import dagster as dg

from ol_core.dagster_storage import DATA_VERSION_TAG, latest_data_versions, latest_event_ids
from ol_core.failures import OlError, PermanentFailure, Quarantined, TransientFailure, UpstreamMissing

WANTED_VERSION_TAG = "ol/wanted_version"
"""Version that an unpartitioned asset's materialization, or a run of its job, was made for."""

RESET_TAG = "ol/attempts_reset"
"""On an observation that forgives a partition its failed attempts."""

RUN_TAG = "ol/run_id"
"""On a failed attempt that was recorded for a run which could not do it itself."""

RETIRED_TAG = "ol/retired"
"""On an observation that retires a partition (`retired`) or takes it back (`back`); no attempt ended with it."""

CAME_BACK_TAG = "ol/came_back"
"""On an observation that gives a partition the outcome of a version that is wanted again; no attempt ended with it."""

Ending = Literal["s", "h", "t", "p", "q", "m", "r"]

FAILURES: Mapping[Ending, type[OlError]] = {
    "t": TransientFailure,
    "q": Quarantined,
    "m": UpstreamMissing,
    "p": PermanentFailure,
}
"""What each ending of a failed attempt stands for; only the first is worth another attempt."""

FAILURE_PATTERN = rf"-[A-Z]?[0-9]+[{''.join(FAILURES)}][0-9]{{10}}$"
"""Data versions of failed attempts, as regular expressions of databases have it."""

_VERSION = re.compile(r"[A-Za-z0-9_.-]{1,45}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_OUTCOME = re.compile(
    r"(?P<version>.*)-(?P<pause>[A-Z]?)(?P<attempts>\d+)(?P<ending>[shtpqmr])(?P<at>\d+)(?P<retired>x?)"
)
_LONGEST_PAUSE_SECONDS = 86_400
_EARLIER = 20
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the last attempt at a partition ended.

    Attributes:
        version: Wanted version of the attempt.
        attempts: Failed attempts at that version so far; 0 after a success.
        ending: `s` succeeded, `h` holds it since before others failed, `r` reset: nothing counts; failed as one of
            `FAILURES` otherwise.
        at: When, in unix seconds.
        retired: Whether the source no longer has the partition, since some time after the attempt.
        pause: The source asked for at least so long a pause: 0 none, else 2 to its power in seconds.
        earlier: The last outcome of each other version since the last success, and that success; the newest first.
    """

    version: str
    attempts: int
    ending: Ending
    at: int
    retired: bool = False
    pause: int = 0
    earlier: tuple["Outcome", ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the partition holds the version."""
        return self.ending in ("s", "h")

    @property
    def failed(self) -> bool:
        """Whether the attempt failed."""
        return self.ending in FAILURES

    @property
    def data_version(self) -> str:
        """The observation's data version."""
        pause, retired = chr(ord("A") - 1 + self.pause) if self.pause else "", "x" if self.retired else ""
        return f"{self.version}-{pause}{self.attempts}{self.ending}{self.at}{retired}"

    @property
    def pause_seconds(self) -> int:
        """How long the source asked to be left alone after the attempt."""
        return 2**self.pause if self.pause else 0

    def of(self, version: str) -> "Outcome | None":
        """Return the last outcome of a version; None where it was neither tried nor held since the last success."""
        return next((one for one in (self, *self.earlier) if one.version == version), None)

    def all_earlier(self, version: str) -> tuple["Outcome", ...]:
        """Return what is earlier to another version; of failures only the newest are kept."""
        others = [replace(self, retired=False, earlier=()), *self.earlier]
        others = [one for one in others if one.version != version and one.ending != "r"]
        return (*[one for one in others if one.failed][:_EARLIER], *(one for one in others if one.holds))

    def back_to(self, version: str) -> "Outcome | None":
        """Return what holds where a version of before is wanted again; None where it is new."""
        last = self.of(version)
        if last is None or last is self:
            return last
        return replace(last, ending="h" if last.holds else last.ending, earlier=self.all_earlier(version))

    @classmethod
    def parse(cls, data_version: str) -> "Outcome | None":
        """Read an observation's data version; None where somebody else wrote it."""
        found = _OUTCOME.fullmatch(data_version)
        if found is None:
            return None
        ending: Ending = found["ending"]  # type: ignore[assignment]  # the pattern allows these letters only
        pause = ord(found["pause"]) - ord("A") + 1 if found["pause"] else 0
        return cls(found["version"], int(found["attempts"]), ending, int(found["at"]), bool(found["retired"]), pause)


def as_version(text: str) -> str:
    """Return a version that Dagster takes as a tag's value: the text itself, or a digest of it."""
    if _VERSION.fullmatch(text):
        return text
    digest = text if _SHA256.fullmatch(text) else hashlib.sha256(text.encode()).hexdigest()
    return digest[:40]


def outcomes(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, partitions: Collection[str] | None = None
) -> dict[str, Outcome]:
    """Return how the last attempt at each partition ended.

    Args:
        instance: Where events are recorded.
        asset_key: The asset under which attempts stand. Without partitions, its only one is "".
        partitions: Only these, with what was earlier; None for all, without it, by one query.
    """
    if partitions is None or set(partitions) == {""}:
        return newest_outcomes(instance, asset_key, partitions)
    return with_earlier(instance, asset_key, newest_outcomes(instance, asset_key, partitions))


def newest_outcomes(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, partitions: Collection[str] | None = None
) -> dict[str, Outcome]:
    """Return outcomes without what was earlier, of some partitions or all, by one query."""
    if partitions is not None and set(partitions) == {""}:
        return _unpartitioned(instance, asset_key)
    found = latest_data_versions(instance, asset_key, "observation", partitions)
    parsed = ((partition, Outcome.parse(version)) for partition, version in found.items())
    return {partition: outcome for partition, outcome in parsed if outcome is not None}


def with_earlier(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, known: Mapping[str, Outcome]
) -> dict[str, Outcome]:
    """Return these outcomes with what was earlier, by two queries where any is not a plain success."""
    ids = latest_event_ids(instance, asset_key, "observation", [one for one in known if known[one].ending != "s"])
    read = {partition: _outcome(event) for partition, event in _observations(instance, asset_key, ids.values())}
    return {partition: read.get(partition) or outcome for partition, outcome in known.items()}


def _observations(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, ids: Collection[int]
) -> Iterator[tuple[str, dg.AssetObservation]]:
    for chunk in _chunks(sorted(ids, reverse=True)):
        page = dg.AssetRecordsFilter(asset_key=asset_key, storage_ids=chunk)
        for record in instance.fetch_observations(page, limit=len(chunk)).records:
            if record.asset_observation is not None:
                yield record.partition_key or "", record.asset_observation


def _outcome(event: dg.AssetObservation) -> Outcome | None:
    outcome = Outcome.parse(event.tags.get(DATA_VERSION_TAG, ""))
    if outcome is None or "earlier" not in event.metadata:
        return outcome
    stated: Any = event.metadata["earlier"].value
    return replace(outcome, earlier=tuple(one for one in map(Outcome.parse, stated) if one is not None))


def _unpartitioned(instance: dg.DagsterInstance, asset_key: dg.AssetKey) -> dict[str, Outcome]:
    made = instance.fetch_materializations(asset_key, limit=1).records
    seen = instance.fetch_observations(asset_key, limit=1).records
    observed = seen[0].asset_observation if seen else None
    if observed is not None and (not made or seen[0].storage_id > made[0].storage_id):
        outcome = _outcome(observed)
        return {"": outcome} if outcome else {}
    event = made[0].asset_materialization if made else None
    if event is None or not event.tags or WANTED_VERSION_TAG not in event.tags:
        return {}
    return {"": Outcome(event.tags[WANTED_VERSION_TAG], 0, "s", int(made[0].timestamp))}


def held_versions(
    instance: dg.DagsterInstance,
    asset_key: dg.AssetKey,
    *,
    tag: str = WANTED_VERSION_TAG,
    partitions: Collection[str] | None = None,
) -> dict[str, str]:
    """Return a version that each partition ("" without partitions) holds, by one query.

    Args:
        instance: Where events are recorded.
        asset_key: The asset.
        tag: `DATA_VERSION_TAG` for the version of what is held, `WANTED_VERSION_TAG` for the one it was made for.
        partitions: Only these; None for all.
    """
    if tag == DATA_VERSION_TAG:
        return latest_data_versions(instance, asset_key, "materialization", partitions)
    return {
        partition: outcome.version
        for partition, outcome in (
            newest_outcomes(instance, asset_key, partitions) or _unpartitioned(instance, asset_key)
        ).items()
        if outcome.holds
    }


def latest_by_partition(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, partitions: Collection[str] | None = None
) -> dict[str, dg.AssetMaterialization]:
    """Return the newest materialization of each partition ("" without partitions), the newest of all first."""
    ids = latest_event_ids(instance, asset_key, "materialization", partitions)
    if not ids and partitions is None:
        newest = instance.fetch_materializations(asset_key, limit=1).records
        return (
            dict.fromkeys([""], newest[0].asset_materialization) if newest and newest[0].asset_materialization else {}
        )
    latest: dict[str, dg.AssetMaterialization] = {}
    for chunk in _chunks(sorted(ids.values(), reverse=True)):
        page = dg.AssetRecordsFilter(asset_key=asset_key, storage_ids=chunk)
        for record in instance.fetch_materializations(page, limit=len(chunk)).records:
            if record.asset_materialization is not None:
                latest[record.partition_key or ""] = record.asset_materialization
    return latest


def nothing_held(asset_key: dg.AssetKey, partition: str) -> UpstreamMissing:
    """Return the failure of a step that follows a partition which was never materialized."""
    return UpstreamMissing(f"{asset_key.to_user_string()} holds nothing of {partition}; materialize it first")


def failure_reasons(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, partitions: Collection[str]
) -> dict[str, str]:
    """Return why the last attempt at each of these partitions failed, as `Type: message`, where it did."""
    ids = latest_event_ids(instance, asset_key, "observation", partitions)
    reasons: dict[str, str] = {}
    for partition, event in _observations(instance, asset_key, ids.values()):
        outcome = _outcome(event)
        if outcome is not None and outcome.failed:
            before = event.metadata.get("failed_before") if outcome.retired else None
            reasons[partition] = str(before.value) if before else event.description or ""
    return reasons


def newest_observation_id(instance: dg.DagsterInstance, asset_key: dg.AssetKey) -> int:
    """Return the storage id of an asset's newest observation; 0 before the first."""
    newest = instance.fetch_observations(asset_key, limit=1).records
    return newest[0].storage_id if newest else 0


def observations_since(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, since: float
) -> Iterator[dg.EventLogRecord]:
    """Yield an asset's observations after a time (unix seconds), the newest first."""
    cursor: str | None = None
    some = dg.AssetRecordsFilter(asset_key=asset_key, after_timestamp=since)
    while True:
        page = instance.fetch_observations(some, limit=_PAGE, cursor=cursor)
        yield from page.records
        if not page.has_more:
            return
        cursor = page.cursor


def _chunks(ids: list[int]) -> list[list[int]]:
    return [ids[start : start + _PAGE] for start in range(0, len(ids), _PAGE)]


def succeeded(asset_key: dg.AssetKey, partition: str, version: str) -> dg.AssetObservation:
    """Return the event that a partition now holds a wanted version; yield it after its materializations."""
    return outcome_event(asset_key, partition, Outcome(version, 0, "s", int(time.time())))


def failed_attempt(  # noqa: PLR0913 - what an attempt is
    asset_key: dg.AssetKey,
    partition: str,
    version: str,
    error: Exception,
    *,
    before: Outcome | None = None,
    was_tried: bool = True,
    tags: Mapping[str, str] = {},
) -> dg.AssetObservation:
    """Return the event that records a failed attempt at one partition's wanted version.

    Args:
        asset_key: The asset.
        partition: Its partition; "" without partitions.
        version: The version that the attempt was made for.
        error: What went wrong; only a `TransientFailure` is worth another attempt.
        before: The partition's outcome so far, with what was earlier: attempts at the same version add up.
        was_tried: Whether it counts as an attempt; what never started was none.
        tags: Further tags.
    """
    last = before.of(version) if before is not None else None
    so_far = last.attempts if last is not None and last.failed else 0
    ending: Ending = next((one for one, kind in FAILURES.items() if isinstance(error, kind)), "p")
    outcome = Outcome(
        version,
        so_far + was_tried,
        ending,
        int(time.time()),
        retired=before is not None and before.retired,  # what fails does not exist again
        pause=_pause(error),
        earlier=before.all_earlier(version) if before is not None else (),
    )
    reason = f"{type(error).__name__}: {error}"
    failed: dict[str, str | int] = {"error": reason, "attempt": outcome.attempts}
    return outcome_event(asset_key, partition, outcome, description=reason, metadata=failed, tags=tags)


def _pause(error: Exception) -> int:
    asked = (error.retry_after_seconds or 0.0) if isinstance(error, TransientFailure) else 0.0
    return math.ceil(math.log2(min(asked, _LONGEST_PAUSE_SECONDS))) if asked > 1 else 0


def attempts_reset(
    asset_key: dg.AssetKey, partition: str, version: str = "", *, before: Outcome | None = None
) -> dg.AssetObservation:
    """Return the event that forgives a partition its failed attempts: it is requested again, whatever it holds.

    Args:
        asset_key: The asset.
        partition: Its partition; "" without partitions.
        version: The version that is wanted, where it is known.
        before: The partition's outcome so far, with what was earlier: of that, what it holds stays.
    """
    held = tuple(one for one in before.all_earlier(version) if one.holds) if before is not None else ()
    outcome = Outcome(version, 0, "r", int(time.time()), earlier=held)
    return outcome_event(asset_key, partition, outcome, tags={RESET_TAG: str(outcome.at)})


def came_back(asset_key: dg.AssetKey, partition: str, outcome: Outcome) -> dg.AssetObservation:
    """Return the event that a version of before is wanted again, and nothing is to be tried; see `Outcome.back_to`."""
    said = "is held" if outcome.holds else f"failed in {outcome.attempts} attempts: the events of before say of what"
    description = f"version {outcome.version} is wanted again; it {said}"
    return outcome_event(asset_key, partition, outcome, description=description, tags={CAME_BACK_TAG: outcome.version})


def outcome_event(  # noqa: PLR0913 - what an observation says
    asset_key: dg.AssetKey,
    partition: str,
    outcome: Outcome,
    *,
    description: str | None = None,
    metadata: Mapping[str, str | int] = {},
    tags: Mapping[str, str] = {},
) -> dg.AssetObservation:
    """Return the event that gives a partition an outcome.

    Args:
        asset_key: The asset.
        partition: Its partition; "" without partitions.
        outcome: How its last attempt ended.
        description: Why, in words.
        metadata: What else a person may want to see.
        tags: Further tags.
    """
    earlier = [one.data_version for one in outcome.earlier]
    return dg.AssetObservation(
        asset_key=asset_key,
        partition=partition or None,
        description=description,
        metadata={
            "wanted_version": outcome.version,
            **({"earlier": dg.MetadataValue.json(earlier)} if earlier else {}),
            **metadata,
        },
        tags={DATA_VERSION_TAG: outcome.data_version, **tags},
    )
