"""Certify a latent rung: bound the share of wrong answers among those that it gives."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from suffice.errors import InputError
from suffice.guarantee import (
    Calibration,
    Evidence,
    Method,
    RiskKind,
    calibrate,
    least_abstention,
    rows_needed,
)
from suffice.guarantee.clusters import Clusters
from suffice.latent.fitting import LabelledTexts, is_right, text_clusters
from suffice.latent.predictor import Floats, Predictor


class Feasibility(Struct, frozen=True, kw_only=True):
    """Whether the target can be met at all, whatever the threshold.

    `abstain_at_least` is the share that even a perfect trust must leave unanswered. `rows_needed`
    is the number of answered calibration rows without an error that certifies one threshold.
    """

    error_if_all_answered: float
    abstain_at_least: float
    rows_needed: int
    rows: int

    def __str__(self) -> str:
        return (
            f"answering everything would be wrong {100 * self.error_if_all_answered:.1f} % of the "
            f"time: at least {100 * self.abstain_at_least:.1f} % must go to the next rung; "
            f"{self.rows_needed} answered rows without an error are needed, {self.rows} are there"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class CertifiedThreshold:
    """The certified threshold; None if nothing could be certified.

    `out_of_scope_share` is None if no calibration row was out of scope; the certificate then does
    not cover such requests. `answered` is the share of calibration rows answered.
    """

    feasibility: Feasibility
    calibration: Calibration
    threshold: float | None
    answered: float
    out_of_scope_share: float | None


def feasibility(
    predictor: Predictor, rows: LabelledTexts, *, alpha: float, delta: float, tests: int
) -> Feasibility:
    """Return whether rows like these can meet `alpha`; raises the InputErrors of `certify`."""
    _check_rows(predictor, rows)
    correct = is_right(predictor.predict(rows.texts), rows.answers, predictor.answers)
    return _feasibility(correct, alpha=alpha, delta=delta, tests=tests)


def certify(
    predictor: Predictor,
    rows: LabelledTexts,
    *,
    grid: Sequence[float] | Floats,
    alpha: float,
    delta: float,
    risk_kind: RiskKind = RiskKind.ERROR_AMONG_ANSWERED,
) -> CertifiedThreshold:
    """Return the loosest threshold of a grid that keeps the promise.

    The grid must be fixed without these rows. Rows are texts with the reference rung's answers;
    None is an out-of-scope answer. Of rows with equal texts only the first counts, because copies
    are no independent draws. The risk among answered requests is tested with Bonferroni over the
    grid. The marginal risk (`excess_over_reference`: wrong answers among all requests) is tested in
    fixed sequence from the strictest threshold on. Raises InputError for no rows, and for an answer
    that the predictor cannot give.
    """
    _check_rows(predictor, rows)
    thresholds = np.asarray(grid, dtype=np.float64)
    predictions = predictor.predict(rows.texts)
    correct = is_right(predictions, rows.answers, predictor.answers)
    answered = predictions.trust[:, None] >= thresholds
    conditional = risk_kind is RiskKind.ERROR_AMONG_ANSWERED
    evidence = Evidence(
        losses=(answered & ~correct[:, None]).astype(np.float64),
        answered=answered if conditional else None,
        clusters=Clusters(codes=text_clusters(rows.texts), largest=1),
    )
    calibration = calibrate(evidence, alpha=alpha, delta=delta, method=Method.BINOMIAL)
    out_of_scope = sum(answer is None for answer in rows.answers)
    return CertifiedThreshold(
        feasibility=_feasibility(
            correct[evidence.counted], alpha=alpha, delta=delta, tests=evidence.tests
        ),
        calibration=calibration,
        threshold=float(thresholds[calibration.index]) if calibration.certified else None,
        answered=float(answered[:, calibration.index].mean()),
        out_of_scope_share=out_of_scope / len(rows.answers) if out_of_scope else None,
    )


def _feasibility(
    correct: NDArray[np.bool_], *, alpha: float, delta: float, tests: int
) -> Feasibility:
    needed = rows_needed(alpha, delta, tests=tests)
    if needed is None:
        raise InputError(f"no number of rows certifies alpha {alpha} at delta {delta}")
    error = 1.0 - float(correct.mean())
    return Feasibility(
        error_if_all_answered=error,
        abstain_at_least=least_abstention(error, alpha=alpha),
        rows_needed=needed,
        rows=len(correct),
    )


def _check_rows(predictor: Predictor, rows: LabelledTexts) -> None:
    if not len(rows.texts):
        raise InputError("no calibration rows", hint="label a random sample of requests")
    unseen = {a for a in rows.answers if a is not None} - set(predictor.answers)
    if unseen:
        raise InputError(
            f"the calibration rows hold answers the predictor cannot give: {sorted(unseen)[:3]}",
            hint="fit it with them, or mark such rows as out of scope (None)",
        )
