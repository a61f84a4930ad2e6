"""Answer every request on the cheapest compute that still meets a certified quality target.

Each name below is imported from its module when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from suffice.certify.bundle import Bundle, load_bundle, save_bundle
    from suffice.certify.bundling import Certification, certify_files
    from suffice.certify.compare import compare
    from suffice.certify.promise import Promise
    from suffice.compound import compound_files
    from suffice.config import load_config
    from suffice.deployment import build_engines
    from suffice.guarantee import Monitor, losses_allowed, rows_needed
    from suffice.ledger import Ledger
    from suffice.pipeline import answer, build_pipeline
    from suffice.silicon.plan import make_plan
    from suffice.silicon.question import PlanRequest, Slo, Workload
    from suffice.trials.frontier import frontier
    from suffice.trials.importers import read_trials
    from suffice.types import Request, Trial

__version__ = "0.2.0"
_MODULES = {
    "Bundle": "suffice.certify.bundle",
    "load_bundle": "suffice.certify.bundle",
    "save_bundle": "suffice.certify.bundle",
    "Certification": "suffice.certify.bundling",
    "certify_files": "suffice.certify.bundling",
    "Promise": "suffice.certify.promise",
    "compare": "suffice.certify.compare",
    "compound_files": "suffice.compound",
    "load_config": "suffice.config",
    "build_engines": "suffice.deployment",
    "Monitor": "suffice.guarantee",
    "losses_allowed": "suffice.guarantee",
    "rows_needed": "suffice.guarantee",
    "Ledger": "suffice.ledger",
    "answer": "suffice.pipeline",
    "build_pipeline": "suffice.pipeline",
    "make_plan": "suffice.silicon.plan",
    "PlanRequest": "suffice.silicon.question",
    "Slo": "suffice.silicon.question",
    "Workload": "suffice.silicon.question",
    "frontier": "suffice.trials.frontier",
    "read_trials": "suffice.trials.importers",
    "Request": "suffice.types",
    "Trial": "suffice.types",
}
__all__ = [
    "Bundle",
    "Certification",
    "Ledger",
    "Monitor",
    "PlanRequest",
    "Promise",
    "Request",
    "Slo",
    "Trial",
    "Workload",
    "__version__",
    "answer",
    "build_engines",
    "build_pipeline",
    "certify_files",
    "compare",
    "compound_files",
    "frontier",
    "load_bundle",
    "load_config",
    "losses_allowed",
    "make_plan",
    "read_trials",
    "rows_needed",
    "save_bundle",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'suffice' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
