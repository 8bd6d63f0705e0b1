"""Resources that code locations share, under their fixed keys."""

from collections.abc import Iterable, Mapping
from typing import Any

from ol_core.environment import Environment, SecretRef
from ol_core.learn import LEARN_POOL, learn_api
from ol_core.objects import object_store, s3_resource
from ol_core.orchestration.alerts import alert_sink
from ol_core.secrets import secrets_resource
from ol_core.tables import RawTableIOManager


def shared_resources(environment: Environment) -> dict[str, Any]:
    """Build the resources of an environment; both IO managers of files are that of its object store."""
    objects = object_store(environment)
    return {
        "secrets": secrets_resource(environment),
        "s3": s3_resource(environment),
        "io_manager": objects,
        "s3file_io_manager": objects,
        "raw_table_io_manager": RawTableIOManager.of(environment),
        "learn_api": learn_api(environment),
        "alert_sink": alert_sink(environment),
    }


def secret_references(environment: Environment) -> Iterable[SecretRef]:
    """Yield the secrets that every deployment needs: of webhooks, and of a catalog that asks for one."""
    yield environment.learn.secret
    if environment.alerts.kind == "webhook":
        yield environment.alerts.secret
    if environment.tables.kind == "rest":
        yield environment.tables.credential


def pools(_environment: Environment) -> Mapping[str, int]:
    """Return the pool of what every deployment tells: one run at a time, so that two never announce the same."""
    return {LEARN_POOL: 1}
