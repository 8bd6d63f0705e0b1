"""Iceberg catalogs: SQL on a laptop, REST or Glue in production; one boundary for what goes wrong with them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ol_core.cpus import limit_library_threads
from ol_core.failures import OlError, PermanentFailure, TransientFailure

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog


@contextmanager
def open_catalog(properties: Mapping[str, str], what: str, *, writable: bool = True) -> Iterator["Catalog"]:
    """Open a catalog for one operation; `what` is named in the message of whatever goes wrong.

    Args:
        properties: PyIceberg's own (https://py.iceberg.apache.org/configuration/).
        what: The table, or what is asked.
        writable: Whether a SQLite catalog may be made; where not, one that is missing is as one without tables.

    Raises:
        PermanentFailure: the catalog refuses, or its configuration cannot work.
        TransientFailure: the catalog or the store failed; what they held is as it was.
    """
    limit_library_threads()
    uri = properties.get("uri", "")
    if uri.startswith("sqlite:///"):
        file = Path(uri.removeprefix("sqlite:///"))
        if writable:
            file.parent.mkdir(parents=True, exist_ok=True)
        elif not file.exists():
            properties = {**properties, "uri": "sqlite://"}  # in memory
    try:
        with _loaded(properties) as catalog:
            yield catalog
    except OlError:
        raise
    except Exception as error:
        translated = _failure(error, f"{what} in the {properties['type']} catalog {uri or properties.get('warehouse')}")
        if translated is None:
            raise
        raise translated from (None if _may_hold_a_secret(error) else error)


def _loaded(properties: Mapping[str, str]) -> "Catalog":
    from pyiceberg.catalog import load_catalog
    from sqlalchemy.exc import OperationalError

    try:
        return load_catalog("ol", **properties)
    except OperationalError:  # another process made the tables of a SQL catalog at the same moment
        return load_catalog("ol", **properties)


def _may_hold_a_secret(error: Exception) -> bool:
    """Tell whether an error shows what a token was asked for with, or what was answered."""
    from pyiceberg.exceptions import OAuthError

    return isinstance(error, OAuthError | ValidationError)


def _without_values(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in error.errors())


def is_transient(error: Exception) -> bool:
    """Tell whether an error says only that the catalog or the store failed, so that a commit may have been made."""
    return isinstance(_failure(error, ""), TransientFailure)


def _failure(error: Exception, what: str) -> OlError | None:
    """Say what an error means; None for what no catalog and no store raises."""
    from pyiceberg import exceptions
    from requests import RequestException
    from sqlalchemy.exc import OperationalError, SQLAlchemyError

    name = type(error).__name__
    module = type(error).__module__.partition(".")[0]
    match error:
        case exceptions.UnauthorizedError() | exceptions.ForbiddenError() | exceptions.OAuthError():
            return PermanentFailure(f"{what}: refused ({name}); check the catalog's credential and what it may do")
        case (
            exceptions.CommitFailedException()
            | exceptions.CommitStateUnknownException()
            | exceptions.ValidationException()
            | exceptions.ServerError()
            | exceptions.ServiceUnavailableError()
            | exceptions.TooManyRequestsError()
            | exceptions.WaitingForLockException()
            | RequestException()
            | OperationalError()
            | OSError()
        ):
            return TransientFailure(f"{what}: failed ({name}: {error}); what it held is as it was")
        case exceptions.RESTError() | exceptions.ValidationError() | SQLAlchemyError() | ValueError() | TypeError():
            return PermanentFailure(f"{what}: {name}: {_without_values(error)}")
    if module == "botocore":
        if name in {"NoRegionError", "NoCredentialsError", "PartialCredentialsError"}:
            return PermanentFailure(f"{what}: {error}; state the region under [tables], give the process an AWS role")
        return TransientFailure(f"{what}: failed ({name}: {error}); what it held is as it was")
    return None
