"""Canvas courses as Dagster assets: content exports, their metadata and raw tables."""
