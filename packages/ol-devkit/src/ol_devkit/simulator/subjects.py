"""The subjects that `ol simulate` can judge, by name."""

from collections.abc import Mapping
from pathlib import Path

from ol_devkit.simulator.generic import generic
from ol_devkit.simulator.stage import MakeSubject
from ol_devkit.simulator.subject import Subject
from ol_devkit.simulator.world import World


def _generic(world: World, _folder: Path) -> Subject:
    return generic(world)


SUBJECTS: Mapping[str, MakeSubject] = {"generic": _generic}
