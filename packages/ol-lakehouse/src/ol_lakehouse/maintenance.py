"""The maintenance of the raw tables: the asset's place in the lakehouse, and when it runs."""

import dagster as dg
from ol_core.orchestration.cadence import OFF, Cadence
from ol_core.tables import maintenance_asset

from ol_lakehouse.resources import MAINTENANCE_POOL

MAINTENANCE = Cadence(dev="0 3 * * *", ci=OFF, qa="0 3 * * *", production="0 3 * * *")
"""Once a night, UTC: snapshots and files only pile up as fast as commits come."""


def raw_table_maintenance() -> dg.AssetsDefinition:
    """Build the asset that maintains every raw table of the environment's catalog."""
    return maintenance_asset(
        dg.AssetKey(["lakehouse", "raw_table_maintenance"]),
        group="lakehouse",
        owners=["team:data-platform"],
        pool=MAINTENANCE_POOL,
    )


def maintenance_schedule(job_name: str, *, cron: str) -> dg.ScheduleDefinition:
    """Build the schedule of the job that maintains the raw tables.

    Args:
        job_name: Job to request.
        cron: When, in UTC.
    """
    return dg.ScheduleDefinition(
        name="lakehouse_raw_table_maintenance",
        job_name=job_name,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        metadata=MAINTENANCE.metadata,
        description="Requests the maintenance of the raw tables, once a night.",
    )
