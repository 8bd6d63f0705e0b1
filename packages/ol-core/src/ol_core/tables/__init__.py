"""Raw tables: one Apache Iceberg table per kind, replaced partition by partition in one commit."""

from ol_core.tables.assets import maintenance_asset
from ol_core.tables.commits import TableCommit, TablePolicy
from ol_core.tables.io_manager import RawTableIOManager
from ol_core.tables.maintenance import TableUpkeep
from ol_core.tables.recording import replace_moved

__all__ = ["RawTableIOManager", "TableCommit", "TablePolicy", "TableUpkeep", "maintenance_asset", "replace_moved"]
