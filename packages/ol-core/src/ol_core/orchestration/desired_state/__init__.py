"""What should be requested follows from versions wanted and versions held; nothing depends on having seen an event.

A sensor states what is wanted and lets `decide` say what to request: one run per job, with its partitions and their
versions in its configuration. The op takes `WantedVersions` and yields from `recorded`, which writes for each partition
its materializations and an outcome. The next tick compares again. So a lost tick, a restart or a run started by hand
can neither lose an update nor repeat a run for ever: attempts are bounded for each (partition, wanted version).
"""

from ol_core.dagster_storage import DATA_VERSION_TAG
from ol_core.orchestration.desired_state.decisions import Decision, decide
from ol_core.orchestration.desired_state.exporting import exported
from ol_core.orchestration.desired_state.outcomes import (
    FAILURE_PATTERN,
    FAILURES,
    RESET_TAG,
    RETIRED_TAG,
    RUN_TAG,
    WANTED_VERSION_TAG,
    Outcome,
    as_version,
    attempts_reset,
    failed_attempt,
    failure_reasons,
    held_versions,
    latest_by_partition,
    newest_observation_id,
    nothing_held,
    observations_since,
    outcome_event,
    outcomes,
    succeeded,
)
from ol_core.orchestration.desired_state.recording import Recorded, recorded
from ol_core.orchestration.desired_state.requests import (
    GIVEN_UP_TAG,
    MAX_ATTEMPTS,
    NO_RUN_RETRIES,
    SETTLED_TAG,
    UNFINISHED,
    AttemptPolicy,
    Step,
    WantedVersions,
    asked,
    behind,
    changed,
    in_flight,
    in_order,
    settle,
    wanted_since,
)
from ol_core.orchestration.desired_state.submissions import submitted, unfinished_submissions

__all__ = [
    "DATA_VERSION_TAG",
    "FAILURES",
    "FAILURE_PATTERN",
    "GIVEN_UP_TAG",
    "MAX_ATTEMPTS",
    "NO_RUN_RETRIES",
    "RESET_TAG",
    "RETIRED_TAG",
    "RUN_TAG",
    "SETTLED_TAG",
    "UNFINISHED",
    "WANTED_VERSION_TAG",
    "AttemptPolicy",
    "Decision",
    "Outcome",
    "Recorded",
    "Step",
    "WantedVersions",
    "as_version",
    "asked",
    "attempts_reset",
    "behind",
    "changed",
    "decide",
    "exported",
    "failed_attempt",
    "failure_reasons",
    "held_versions",
    "in_flight",
    "in_order",
    "latest_by_partition",
    "newest_observation_id",
    "nothing_held",
    "observations_since",
    "outcome_event",
    "outcomes",
    "recorded",
    "settle",
    "submitted",
    "succeeded",
    "unfinished_submissions",
    "wanted_since",
]
