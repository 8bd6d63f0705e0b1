"""How often a sensor or a schedule runs, stated for every environment beside its definition.

`OFF` means that it is not registered there at all: nothing runs, or rests, by a switch that only Dagster's pages show.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final, Generic, TypeVar

from ol_core.environment import Environment
from ol_core.failures import PermanentFailure

OFF: Final = None

CADENCE_METADATA = "cadence"
"""Metadata of a sensor or schedule: its cadence in every environment."""

Rhythm = TypeVar("Rhythm", int, str)
Built = TypeVar("Built")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cadence(Generic[Rhythm]):
    """Seconds between two times, or a schedule's cron line, or `OFF`; an environment left out is an error."""

    dev: Rhythm | None
    ci: Rhythm | None
    qa: Rhythm | None
    production: Rhythm | None

    def __post_init__(self) -> None:
        for name, rhythm in asdict(self).items():
            if rhythm is not OFF and (not rhythm or (isinstance(rhythm, int) and rhythm < 0)):
                raise PermanentFailure(f"the cadence of {name} is {rhythm!r}; state seconds, a cron line, or OFF")

    def registered(self, environment: Environment, build: Callable[[Rhythm], Built]) -> list[Built]:
        """Return what is registered in an environment: what `build` makes of the cadence there, or nothing."""
        rhythm: Rhythm | None = getattr(self, environment.name)
        return [] if rhythm is OFF else [build(rhythm)]

    @property
    def metadata(self) -> dict[str, dict[str, int | str]]:
        """Metadata that shows the cadence in Dagster's pages."""
        return {CADENCE_METADATA: {name: rhythm or "off" for name, rhythm in asdict(self).items()}}
