"""Losses as arrays, and the independent values that a test is made of."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from suffice.errors import InputError
from suffice.units import show_share

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledLosses:
    """Human losses of a random part of the values: positions `rows`, and `losses` in that order.

    `losses` has shape (labelled rows,), or (labelled rows, points) for a path. With `net` they are
    differences in [-1, 1].
    """

    rows: Ints
    losses: Floats
    net: bool = False

    def __post_init__(self) -> None:
        check_losses(self.losses, net=self.net)
        if not len(np.unique(self.rows)) == len(self.rows) == len(self.losses):
            raise InputError(
                f"{len(self.losses)} human losses do not fit {len(np.unique(self.rows))} rows",
                hint="give one human loss for each labelled row, each row once",
            )

    def check_within(self, rows: int) -> None:
        """Raise `InputError` unless all positions lie among `rows` rows."""
        if self.rows.size and not (self.rows.min() >= 0 and self.rows.max() < rows):
            raise InputError(f"a labelled row lies outside the {rows} rows given")


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Independent values, one a row or one a cluster; the risk is sum of losses by sum of weights.

    `losses` has shape (values,) and lies in [0, weight], with `net` in [-weight, weight]. `weights`
    lie in [0, 1]; None means 1 each. `human` labels some values where a judge gave the losses.
    """

    losses: Floats
    weights: Floats | None = None
    net: bool = False
    human: LabelledLosses | None = None

    def __post_init__(self) -> None:
        check_losses(self.losses, net=self.net)
        if self.weights is not None:
            _check_weights(self.losses, check_losses(self.weights))
        if self.human is not None:
            self.human.check_within(len(self.losses))

    @property
    def empty(self) -> bool:
        """Whether there is nothing to judge a risk by: no rows, or labels asked for and none."""
        return not len(self.losses) or (self.human is not None and not len(self.human.rows))

    @property
    def risk(self) -> float:
        """The mean loss; raises ZeroDivisionError for an empty sample."""
        whole = len(self.losses) if self.weights is None else float(self.weights.sum())
        return float(self.losses.sum()) / whole

    def repeated(self, values: int) -> "Sample":
        """Return as many values, by repeating these in their order; human labels are left out."""
        weights = None if self.weights is None else np.resize(self.weights, values)
        return Sample(losses=np.resize(self.losses, values), weights=weights, net=self.net)


def check_probability(name: str, value: float) -> None:
    """Raise `InputError` unless `value` lies strictly between 0 and 1."""
    if not 0.0 < value < 1.0:
        raise InputError(
            f"{name} must lie strictly between 0 and 1, got {value}",
            hint="typical values: alpha 0.05, delta 0.1",
        )


def check_reference(reference: str, quality: float, *, alpha: float) -> None:
    """Refuse a reference of so low a quality that nothing could lose more than alpha against it."""
    if quality <= alpha:
        raise InputError(
            f"{reference!r} is right on {show_share(quality)} of these requests, so answers that "
            f"are never right would lose no more than alpha, {show_share(alpha)}",
            hint="check how answers are scored, or ask for an alpha well below that quality",
        )


def check_losses(losses: ArrayLike, *, net: bool = False) -> Floats:
    """Return the losses as floats; raise `InputError` for NaN or a value outside [0, 1].

    With `net` they are differences and may lie in [-1, 1].
    """
    array = np.asarray(losses, dtype=np.float64)
    lowest = -1.0 if net else 0.0
    if array.size and not (array.min() >= lowest and array.max() <= 1.0):
        raise InputError(
            f"losses must lie in [{lowest:.0f}, 1] and none may be NaN",
            hint="leave unscored rows out, and scale the score to [0, 1]",
        )
    return array


def check_binary(losses: Floats) -> Floats:
    """Return the losses if all are 0 or 1; raise `InputError` otherwise."""
    if not is_binary(losses):
        raise InputError(
            "the exact binomial test needs losses of 0 or 1, and some lie between",
            hint="use method 'betting' for scores with parts",
        )
    return losses


def is_binary(losses: Floats) -> bool:
    """Whether all losses are 0 or 1."""
    return bool(((losses == 0.0) | (losses == 1.0)).all())


def _check_weights(losses: Floats, weights: Floats) -> None:
    if weights.shape != losses.shape:
        raise InputError(f"{weights.size} weights for {losses.size} losses")
    if (np.abs(losses) > weights + _ROUNDING).any():
        raise InputError("a loss is larger than its weight")
