"""A judge's losses and human labels of a random part of the values.

A judge helps only where it marks thousands of values and errs rarely. With 400 labels at alpha 5 %
and a risk of 3 %, a judge that errs on 1 % of 3,000 values certifies in 30 % of simulated cases,
and the labels alone in 87 %; a perfect judge of 10,000 values in all. So below `JUDGED_LEAST`
values the labels alone are tested. From there on both are, and share delta: what either proves
holds. The number of values is known before any loss is seen.
"""

import numpy as np

from suffice.errors import InputError
from suffice.guarantee.bounds import betting_p_value, betting_upper
from suffice.guarantee.losses import Sample, check_probability

JUDGED_LEAST = 5_000  # values, from which on a judge may help
LABEL_SHARE = 0.8  # of delta, spent on the labels alone where the judge is tested too
JUDGE_SHARE = 0.1  # of the rest, spent on the judge's mean; it has many rows, the rectifier few


def judged_p_value(sample: Sample, *, alpha: float, delta: float) -> float:
    """Test `risk > alpha` for the human loss, from human labels and perhaps a judge's losses."""
    check_probability("alpha", alpha)
    human = _labels(sample)
    if len(sample.losses) < JUDGED_LEAST:
        return _p_value(human, alpha=alpha, delta=delta)
    alone = _p_value(human, alpha=alpha, delta=LABEL_SHARE * delta) / LABEL_SHARE
    rest = 1.0 - LABEL_SHARE
    mended = prediction_powered_p_value(sample, alpha=alpha, delta=rest * delta) / rest
    return min(1.0, alone, mended)


def judged_upper(sample: Sample, *, delta: float) -> float:
    """Return an upper bound on the human risk; a judge's bias moves it, but cannot break it.

    The labelled values must be a random part of all.
    """
    check_probability("delta", delta)
    human = _labels(sample)
    if len(sample.losses) < JUDGED_LEAST:
        return _upper(human, delta=delta)
    rest = (1.0 - LABEL_SHARE) * delta
    return min(
        _upper(human, delta=LABEL_SHARE * delta), prediction_powered_upper(sample, delta=rest)
    )


def _labels(sample: Sample) -> Sample:
    """Return the human losses alone."""
    if sample.human is None:
        raise InputError(
            "a judge's losses cannot be certified without human labels",
            hint="label a random part of the rows by hand, or certify agreement instead",
        )
    rows = sample.human.rows
    weights = None if sample.weights is None else sample.weights[rows]
    return Sample(losses=sample.human.losses, weights=weights, net=sample.net)


def _p_value(sample: Sample, *, alpha: float, delta: float) -> float:
    return float(
        betting_p_value(
            sample.losses, weights=sample.weights, net=sample.net, alpha=alpha, delta=delta
        )
    )


def _upper(sample: Sample, *, delta: float) -> float:
    return float(betting_upper(sample.losses, weights=sample.weights, net=sample.net, delta=delta))


def prediction_powered_p_value(sample: Sample, *, alpha: float, delta: float) -> float:
    """Test `risk > alpha`: the judge's mean plus the mean of human minus judge (arXiv 2301.09633).

    The first is bounded at `JUDGE_SHARE * delta`, the second tested against what that leaves, and
    the two error probabilities are added.
    """
    room, span = alpha - _upper(sample, delta=JUDGE_SHARE * delta), _span(sample)
    if room <= -span:
        return 1.0
    p = _p_value(_rectifier(sample), alpha=room / span, delta=(1.0 - JUDGE_SHARE) * delta)
    return min(1.0, JUDGE_SHARE * delta + p)


def prediction_powered_upper(sample: Sample, *, delta: float) -> float:
    """Return the sum of two bounds, at `JUDGE_SHARE * delta` and at the rest."""
    mended = _upper(_rectifier(sample), delta=(1.0 - JUDGE_SHARE) * delta)
    return min(1.0, _upper(sample, delta=JUDGE_SHARE * delta) + _span(sample) * mended)


def _span(sample: Sample) -> float:
    """Return how far human and judge can lie apart."""
    return 2.0 if sample.net else 1.0


def _rectifier(sample: Sample) -> Sample:
    """Return human minus judge on the labelled values, over how far they can lie apart."""
    human = _labels(sample)
    judge = sample.losses[sample.human.rows]  # type: ignore[union-attr]  # _labels has seen them
    apart = (human.losses - judge) / _span(sample)
    return Sample(losses=np.asarray(apart), weights=human.weights, net=True)
