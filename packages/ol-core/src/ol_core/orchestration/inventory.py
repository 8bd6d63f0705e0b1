"""The inventory: what of a partitioned asset is not as it should be, why, and the command that recovers it.

It is an asset check, so it stands on the asset's page until it passes. Sensors evaluate it, from one query per step
and one per asset, and write it only where it says something new: what is about to be made by a run is nothing new.
"""

import hashlib
import json
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Literal

import dagster as dg

from ol_core.orchestration.desired_state import Outcome, Step, failure_reasons, newest_observation_id, outcomes

INVENTORY_CHECK = "inventory"
"""Name of the asset check."""

ATTEMPTS_METADATA = "attempts_under"
"""Metadata of an evaluation: the asset under which the attempts at this asset's partitions stand."""

BEHIND_METADATA = "behind"
"""Metadata of an evaluation: partitions never built or stale, and the version wanted of each, if known."""

State = Literal["quarantined", "failed", "never built", "stale"]
STATES: Sequence[State] = ("failed", "quarantined", "never built", "stale")

_SAMPLE = 20
_BEHIND = 500
_REASON_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Entry:
    """A partition that is not as it should be.

    Attributes:
        partition: The partition.
        state: What is wrong with it.
        attempts: Failed attempts at the version that is wanted.
        reason: Why.
    """

    partition: str
    state: State
    attempts: int
    reason: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """What of an asset is not as it should be.

    Attributes:
        asset_key: The asset.
        attempts_under: The asset under which attempts stand; one of those that the same job makes.
        partitions: How many partitions there are.
        counts: How many are in each state; a partition is in one at most.
        sample: Some of them.
        behind: Those never built or stale, up to a bound, and the version wanted of each; "" where it is unknown.
    """

    asset_key: dg.AssetKey
    attempts_under: dg.AssetKey
    partitions: int
    counts: Mapping[State, int]
    sample: Sequence[Entry] = field(repr=False)
    behind: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def passed(self) -> bool:
        """Whether nothing waits for a person; what was never built, or is stale, has its turn to come."""
        return not (self.counts["failed"] or self.counts["quarantined"])

    @property
    def command(self) -> str:
        """The command that has the partitions tried at once; empty where there are none."""
        options = [f"--{state.replace(' ', '-')}" for state in STATES if self.counts[state]]
        return shlex.join(["ol", "recover", self.asset_key.to_user_string(), *options]) if options else ""

    @property
    def digests(self) -> tuple[str, str]:
        """Of what waits for a person, and of everything."""
        problems = [one for one in self.sample if one.state in ("failed", "quarantined")]
        return (
            _digest([self.counts["failed"], self.counts["quarantined"], *map(repr, problems)]),
            _digest([dict(self.counts), *map(repr, self.sample)]),
        )

    def evaluation(self) -> dg.AssetCheckEvaluation:
        """Return the check's evaluation."""
        return dg.AssetCheckEvaluation(
            asset_key=self.asset_key,
            check_name=INVENTORY_CHECK,
            passed=self.passed,
            severity=dg.AssetCheckSeverity.ERROR,
            description=self.description,
            metadata=self.metadata,
        )

    @property
    def description(self) -> str:
        """What is wrong, in a line."""
        counts = ", ".join(f"{self.counts[state]} {state}" for state in STATES)
        return f"{counts} of {self.partitions} partitions" + (f"; recover: {self.command}" if self.command else "")

    @property
    def metadata(self) -> dict[str, dg.MetadataValue]:
        """What stands on the check's page."""
        rows = [
            f"| {_cell(one.partition)} | {one.state} | {one.attempts} | {_cell(one.reason)} |" for one in self.sample
        ]
        table = "\n".join(["| partition | state | failed attempts | reason |", "|---|---|---|---|", *rows])
        return {
            "partitions": dg.MetadataValue.int(self.partitions),
            **{state.replace(" ", "_"): dg.MetadataValue.int(self.counts[state]) for state in STATES},
            ATTEMPTS_METADATA: dg.MetadataValue.text(self.attempts_under.to_user_string()),
            **({"sample": dg.MetadataValue.md(table)} if rows else {}),
            **({BEHIND_METADATA: dg.MetadataValue.json(dict(self.behind))} if self.behind else {}),
            **({"recover": dg.MetadataValue.text(self.command)} if self.command else {}),
        }


def take(
    instance: dg.DagsterInstance, step: Step, live: AbstractSet[str], wanted: Mapping[str, str]
) -> Iterator[Inventory]:
    """Count what a step makes, asset by asset: one query for the step, one an asset, two for the reasons of a sample.

    Args:
        instance: Where runs and events are recorded.
        step: The step.
        live: Its partitions, without those that are retired.
        wanted: Version that each should hold, as far as it is known.
    """
    known = outcomes(instance, step.asset_key)
    failed = {partition: known[partition] for partition in sorted(live) if _failed(known.get(partition))}
    states: dict[str, State] = {one: _state(outcome) for one, outcome in failed.items()}
    listed = sorted(failed, key=lambda one: (STATES.index(states[one]), one))[:_SAMPLE]
    reasons = failure_reasons(instance, step.asset_key, listed) if listed else {}
    behind = {one for one, version in wanted.items() if _is_behind(known.get(one), version)}
    for asset_key in step.assets:
        made = instance.get_materialized_partitions(asset_key) & live
        never = live - made - failed.keys()
        stale = (behind & made) - failed.keys()
        counts: dict[State, int] = {
            **{state: sum(one == state for one in states.values()) for state in STATES},
            "never built": len(never),
            "stale": len(stale),
        }
        sample = [
            *(Entry(one, states[one], failed[one].attempts, reasons.get(one, "")) for one in listed),
            *(Entry(one, "never built", 0, "its turn is to come") for one in sorted(never)[:_SAMPLE]),
            *(Entry(one, "stale", 0, "its turn is to come") for one in sorted(stale)[:_SAMPLE]),
        ]
        listed_behind = {one: wanted.get(one, "") for one in [*sorted(never), *sorted(stale)][:_BEHIND]}
        yield Inventory(asset_key, step.asset_key, len(live), counts, sample[:_SAMPLE], listed_behind)


def news(  # noqa: PLR0913 - what is, what should be, and what was said
    instance: dg.DagsterInstance,
    step: Step,
    live: AbstractSet[str],
    wanted: Mapping[str, str],
    *,
    at_rest: bool,
    reported: Mapping[str, str],
) -> tuple[list[dg.AssetCheckEvaluation], dict[str, str]]:
    """Return the evaluations of a step's inventories that say something new, and what is to be kept of them.

    Args:
        instance: Where runs and events are recorded.
        step: The step.
        live: Its partitions, without those that are retired.
        wanted: Version that each should hold, as far as it is known.
        at_rest: Whether no run of it is unfinished or requested; else only what waits for a person is news.
        reported: What was kept the last time.
    """
    mark = _digest([newest_observation_id(instance, step.asset_key), at_rest, sorted(live), sorted(wanted.items())])
    if reported.get(step.job_name) == mark or (not live and step.job_name not in reported):
        return [], dict(reported)
    evaluations: list[dg.AssetCheckEvaluation] = []
    kept = {**reported, step.job_name: mark}
    for one in take(instance, step, live, wanted):
        name, (problems, everything) = one.asset_key.to_user_string(), one.digests
        before = reported.get(name, "-").split("-")
        if before != [problems, everything] if at_rest else before[0] != problems:
            evaluations.append(one.evaluation())
            kept[name] = f"{problems}-{everything}"
    return evaluations, kept


def _failed(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.failed


def _state(outcome: Outcome) -> State:
    return "quarantined" if outcome.ending == "q" else "failed"


def _is_behind(outcome: Outcome | None, version: str) -> bool:
    return outcome is None or outcome.version != version or outcome.ending == "r"


def _digest(content: Collection[object]) -> str:
    return hashlib.sha256(json.dumps(list(content)).encode()).hexdigest()[:12]


def _cell(text: str) -> str:
    line = " ".join(text.split()).replace("|", "\\|")
    return line if len(line) <= _REASON_CHARACTERS else f"{line[:_REASON_CHARACTERS]}..."
