"""What the lakehouse needs from outside."""

from collections.abc import Iterable, Mapping

from ol_core.environment import Environment, SecretRef

WAREHOUSE_POOL = "warehouse"
"""Pool of what builds the models."""


def secret_references(environment: Environment) -> Iterable[SecretRef]:
    """Yield the password of the engine, where it has one."""
    if environment.engine.kind == "trino":
        yield environment.engine.password


def pools(_environment: Environment) -> Mapping[str, int]:
    """Return the pool of the engine: DuckDB admits one writer, and two dbt runs would replace each other's tables."""
    return {WAREHOUSE_POOL: 1}
