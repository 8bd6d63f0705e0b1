"""The subjects that `ol simulate` can judge, by name; a code location is imported only where it is asked for."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from ol_core.failures import PermanentFailure

from ol_devkit.simulator.generic import generic
from ol_devkit.simulator.stage import MakeSubject
from ol_devkit.simulator.subject import Subject
from ol_devkit.simulator.world import World


def _generic(world: World, _folder: Path) -> Subject:
    return generic(world)


def _location(name: str) -> MakeSubject:
    """Return how to build a code location's subject, which the module of its name does."""

    def make(world: World, folder: Path) -> Subject:
        try:
            module = import_module(f"ol_devkit.simulator.{name}")
        except ModuleNotFoundError as error:
            raise PermanentFailure(f"{name} cannot be judged: {error}; install ol-devkit[locations]") from error
        subject: Subject = getattr(module, name)(world, folder)
        return subject

    return make


SUBJECTS: Mapping[str, MakeSubject] = {
    "generic": _generic,
    **{name: _location(name) for name in ("canvas", "openedx")},
}
