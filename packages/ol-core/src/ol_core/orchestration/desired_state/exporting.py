"""What an op does that exports many partitions: only what is behind, each remote export once, recorded as it ends."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Protocol, TypeVar

import dagster as dg

from ol_core.failures import OlError
from ol_core.orchestration.desired_state.recording import Recorded, recorded
from ol_core.orchestration.desired_state.requests import AttemptPolicy, WantedVersions, behind
from ol_core.orchestration.desired_state.submissions import submitted, unfinished_submissions
from ol_core.orchestration.exports import ExportLimits, Submission

Export_co = TypeVar("Export_co", covariant=True)
Export = TypeVar("Export")
Stored = TypeVar("Stored")


class Exporter(Protocol[Export_co]):
    """A client that exports, by `ol_core.orchestration.exports.export_all`."""

    def __call__(
        self,
        versions: Mapping[str, str],
        *,
        limits: ExportLimits,
        resume: Mapping[str, Submission],
        on_submitted: Callable[[Sequence[Submission]], None],
    ) -> Iterator[tuple[str, Export_co | OlError]]:
        """Export partitions at their versions; give what became of each as it becomes known."""


def exported(  # noqa: PLR0913 - what to export, how, and what to do with it
    asset_key: dg.AssetKey,
    config: WantedVersions,
    versions: Mapping[str, str | OlError],
    *,
    export: Exporter[Export],
    store: Callable[[str, Export | OlError], Stored | OlError],
    events: Callable[[str, Stored], Iterable[dg.AssetMaterialization]],
    policy: AttemptPolicy,
    limits: ExportLimits,
) -> Iterator[Recorded]:
    """Export partitions and record what became of each. A run of a person exports all, whatever they hold.

    Args:
        asset_key: Asset under which outcomes and submissions stand.
        config: What the run was requested for.
        versions: The run's partitions, and the version that each has now or why nobody knows.
        export: Exports; it takes up what a killed run submitted.
        store: Keeps what was exported; says what became of it.
        events: Makes the materializations of a partition that is stored.
        policy: Attempts for a version.
        limits: Exports in flight, and how long each may take.

    Raises:
        dagster.Failure: at least one partition failed; all others are recorded.
    """
    context = dg.AssetExecutionContext.get()
    instance, run_id = context.instance, context.run.run_id
    unreadable = {one: error for one, error in versions.items() if isinstance(error, OlError)}
    current = {one: version for one, version in versions.items() if isinstance(version, str)}
    due = behind(instance, asset_key, current, policy) if config.wanted else current
    exports = export(
        {one: current[one] for one in due},
        limits=limits,
        resume=unfinished_submissions(instance, asset_key, limits),
        on_submitted=lambda some: instance.report_runless_asset_event(submitted(asset_key, some, run_id=run_id)),
    )
    stored = ((one, store(one, export)) for one, export in exports)
    wanted = {one: current.get(one, config.wanted.get(one, "")) for one in (*unreadable, *due)}
    yield from recorded(asset_key, wanted, chain(unreadable.items(), stored), events)
