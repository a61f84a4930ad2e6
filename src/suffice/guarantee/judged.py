"""A judge's losses, mended by human labels of a random part of the values."""

import numpy as np

from suffice.errors import InputError
from suffice.guarantee.bounds import betting_p_value, betting_upper
from suffice.guarantee.losses import Sample, check_probability

JUDGE_SHARE = 0.1  # of delta, spent on the judge's mean; it has many rows, the rectifier few


def prediction_powered_p_value(sample: Sample, *, alpha: float, delta: float) -> float:
    """Test `risk > alpha` for the human loss, from a judge's losses and some human labels.

    The risk is the judge's mean plus the mean of human minus judge (prediction-powered inference,
    arXiv 2301.09633). The first is bounded at `JUDGE_SHARE * delta`, the second tested against
    what that leaves, and the two error probabilities are added.
    """
    check_probability("alpha", alpha)
    room, span = alpha - _judge_upper(sample, delta=delta), _span(sample)
    if room <= -span:
        return 1.0
    mended = _rectifier(sample)
    p = betting_p_value(
        mended.losses,
        weights=mended.weights,
        net=True,
        alpha=room / span,
        delta=(1.0 - JUDGE_SHARE) * delta,
    )
    return min(1.0, JUDGE_SHARE * delta + float(p))


def prediction_powered_upper(sample: Sample, *, delta: float) -> float:
    """Return an upper bound on the human risk; a judge's bias moves it, but cannot break it.

    Two betting bounds at `JUDGE_SHARE * delta` and the rest. The labelled values must be a random
    part of all. A poor judge makes the bound wider than the labels alone would.
    """
    check_probability("delta", delta)
    mended = _rectifier(sample)
    rectified = betting_upper(
        mended.losses, weights=mended.weights, net=True, delta=(1.0 - JUDGE_SHARE) * delta
    )
    return min(1.0, _judge_upper(sample, delta=delta) + _span(sample) * float(rectified))


def _judge_upper(sample: Sample, *, delta: float) -> float:
    share = JUDGE_SHARE * delta
    return float(betting_upper(sample.losses, weights=sample.weights, net=sample.net, delta=share))


def _span(sample: Sample) -> float:
    """Return how far human and judge can lie apart."""
    return 2.0 if sample.net else 1.0


def _rectifier(sample: Sample) -> Sample:
    """Return human minus judge on the labelled values, over how far they can lie apart."""
    if sample.human is None:
        raise InputError(
            "a judge's losses cannot be certified without human labels",
            hint="label a random part of the rows by hand, or certify agreement instead",
        )
    rows = sample.human.rows
    apart = (sample.human.losses - sample.losses[rows]) / _span(sample)
    weights = None if sample.weights is None else sample.weights[rows]
    return Sample(losses=np.asarray(apart), weights=weights, net=True)
