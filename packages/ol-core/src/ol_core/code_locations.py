"""Discovery of the installed code locations, through one entry-point group; all or nothing.

Listing reads package metadata only. Loading imports every chosen location; whatever is broken, wrong-typed, duplicated
or of another release is collected and raised once, so that a broken package never makes a smaller graph.
"""

import gc
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points, version
from typing import TYPE_CHECKING

from ol_core.failures import PermanentFailure

if TYPE_CHECKING:
    import dagster as dg

GROUP = "ol_data_platform.code_locations"


class DiscoveryError(PermanentFailure):
    """At least one code location cannot be used; the message names each with package, version, entry, cause, remedy."""


@dataclass(frozen=True, slots=True, order=True)
class CodeLocation:
    """An installed code location, not imported.

    Attributes:
        name: Name of the entry point and of the location.
        distribution: Package that brings it.
        version: That package's version.
        entry: `module:attribute` of its `@dagster.definitions` function.
    """

    name: str
    distribution: str
    version: str
    entry: str

    @property
    def module(self) -> str:
        """Module of the entry."""
        return self.entry.partition(":")[0]

    @property
    def attribute(self) -> str:
        """Attribute of the entry."""
        return self.entry.partition(":")[2]


def installed(only: Iterable[str] = (), *, found: Iterable[EntryPoint] | None = None) -> list[CodeLocation]:
    """List code locations by name, without importing any.

    Args:
        only: Names to restrict the list to; empty for all.
        found: Entry points to list instead of the installed ones.

    Raises:
        DiscoveryError: for a name that is not installed, and for a name that two packages bring.
    """
    points = entry_points(group=GROUP) if found is None else found
    locations = sorted({_describe(point) for point in points})
    names = Counter(location.name for location in locations)
    problems = [
        f"{_title(location)}: its name is taken twice; uninstall one of the packages that bring it"
        for location in locations
        if names[location.name] > 1
    ]
    unknown = sorted(set(only) - set(names))
    if unknown:
        valid = ", ".join(sorted(names)) or "none: install a package such as ol-canvas"
        problems.append(f"no code location is called {', '.join(unknown)}; installed are {valid}")
    _raise(problems)
    return [location for location in locations if not only or location.name in set(only)]


def load(locations: Sequence[CodeLocation]) -> Mapping[str, "dg.Definitions"]:
    """Import and resolve code locations, all or nothing.

    Raises:
        DiscoveryError: at least one location is broken, of a wrong type, or of another release than `ol-core`.
    """
    problems: list[str] = []
    loaded: dict[str, dg.Definitions] = {}
    for location in locations:
        try:
            _refuse_other_release(location)
            with _without_collections():
                loaded[location.name] = _resolve(location)
        except Exception as error:  # noqa: BLE001 - whatever a package raises while loading is reported by name
            problems.append(_problem(location, error))
    _raise(problems)
    return loaded


@contextmanager
def _without_collections() -> Iterator[None]:
    """Leave garbage be: what a location is made of stays, and to look through it costs up to a quarter of its load."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _describe(point: EntryPoint) -> CodeLocation:
    distribution = point.dist
    return CodeLocation(
        name=point.name,
        distribution=distribution.name if distribution else "unknown",
        version=distribution.version if distribution else "unknown",
        entry=point.value,
    )


def _refuse_other_release(location: CodeLocation) -> None:
    core = version("ol-core")
    if location.version.split(".")[:2] != core.split(".")[:2]:
        release = ".".join(core.split(".")[:2])
        raise PermanentFailure(
            f"made for another release than the installed ol-core {core}; install {location.distribution}=={release}.*"
        )


def _resolve(location: CodeLocation) -> "dg.Definitions":
    import dagster as dg

    point = EntryPoint(name=location.name, value=location.entry, group=GROUP)
    value = point.load()
    resolved = value() if callable(value) else value
    if not isinstance(resolved, dg.Definitions):
        raise PermanentFailure(
            f"gives {type(resolved).__name__}, not dagster.Definitions; name a @dagster.definitions function"
        )
    return resolved


def _problem(location: CodeLocation, error: Exception) -> str:
    if isinstance(error, PermanentFailure):
        return f"{_title(location)}: {error}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"{_title(location)}: cannot be loaded: {type(error).__name__}: {error} ({frame.filename}:{frame.lineno}); "
        f"repair or reinstall {location.distribution}, or leave {location.name} out by naming the others"
    )


def _title(location: CodeLocation) -> str:
    return f"{location.name} ({location.distribution} {location.version}, {location.entry})"


def _raise(problems: Sequence[str]) -> None:
    if problems:
        raise DiscoveryError("code locations cannot be used:\n" + "\n".join(f"  - {problem}" for problem in problems))
