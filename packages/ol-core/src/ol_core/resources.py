"""Resources that every code location is served with, under their fixed keys."""

from typing import Any

from ol_core.environment import Environment
from ol_core.learn import learn_api
from ol_core.objects import FileObjectIOManager
from ol_core.secrets import secrets_resource
from ol_core.tables import RawTableIOManager


def shared_resources(environment: Environment) -> dict[str, Any]:
    """Build `secrets`, `io_manager`, `raw_table_io_manager` and `learn_api` of an environment."""
    return {
        "secrets": secrets_resource(environment),
        "io_manager": FileObjectIOManager(url=environment.objects.url, writable=environment.objects.writable),
        "raw_table_io_manager": RawTableIOManager.of(environment),
        "learn_api": learn_api(environment),
    }
