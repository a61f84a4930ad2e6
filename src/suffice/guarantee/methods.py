"""Which test a promise rests on, and one door to all of them."""

from enum import StrEnum
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from suffice.errors import InputError
from suffice.guarantee.bounds import (
    betting_p_value,
    betting_upper,
    binomial_p_value,
    clopper_pearson_upper,
    first_true,
    hoeffding_bentkus_p_value,
    hoeffding_bentkus_upper,
    rows_needed,
)
from suffice.guarantee.judged import judged_p_value, judged_upper
from suffice.guarantee.losses import (
    Floats,
    Sample,
    check_binary,
    check_losses,
    check_probability,
    is_binary,
)

_DOUBLINGS = 24  # of the number of clusters that is looked for


class Method(StrEnum):
    """Which test a certificate rests on; chosen before the certifying losses are seen."""

    BINOMIAL = "binomial"  # losses are 0 or 1, and no two rows depend on each other
    BETTING = "betting"  # losses lie anywhere in [0, 1] or, as differences, in [-1, 1]
    HOEFFDING_BENTKUS = "hoeffding_bentkus"  # the same; looser, but needs only the mean
    JUDGED = "judged"  # human labels of a random part, and a judge's losses where those help


def method_for(losses: ArrayLike, *, largest: int = 1, net: bool = False) -> Method:
    """Return the test that suits losses like these: exact binomial if all are 0 or 1, else betting.

    `largest` is the number of rows in the largest cluster: only single rows are counted exactly.
    Call it on the fitting split or on what the scorer can return, never on the certifying losses:
    a test chosen after seeing them is no longer valid at `delta`.
    """
    array = check_losses(losses, net=net)
    exact = is_binary(array) and largest == 1 and not net
    return Method.BINOMIAL if exact else Method.BETTING


def p_value(sample: Sample, *, alpha: float, delta: float, method: Method) -> float:
    """Test `risk > alpha` with the named method; 1 for an empty sample.

    Raises `InputError` if the losses do not fit the method.
    """
    check_probability("alpha", alpha)
    check_probability("delta", delta)
    if sample.empty:
        return 1.0
    match method:
        case Method.BINOMIAL:
            k = int(_single_rows(sample, method).sum())
            return float(binomial_p_value(k, len(sample.losses), alpha=alpha))
        case Method.BETTING:
            return float(
                betting_p_value(
                    sample.losses, weights=sample.weights, net=sample.net, alpha=alpha, delta=delta
                )
            )
        case Method.HOEFFDING_BENTKUS:
            mean, n = _single_rows(sample, method).mean(), len(sample.losses)
            return float(hoeffding_bentkus_p_value(mean, n, alpha=alpha))
        case Method.JUDGED:
            return judged_p_value(sample, alpha=alpha, delta=delta)


def upper_bound(sample: Sample, *, delta: float, method: Method) -> float:
    """Bound the risk with the named method; 1, the widest, for an empty sample."""
    check_probability("delta", delta)
    if sample.empty:
        return 1.0
    match method:
        case Method.BINOMIAL:
            k = int(_single_rows(sample, method).sum())
            return float(clopper_pearson_upper(k, len(sample.losses), delta=delta))
        case Method.BETTING:
            return float(
                betting_upper(sample.losses, weights=sample.weights, net=sample.net, delta=delta)
            )
        case Method.HOEFFDING_BENTKUS:
            mean, n = _single_rows(sample, method).mean(), len(sample.losses)
            return float(hoeffding_bentkus_upper(mean, n, delta=delta))
        case Method.JUDGED:
            return judged_upper(sample, delta=delta)


@lru_cache
def clusters_needed(alpha: float, delta: float, *, method: Method, net: bool = False) -> int | None:
    """Return the fewest clusters of equal size that certify `alpha` when none loses anything.

    None where no number of them would do.
    """
    if method is Method.BINOMIAL:
        return rows_needed(alpha, delta)

    def enough(clusters: int) -> bool:
        lossless = Sample(losses=np.zeros(clusters), net=net)
        way = Method.BETTING if method is Method.JUDGED else method
        return p_value(lossless, alpha=alpha, delta=delta, method=way) <= delta

    high = next((2**power for power in range(_DOUBLINGS) if enough(2**power)), None)
    return None if high is None else first_true(enough, high=high)


def _single_rows(sample: Sample, method: Method) -> Floats:
    """Return the losses of a sample that a test of single rows can take."""
    if sample.net or sample.weights is not None:
        raise InputError(
            f"method {method.value!r} takes single rows with losses in [0, 1]",
            hint="use method 'betting' for clusters and for net losses",
        )
    return check_binary(sample.losses) if method is Method.BINOMIAL else sample.losses
