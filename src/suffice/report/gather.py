"""Gather the values of a report from a ledger or from trials.

A report on a ledger of millions of rows takes a second, so it loads nothing that certifies.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from suffice.errors import InputError
from suffice.files import write_file
from suffice.ledger import Ledger, Window
from suffice.report.ledger_summary import ledger_report
from suffice.types import Say, ZeroCost

if TYPE_CHECKING:
    from suffice.certify.promise import Promise
    from suffice.report.build import Report

_SQLITE = b"SQLite format 3\0"


def report_on(
    source: str,
    promise: "Promise | None",
    *,
    zero_cost: ZeroCost | None = None,
    since: datetime | None = None,
    say: Say,
) -> "Report":
    """Report on a ledger or on trials, whichever `source` is.

    `zero_cost` says what a cost of 0 dollars in trials means; `since` is where the requests of a
    ledger begin to count. Raises InputError for what goes with the other kind of source.
    """
    if _is_ledger(source):
        if promise is not None:
            raise InputError(
                f"{source} is a ledger: a report on it certifies nothing",
                hint=f"suffice recertify {source} --reference {promise.reference}",
            )
        with Ledger.open(source, read_only=True) as ledger:
            return ledger_report(ledger, made=datetime.now(UTC), window=Window(since=since))
    if since is not None:
        raise InputError(f"{source} holds trials, and they have no time", hint="leave --since out")
    from suffice.certify.bundling import certify_files
    from suffice.report.trials_gather import trials_report
    from suffice.trials.importers import read_trials
    from suffice.trials.pricing import TrialCosts

    certification = None
    if promise is not None:
        certification = certify_files(
            [Path(source)], promise, costs=TrialCosts(zero_cost=zero_cost), say=say
        )
    trials = certification.trials if certification else read_trials(source, zero_cost=zero_cost)
    return trials_report(trials, source=Path(source).name, certification=certification)


def write_report(path: Path, report: "Report") -> None:
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
