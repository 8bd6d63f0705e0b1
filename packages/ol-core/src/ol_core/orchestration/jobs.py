"""Jobs: what each of them states beside its assets, so that none hangs, multiplies retries or takes a node with it."""

from dataclasses import dataclass
from typing import Any

import dagster as dg

from ol_core.orchestration.desired_state import NO_RUN_RETRIES

MAX_RUNTIME_TAG = "dagster/max_runtime"
"""Seconds after which Dagster's run monitoring ends a run."""

KUBERNETES_TAG = "dagster-k8s/config"


@dataclass(frozen=True, slots=True)
class Worker:
    """What a run's process gets of a node; it asks for all of it, so no node promises the same memory twice.

    Attributes:
        cpus: CPUs; may be a fraction.
        memory_mib: Memory in MiB; a process that takes more is killed.
    """

    cpus: float
    memory_mib: int

    @property
    def resources(self) -> dict[str, dict[str, str]]:
        """The resources of a Kubernetes container."""
        stated = {"cpu": f"{self.cpus:g}", "memory": f"{self.memory_mib}Mi"}
        return {"requests": dict(stated), "limits": dict(stated)}


SMALL = Worker(cpus=0.5, memory_mib=1024)
"""For what asks, lists and tells."""

LARGE = Worker(cpus=2, memory_mib=4096)
"""For what reads and writes content: exports, archives, tables, models. A run started without a job gets it as well."""


def asset_job(
    name: str,
    assets: dg.AssetSelection | dg.AssetsDefinition,
    *,
    description: str,
    max_runtime_seconds: float,
    worker: Worker,
) -> Any:  # noqa: ANN401 - Dagster does not export the type of what `define_asset_job` returns
    """Define the job that materializes assets. Its retries belong to the sensor that requests it.

    Args:
        name: Name of the job.
        assets: What it materializes.
        description: What it does, for people.
        max_runtime_seconds: When a run is ended; what it left undone is requested again.
        worker: What a run gets of a node.
    """
    selection = assets if isinstance(assets, dg.AssetSelection) else _made_by(assets)
    return dg.define_asset_job(
        name,
        selection=selection,
        description=description,
        tags={
            **NO_RUN_RETRIES,
            MAX_RUNTIME_TAG: str(round(max_runtime_seconds)),
            KUBERNETES_TAG: {"container_config": {"resources": worker.resources}},
        },
    )


def _made_by(assets: dg.AssetsDefinition) -> dg.AssetSelection:
    """Select what a definition makes, and of all checks only its own: those that stand on its assets have sensors."""
    made = dg.AssetSelection.assets(*assets.keys).without_checks()
    return made | dg.AssetSelection.checks(*assets.check_keys) if assets.check_keys else made
