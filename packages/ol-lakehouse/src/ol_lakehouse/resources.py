"""What the lakehouse needs from outside."""

from collections.abc import Iterable

from ol_core.environment import Environment, SecretRef


def secret_references(environment: Environment) -> Iterable[SecretRef]:
    """Yield the password of the engine, where it has one."""
    if environment.engine.kind == "trino":
        yield environment.engine.password
