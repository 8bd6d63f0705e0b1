"""What the lakehouse needs from outside."""

from collections.abc import Iterable, Mapping

from ol_core.environment import Environment, SecretRef

WAREHOUSE_POOL = "warehouse"
"""Pool of what builds the models."""

MAINTENANCE_POOL = "raw_table_maintenance"
"""Pool of what maintains the raw tables."""


def secret_references(environment: Environment) -> Iterable[SecretRef]:
    """Yield the password of the engine, where it has one."""
    if environment.engine.kind == "trino":
        yield environment.engine.password


def pools(_environment: Environment) -> Mapping[str, int]:
    """Return the pools, one run at a time in each.

    DuckDB admits one writer, two dbt runs would replace each other's tables, and upkeep needs to be done once.
    """
    return {WAREHOUSE_POOL: 1, MAINTENANCE_POOL: 1}
