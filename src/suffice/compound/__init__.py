"""What levers are worth on one workload, together and apart: a full factorial replay."""

from suffice.compound.cells import Cell, Factorial, Grade, Lever, Requests
from suffice.compound.replay import Replay, compound_files, compound_trials, replay
from suffice.compound.result import Compound, Preregistration, compound
from suffice.compound.workload import CompoundWorkload, read_workload

__all__ = [
    "Cell",
    "Compound",
    "CompoundWorkload",
    "Factorial",
    "Grade",
    "Lever",
    "Preregistration",
    "Replay",
    "Requests",
    "compound",
    "compound_files",
    "compound_trials",
    "read_workload",
    "replay",
]
