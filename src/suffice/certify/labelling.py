"""Which requests to mark where marks are dear: a plan beforehand, and a check of it afterwards.

Marks are worth most where a policy could keep a cheap answer. So of the fitting split a random part
is marked, of the certifying split only the requests that a policy which might pass could keep from
the reference, and of the reporting split a random part. A certifying request without a mark counts
as lost wherever its cheap answer stays: leaving marks out, for whatever reason, can only spoil the
result.
"""

from collections.abc import Container, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from msgspec import Struct

from suffice.certify.certifying import RequestSplit, deal, dealt_rows
from suffice.certify.evidence import MarkedRequests
from suffice.certify.target import Target, goal_of
from suffice.encoders.base import Encoder
from suffice.errors import InputError
from suffice.files import write_file
from suffice.guarantee import Per, RiskKind, content_hash, losses_allowed
from suffice.policy import fit_policy, foreseen_losses, harms, play
from suffice.scoring.audits import is_drawn
from suffice.trials.table import Rows, TrialTable

FIT_SHARE, REPORT_SHARE = 0.65, 0.5  # of those splits
SPREADS = 1.0  # standard deviations of the losses, by which more than are allowed may be foreseen
MOST_MISSING = 0.05  # of the marks that were drawn at random


class LabelPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The requests to mark, drawn by `seed` for one promise about `requests`, a hash of all ids.

    `fit` and `report` were drawn at random, before anything was marked. `certify` is None until
    the requests of `fit` are marked. `to_mark` names those of them all that have no mark yet.
    """

    form: Literal[1] = 1
    reference: str
    risk: RiskKind
    per: Per
    alpha: float
    delta: float
    seed: int
    requests: str
    total: int
    fit: tuple[str, ...]
    report: tuple[str, ...]
    certify: tuple[str, ...] | None = None
    to_mark: tuple[str, ...] = ()

    @property
    def planned(self) -> int:
        """How many requests are to be marked, so far as that is known."""
        return len(self.fit) + len(self.report) + len(self.certify or ())


def plan_labels(table: TrialTable, ask: Target, *, encoder: Encoder) -> LabelPlan:
    """Draw what to mark first; once that is marked, say what of the certifying split to mark.

    Every further mark says more of what a policy loses, so plan again until nothing is left to
    mark. `table` is on its ladder, every request in it. Raises InputError where marks that were
    drawn are missing here and there.
    """
    fit, _, report = dealt_rows(table, seed=ask.seed, per=ask.per)

    def drawn(rows: Rows, share: float) -> list[int]:
        """Draw whole clusters by their names."""
        names = {row: table.cluster_names[table.clusters[row]] for row in rows.tolist()}
        return [row for row, name in names.items() if is_drawn(name, share=share, seed=ask.seed)]

    fitting, reporting = drawn(fit, FIT_SHARE), drawn(report, REPORT_SHARE)
    plan = LabelPlan(
        reference=ask.reference,
        risk=ask.risk,
        per=ask.per,
        alpha=ask.alpha,
        delta=ask.delta,
        seed=ask.seed,
        requests=content_hash(sorted(table.request_ids)),
        total=len(table),
        fit=tuple(table.request_ids[row] for row in fitting),
        report=tuple(table.request_ids[row] for row in reporting),
    )
    if not marked_rows(table)[fitting].any():
        return _with_rest(plan, table)
    check_plan(plan, table, ask, parts=("fit",))
    rows, test, _ = deal(
        filled(table), reference=ask.reference, seed=ask.seed, per=ask.per, encoder=encoder
    )
    marked = marked_among(table, table.request_ids)
    certify = _worth_marking(rows.only(marked & {*plan.fit}), test, ask, marked=marked)
    return _with_rest(msgspec.structs.replace(plan, certify=certify), table)


def _with_rest(plan: LabelPlan, table: TrialTable) -> LabelPlan:
    """Name what of the plan is not marked yet, in the order of the trials."""
    named = {*plan.fit, *plan.report, *(plan.certify or ())}
    rest = named - marked_among(table, named)
    return msgspec.structs.replace(
        plan, to_mark=tuple(name for name in table.request_ids if name in rest)
    )


def check_plan(
    plan: LabelPlan, table: TrialTable, ask: Target, *, parts: tuple[str, ...] = ("fit", "report")
) -> None:
    """Raise InputError unless a plan is for these requests and this promise, and was kept to."""
    for name in ("reference", "risk", "per", "seed"):
        mine, theirs = getattr(plan, name), getattr(ask, name)
        if mine != theirs:
            raise InputError(
                f"the plan was drawn for {name} {mine}, not {theirs}",
                hint=f"use --{name} {mine}, or draw a new plan and mark what it names",
            )
    if plan.requests != content_hash(sorted(table.request_ids)):
        raise InputError(
            f"the plan was drawn from {plan.total:,} requests, and these are others",
            hint="give the trials that the plan was drawn from, marked or not",
        )
    known = marked_among(table, table.request_ids)
    for part in parts:
        drawn = getattr(plan, part)
        missing = [request_id for request_id in drawn if request_id not in known]
        if len(missing) > MOST_MISSING * len(drawn):
            raise InputError(
                f"{len(missing):,} of {len(drawn):,} requests that were drawn for the {part} split "
                f"have no mark on some rung, such as {missing[0]!r}",
                hint="mark them all, right or wrong: marks that depend on answers prove nothing",
            )


def planned(table: TrialTable, plan: LabelPlan, ask: Target) -> MarkedRequests:
    """Return all requests as `filled` has them; raises InputError as `check_plan` does."""
    check_plan(plan, table, ask)
    unmarked = int((~marked_rows(table)).sum())
    return MarkedRequests(table=filled(table), left_out=0, worthless=0, unmarked=unmarked)


def filled(table: TrialTable) -> TrialTable:
    """Count requests that are not marked whole as right on the reference and wrong elsewhere.

    The table's last rung is the reference. Such a request loses wherever it is kept, and nothing
    where the reference answers.
    """
    quality, whole = table.quality.copy(), marked_rows(table)
    quality[~whole] = 0.0
    quality[~whole, -1] = 1.0
    return replace(table, quality=quality)


def marked_rows(table: TrialTable) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Mark the requests that have a quality on every rung, shape (requests,)."""
    return np.asarray(~np.isnan(table.quality).any(axis=1), dtype=np.bool_)


def marked_among(table: TrialTable, request_ids: Iterable[str]) -> set[str]:
    """Return which of some requests are marked whole."""
    whole = np.flatnonzero(marked_rows(table)).tolist()
    return {table.request_ids[row] for row in whole} & {*request_ids}


_MAKE_PLAN = "make one with `suffice label-plan`"


def read_plan(path: Path) -> LabelPlan:
    """Read a plan; raises InputError for a file that is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=LabelPlan)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", hint=_MAKE_PLAN) from error
    except msgspec.DecodeError as error:
        raise InputError(f"{path} is no label plan: {error}", hint=_MAKE_PLAN) from error


def write_plan(path: Path, plan: LabelPlan) -> None:
    """Write a plan; raises InputError when the disk refuses."""
    write_file(path, msgspec.json.format(msgspec.json.encode(plan), indent=2) + b"\n")


def _worth_marking(
    fitting: RequestSplit, test: RequestSplit, ask: Target, *, marked: Container[str]
) -> tuple[str, ...]:
    """Name the certifying requests that some policy which might still be certified keeps cheap.

    What a policy loses on marked requests is known; on the others the scores foresee it. Which
    marks are looked at first changes nothing: whatever has none counts as lost when it is tested.
    """
    policy = fit_policy(fitting.seen, fitting.known, goal_of(ask, test, random_part=False))
    expected = harms(policy, test.seen)
    plays = play(policy, expected)
    known = np.array([name in marked for name in test.table.request_ids])
    unknown = expected.subset(np.flatnonzero(~known))
    losses = foreseen_losses(policy.path, play(policy, unknown), unknown)
    losses = losses + plays.losses(test.known.quality)[known].sum(axis=0)
    allowed = losses_allowed(len(test.rows), alpha=ask.alpha, delta=ask.level) or 0
    possible = losses <= allowed + SPREADS * max(allowed, 1) ** 0.5
    kept = (plays.chosen < len(policy.rungs) - 1)[:, possible].any(axis=1)
    return tuple(test.table.request_ids[row] for row in np.flatnonzero(kept | known).tolist())
