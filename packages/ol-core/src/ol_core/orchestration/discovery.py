"""What a source has, as far as anybody knows; a list that could not be read is never taken for an empty one."""

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TypeVar

from ol_core.failures import OlError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Known:
    """The source said what it has, to the end.

    Attributes:
        keys: Partition keys of all that exists.
        version: Version of the list itself; "" where nothing is made of it.
    """

    keys: Collection[str]
    version: str = ""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody knows what the source has; nothing may be concluded from it, least of all that something is gone.

    Attributes:
        reason: What went wrong.
        seen: Keys that exist, as far as the source said.
        goes_on: Whether the next tick asks again, since the source reads on then where it stopped.
    """

    reason: str
    seen: Collection[str] = ()
    goes_on: bool = False


Discovery = Known | Unknown


def discovered(  # noqa: PLR0913 - a list, what it is a list of, and how long it may take
    listed: Iterable[T],
    *,
    what: str,
    key: Callable[[T], str],
    version: Callable[[Collection[T]], str],
    budget_seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Discovery:
    """Read a source's list to its end; nobody knows what exists where that fails or takes too long.

    Args:
        listed: What the source lists, page by page.
        what: What it is a list of, in the plural, for messages.
        key: Gives the partition key of an entry.
        version: Gives the version of the whole list.
        budget_seconds: How long it may take.
        clock: Seconds that only grow.
    """
    deadline = clock() + budget_seconds
    found: list[T] = []
    try:
        for one in listed:
            found.append(one)
            if clock() > deadline:
                reason = f"the list of {what} is longer than can be read in {budget_seconds:.0f} s"
                return Unknown(f"{reason}; raise DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS", [key(one) for one in found])
    except OlError as error:
        return Unknown(f"the list of {what}: {type(error).__name__}: {error}", [key(one) for one in found])
    return Known([key(one) for one in found], version(found))
