"""Gather what a report says, from a ledger or from trials."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from suffice.certify.bundling import Certification, certify_files
from suffice.certify.policy import CertifiedPolicy, CertifyResult
from suffice.certify.promise import Promise
from suffice.errors import InputError
from suffice.files import write_file
from suffice.ledger import Flow, Ledger, Window
from suffice.report import (
    BaselineFigures,
    CertifyVerdict,
    Report,
    Side,
    TrialsReport,
    build_report,
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


_SHARED = (  # fields that a report's verdict takes over as they are
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
    trials: Sequence[Trial], *, source: str, settled: Certification | None
) -> TrialsReport:
    """Gather what a report on trials says; with `settled`, also what was certified and saved."""
    whole = tabulate(trials)
    report = TrialsReport(
        source=source,
        made=datetime.now(UTC),
        reference=settled.result.reference if settled else whole.rungs[-1],
        requests=len(whole),
        frontier=frontier(trials),
        tokens=token_spreads(trials),
    )
    if settled is None:
        return report
    return replace(
        report,
        verdict=verdict(settled.result),
        flow=_flow(settled.certified),
        sides=_sides(settled),
    )


def verdict(result: CertifyResult) -> CertifyVerdict:
    """Say in a report's words what certifying said."""
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
    """List the rungs that each reported request paid for, in the order asked."""
    rungs, asked = certified.policy.rungs, certified.plays.attempted[:, :, 0]
    return [[rungs[at] for at in np.flatnonzero(column)] for column in asked.T]


def _flow(certified: CertifiedPolicy) -> tuple[Flow, ...]:
    """Count which rung was tried first and which one answered, on the reporting split."""
    chosen = [certified.policy.rungs[at] for at in certified.plays.chosen[:, 0].tolist()]
    pairs = Counter(zip((path[0] for path in _paths(certified)), chosen, strict=True))
    return tuple(
        Flow(first=first, answered=answered, requests=requests)
        for (first, answered), requests in sorted(pairs.items())
    )


def _sides(settled: Certification) -> tuple[Side, Side]:
    """Work out the cost identity on the reporting split: always the reference, and suffice."""
    rows, reference = pair_runs(settled.trials), settled.result.reference
    ids = settled.certified.reported.request_ids
    always = [[rows[row_id][reference]] for row_id in ids]
    paths = zip(ids, _paths(settled.certified), strict=True)
    chosen = [[rows[row_id][rung] for rung in path] for row_id, path in paths]
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
    settled = None
    if promise is not None:
        settled = certify_files(
            [Path(source)], promise, costs=TrialCosts(zero_cost=zero_cost), say=say
        )
    trials = settled.trials if settled else read_trials(source, zero_cost=zero_cost)
    return trials_report(trials, source=Path(source).name, settled=settled)


def write_report(path: Path, report: Report) -> None:
    """Write a report as one HTML page; raises InputError when the disk refuses."""
    write_page(path, build_report(report))


def write_page(path: Path, page: str) -> None:
    """Write an HTML page; raises InputError when the disk refuses."""
    write_file(path, page)


def _is_ledger(source: str) -> bool:
    """Tell a database, by its URL or its first bytes, from a file of trials."""
    if "://" in source:
        return True
    path = Path(source)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE
