"""The compound ledger: what levers are worth on one workload, together and apart."""

from suffice.compound.cells import Cell, Factorial, Grade, Lever, Requests
from suffice.compound.replay import Replay, compound_files, compound_trials, replay
from suffice.compound.result import Compound, Plan, compound
from suffice.compound.workload import Workload, read_workload

__all__ = [
    "Cell",
    "Compound",
    "Factorial",
    "Grade",
    "Lever",
    "Plan",
    "Replay",
    "Requests",
    "Workload",
    "compound",
    "compound_files",
    "compound_trials",
    "read_workload",
    "replay",
]
