"""What `ol simulate` can judge, by name or by function; a code location is imported only where it is asked for."""

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


def subject_called(name: str) -> MakeSubject:
    """Return how to build a subject of this name, or the one that `module:function` builds.

    Raises:
        PermanentFailure: there is no such subject, or no such function.
    """
    if name in SUBJECTS:
        return SUBJECTS[name]
    module, colon, function = name.partition(":")
    valid = f"{', '.join(SUBJECTS)}, or module:function, a function of a world and a folder that returns a Subject"
    if not (module and colon and function):
        raise PermanentFailure(f"nothing called {name!r} can be judged; valid are {valid}")
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise PermanentFailure(f"{name!r} cannot be judged: {error}; valid are {valid}") from error

    def make(world: World, folder: Path) -> Subject:
        subject = found(world, folder)
        if not isinstance(subject, Subject):
            raise PermanentFailure(f"{name!r} returns a {type(subject).__name__}, not a Subject; valid are {valid}")
        return subject

    return make
