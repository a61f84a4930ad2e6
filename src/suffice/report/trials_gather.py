"""Gather the values of a report on trials, and of their certification."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from msgspec.structs import replace

from suffice.certify.bundling import Certification
from suffice.certify.policy import CertifiedPolicy
from suffice.certify.result import CertifyResult
from suffice.ledger import Flow
from suffice.report.summary import (
    BaselineFigures,
    CertifyVerdict,
    Side,
    TrialsReport,
    side,
    token_spreads,
)
from suffice.trials.frontier import frontier
from suffice.trials.tabulate import pair_runs, tabulate
from suffice.types import Trial

_SHARED = (  # fields that a report's verdict copies
    "certified",
    "alpha",
    "delta",
    "n",
    "losses",
    "bound",
    "risk_kind",
    "per",
    "clusters",
    "share",
    "risk",
    "saving",
    "saving_interval",
    "about_saving",
    "seed",
    "quality",
    "reference_quality",
    "use_as_reference",
    "label_source",
)


def trials_report(
    trials: Sequence[Trial], *, source: str, certification: Certification | None
) -> TrialsReport:
    """Gather the values of a report on trials, and of their certification if there is one."""
    whole = certification.table if certification else tabulate(trials)
    report = TrialsReport(
        source=source,
        made=datetime.now(UTC),
        reference=certification.result.reference if certification else whole.rungs[-1],
        requests=len(whole),
        frontier=frontier(trials),
        tokens=token_spreads(trials),
    )
    if certification is None:
        return report
    paths = _paths(certification.certified)
    return replace(
        report,
        verdict=verdict(certification.result),
        flow=_flow(certification.certified, paths),
        sides=_sides(certification, paths),
    )


def verdict(result: CertifyResult) -> CertifyVerdict:
    """Return the result of certifying as a report's verdict."""
    certificate = result.certificate
    between = {f"always {rung}": way for rung, way in result.rungs_between.items()}
    return CertifyVerdict(
        **{name: getattr(result, name) for name in _SHARED},
        baselines={
            name: BaselineFigures(risk=way.risk, saving=way.saving)
            for name, way in (result.baselines | between).items()
        },
        certificate_id=certificate.certificate_id if certificate else None,
        lapses_at=certificate.terms.lapses_at if certificate else None,
        limits=certificate.limits if certificate else (),
    )


def _paths(certified: CertifiedPolicy) -> list[list[str]]:
    """List the rungs that each reported request paid for, in the order of their calls."""
    rungs, attempted = certified.policy.rungs, certified.plays.attempted[:, :, 0]
    return [[rungs[at] for at in np.flatnonzero(column)] for column in attempted.T]


def _flow(certified: CertifiedPolicy, paths: list[list[str]]) -> tuple[Flow, ...]:
    """Count reporting requests by the rung tried first and the rung that answered."""
    chosen = [certified.policy.rungs[at] for at in certified.plays.chosen[:, 0].tolist()]
    pairs = Counter(zip((path[0] for path in paths), chosen, strict=True))
    return tuple(
        Flow(first=first, answered=answered, requests=requests)
        for (first, answered), requests in sorted(pairs.items())
    )


def _sides(certification: Certification, paths: list[list[str]]) -> tuple[Side, Side]:
    """Compute the cost identity of the reference and of suffice on the reporting split."""
    rows, reference = pair_runs(certification.trials), certification.result.reference
    ids = certification.certified.reported.request_ids
    always = [[rows[row_id][reference]] for row_id in ids]
    chosen = [
        [rows[row_id][rung] for rung in path] for row_id, path in zip(ids, paths, strict=True)
    ]
    return side(f"always {reference}", always), side("suffice", chosen)
