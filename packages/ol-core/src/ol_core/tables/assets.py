"""The asset that maintains the raw tables."""

from collections.abc import Sequence

import dagster as dg

from ol_core.tables.io_manager import RawTableIOManager
from ol_core.tables.maintenance import TableUpkeep

CHECK = "every_table_is_maintained"

_COLUMNS = ("table", "compacted", "expired", "removed", "removed MiB", "snapshots", "files", "remark")


def maintenance_asset(
    key: dg.AssetKey, *, group: str, owners: Sequence[str], pool: str, tables: Sequence[str] | None = None
) -> dg.AssetsDefinition:
    """Build the asset that maintains raw tables, each as its own policy says, and shows what became of each.

    A table that fails costs no other its turn: it fails the asset's check. Where all of them fail, so does the run. A
    table that declares no policy is another engine's: it is shown, and left alone.

    Args:
        key: Key of the asset.
        group: Its group.
        owners: Its owners.
        pool: Its pool; two runs at once would do the same work twice.
        tables: Tables to maintain, without the namespace; None for all of the catalog.
    """

    @dg.asset(
        key=key,
        group_name=group,
        owners=list(owners),
        kinds={"iceberg"},
        pool=pool,
        check_specs=[
            dg.AssetCheckSpec(
                CHECK, asset=key, description="No table failed; those that did are listed with the cause."
            )
        ],
        description=(
            "The raw tables, kept up as the policy of each says: partitions of many small files rewritten into few, "
            "old snapshots expired, files removed that no snapshot needs."
        ),
    )
    def maintenance(
        context: dg.AssetExecutionContext, raw_table_io_manager: dg.ResourceParam[RawTableIOManager]
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # beside checks Dagster reads only the bare class
        done: list[TableUpkeep] = []
        for one in raw_table_io_manager.keep_up(tables):
            done.append(one)
            context.log.info("%s", ", ".join(f"{name} {value}" for name, value in _row(one).items() if value != ""))
        failed = [one for one in done if one.error]
        if failed and len(failed) == sum(not one.left_alone for one in done):
            raise dg.Failure(
                f"the maintenance of all {len(failed)} raw tables failed; the first: {failed[0].error}",
                metadata={"tables": _markdown(done)},
                allow_retries=False,
            )
        check = dg.AssetCheckResult(
            check_name=CHECK,
            passed=not failed,
            metadata={"tables": len(done), "failed": _markdown(failed) if failed else "none"},
        )
        return dg.MaterializeResult(metadata=_metadata(done), check_results=[check])

    return maintenance


def _metadata(done: Sequence[TableUpkeep]) -> dict[str, int | dg.MarkdownMetadataValue]:
    return {
        "tables": _markdown(done),
        "tables_maintained": sum(not one.error and not one.left_alone for one in done),
        "tables_left_alone": sum(one.left_alone for one in done),
        "tables_failed": sum(bool(one.error) for one in done),
        "partitions_compacted": sum(one.compacted for one in done),
        "snapshots_expired": sum(one.expired for one in done),
        "files_removed": sum(one.removed for one in done),
        "removed_bytes": sum(one.removed_bytes for one in done),
    }


def _row(one: TableUpkeep) -> dict[str, str]:
    numbers = (one.compacted, one.expired, one.removed, f"{one.removed_bytes / 2**20:.1f}", one.snapshots, one.files)
    said = "left alone: it declares no policy" if one.left_alone else one.error
    values = [""] * len(numbers) if said else [str(number) for number in numbers]
    return dict(zip(_COLUMNS, (one.table, *values, said), strict=True))


def _markdown(done: Sequence[TableUpkeep]) -> dg.MarkdownMetadataValue:
    lines = [" | ".join(_COLUMNS), " | ".join("---" for _ in _COLUMNS)]
    lines += [" | ".join(value.replace("|", "\\|").replace("\n", " ") for value in _row(one).values()) for one in done]
    return dg.MetadataValue.md("\n".join(f"| {line} |" for line in lines))
