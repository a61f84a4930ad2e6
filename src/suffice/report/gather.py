"""Gather the values of a report from a ledger or from trials."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from suffice.certify.bundling import Certification, certify_files
from suffice.certify.policy import CertifiedPolicy
from suffice.certify.promise import Promise
from suffice.certify.result import CertifyResult
from suffice.errors import InputError
from suffice.files import write_file
from suffice.ledger import Flow, Ledger, Window
from suffice.report import (
    BaselineFigures,
    CertifyVerdict,
    Report,
    Side,
    TrialsReport,
    ledger_report,
    side,
    token_spreads,
)
from suffice.trials.frontier import frontier
from suffice.trials.importers import read_trials
from suffice.trials.pricing import TrialCosts
from suffice.trials.tabulate import pair_runs, tabulate
from suffice.types import Say, Trial, ZeroCost

_SQLITE = b"SQLite format 3\0"


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


def report_on(
    source: str, promise: Promise | None, *, zero_cost: ZeroCost | None = None, say: Say
) -> Report:
    """Report on a ledger or on trials, whichever `source` is.

    `zero_cost` says what a cost of 0 dollars in trials means.
    """
    if _is_ledger(source):
        if promise is not None:
            raise InputError(
                f"{source} is a ledger: a report on it certifies nothing",
                hint=f"suffice recertify {source} --reference {promise.reference}",
            )
        with Ledger.open(source, read_only=True) as ledger:
            return ledger_report(ledger, made=datetime.now(UTC), window=Window())
    certification = None
    if promise is not None:
        certification = certify_files(
            [Path(source)], promise, costs=TrialCosts(zero_cost=zero_cost), say=say
        )
    trials = certification.trials if certification else read_trials(source, zero_cost=zero_cost)
    return trials_report(trials, source=Path(source).name, certification=certification)


def write_report(path: Path, report: Report) -> None:
    """Write a report as one HTML page; raises InputError if the disk refuses."""
    from suffice.report.build import build_report

    write_file(path, build_report(report))


def _is_ledger(source: str) -> bool:
    """Whether a source is a database, by its URL or its first bytes, and not a file of trials."""
    if "://" in source:
        return True
    path = Path(source)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE
