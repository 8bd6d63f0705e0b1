"""A simulation that is ready to run: a stopped clock, an instance, a world, and a subject in it."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from ol_devkit.simulator.clock import FakeClock
from ol_devkit.simulator.seeding import seed
from ol_devkit.simulator.simulation import Simulation
from ol_devkit.simulator.storage import Storage, sqlite
from ol_devkit.simulator.subject import Subject
from ol_devkit.simulator.watch import Watch
from ol_devkit.simulator.world import World

MakeSubject = Callable[[World, Path], Subject]
"""Builds a subject in a world; what its definitions write goes below the folder."""

OpenStorage = Callable[[Path], AbstractContextManager[Storage]]
"""Opens an instance whose own files lie below the folder."""


@contextmanager
def staged(
    make_subject: MakeSubject,
    versions: Mapping[str, str],
    *,
    is_seeded: bool = True,
    open_storage: OpenStorage = sqlite,
) -> Iterator[Simulation]:
    """Give a simulation; nothing of it is left afterwards.

    Args:
        make_subject: Builds what is judged.
        versions: What the source has.
        is_seeded: Whether all of it is held already.
        open_storage: Opens the instance.
    """
    with (
        tempfile.TemporaryDirectory(prefix="ol-simulate-") as home,
        tempfile.TemporaryDirectory(prefix="ol-simulate-") as data,
        FakeClock() as clock,
        open_storage(Path(home)) as storage,
        Watch() as watch,
    ):
        world = World(clock, dict(versions))
        subject = make_subject(world, Path(data))
        if is_seeded:
            seed(storage, subject, versions)
        watch.clear()
        yield Simulation(subject, world, storage, watch)
