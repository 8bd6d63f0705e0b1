"""A judge of orchestration: real definitions on a real instance, a clock that is moved by hand, a scripted world.

A `Subject` is any package's definitions with a source that is simulated; a `Scenario` is a script of what the world
does and the bars that must hold. `play` gives a `Verdict`; `staged` gives a `Simulation` to play with.
"""

from ol_devkit.simulator.bars import Finding
from ol_devkit.simulator.figures import Figures, RunRecord, TickRecord
from ol_devkit.simulator.generic import generic
from ol_devkit.simulator.scenarios import SCENARIOS, Scenario, Verdict, play
from ol_devkit.simulator.simulation import Act, Script, Simulation
from ol_devkit.simulator.stage import staged
from ol_devkit.simulator.storage import Storage, memory, postgres, sqlite
from ol_devkit.simulator.subject import ConditionTicker, SensorTicker, Subject, Ticker, sensors_of
from ol_devkit.simulator.subjects import SUBJECTS, subject_called
from ol_devkit.simulator.world import World, partitions_of

__all__ = [
    "SCENARIOS",
    "SUBJECTS",
    "Act",
    "ConditionTicker",
    "Figures",
    "Finding",
    "RunRecord",
    "Scenario",
    "Script",
    "SensorTicker",
    "Simulation",
    "Storage",
    "Subject",
    "TickRecord",
    "Ticker",
    "Verdict",
    "World",
    "generic",
    "memory",
    "partitions_of",
    "play",
    "postgres",
    "sensors_of",
    "sqlite",
    "staged",
    "subject_called",
]
