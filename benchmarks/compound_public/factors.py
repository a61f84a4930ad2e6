"""One factor of cost, with its interval and how well it is known."""

from enum import StrEnum

from msgspec import Struct

VECTORS = ("architecture", "output", "silicon", "paradigm", "cache")


class QualityGrade(StrEnum):
    """How well the quality behind a factor is known."""

    CERTIFIED = "certified"  # a promise of quality holds on the same records
    MEASURED = "measured"  # the same answers by construction
    UNPROVEN = "unproven"  # the records leave the quality undecided


class RecordedFactor(Struct, frozen=True, kw_only=True):
    """What the baseline costs over what its replacement costs, in `unit`, on one workload."""

    workload: str
    vector: str
    baseline: str
    replacement: str
    value: float
    interval: tuple[float, float]
    unit: str
    grade: QualityGrade
    source: str
