"""What an op records that replaces many partitions of a raw table."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import dagster as dg

from ol_core.orchestration.desired_state import DATA_VERSION_TAG, held_versions
from ol_core.tables.io_manager import RawTableIOManager

if TYPE_CHECKING:
    import pyarrow as pa


def replace_moved(  # noqa: PLR0913 - a table's declaration, and its rows
    tables: RawTableIOManager,
    asset_key: dg.AssetKey,
    schema: "pa.Schema",
    *,
    versions: Mapping[str, str],
    rows: "Callable[[str], pa.Table]",
    tells_all: bool = False,
) -> dict[str, dg.AssetMaterialization]:
    """Replace the partitions of an asset's raw table whose content moved, in one commit; return their events.

    Args:
        tables: Where the table is.
        asset_key: The asset; the last part names its table.
        schema: See `RawTableIOManager.replace_partitions`, also for what is raised.
        versions: Partitions, and the version of the content of each.
        rows: Reads a partition's rows.
        tells_all: Whether there is an event of what did not move as well.
    """
    context = dg.AssetExecutionContext.get()
    held = held_versions(context.instance, asset_key, tag=DATA_VERSION_TAG, partitions=list(versions))
    moved = [one for one, version in versions.items() if held.get(one) != version]
    commit = tables.replace_partitions(asset_key.path[-1], schema, moved, (rows(one) for one in moved))
    context.log.info("%s: %d of %d replaced, %d rows", commit.table, len(moved), len(versions), commit.rows)
    told = list(versions) if tells_all else moved
    whole = told[-1:]  # the newest event describes the table; the schema in every one of them would cost more than it
    return {
        one: dg.AssetMaterialization(
            asset_key,
            partition=one,
            metadata=commit.metadata if one in whole else {"snapshot_id": str(commit.snapshot_id)},
            tags={DATA_VERSION_TAG: versions[one]},
        )
        for one in told
    }
