"""The cost identity of two cells: each factor before and after, and its share of the change.

    cost = requests x decodes x tokens per decode x work per token x dollars per work   (answers)
         + requests x decodes x tokens per prompt x work per token x dollars per work   (prompts)
         + rungs that decode nothing (an encoder)                                       (other)

The change of a sum of products has no unique split. This one is the logarithmic mean Divisia index
(LMDI-I: Ang, Energy Policy 32, 2004). The weight of each part of cost is the logarithmic mean of
its two values over that of the totals. The index leaves no residual, does not depend on an order
of factors, and needs no hypothetical cost, such as one side's tokens at the other side's prices.
"""

from collections.abc import Mapping

import numpy as np
from msgspec import Struct

from suffice.compound.cells import Cell
from suffice.compound.effects import ResampledSums, times
from suffice.trials.resample import Estimate
from suffice.trials.table import Floats
from suffice.units import TOKENS_PER_MTOK

_FACTORS: dict[
    str, dict[str, tuple[str, str | None]]
] = {  # by part of cost: each factor as a ratio of two columns; None stands for requests
    "answer": {
        "paradigm": ("decodes", None),
        "output": ("output_tokens", "decodes"),
        "architecture": ("answer_work", "output_tokens"),
        "silicon": ("answer_usd", "answer_work"),
    },
    "prompt": {
        "paradigm": ("decodes", None),
        "prompt": ("input_tokens", "decodes"),
        "architecture": ("prompt_work", "input_tokens"),
        "silicon": ("prompt_usd", "prompt_work"),
    },
    "other": {"paradigm": ("other_usd", None)},
}
_TERMS = {
    "paradigm": "decodes per request",
    "output": "tokens per decode",
    "architecture": "dollars of work per million tokens",
    "silicon": "dollars per work",
    "prompt": "tokens per prompt",
}


class Term(Struct, frozen=True, kw_only=True):
    """One factor of the identity: its value on both sides, and the reduction of cost it explains.

    The factors of all terms multiply to the whole reduction. The term `prompt` is the length of the
    prompts that are still read; no lever moves it on purpose.
    """

    vector: str
    name: str
    before: float | None
    after: float | None
    factor: Estimate


class CostIdentity(Struct, frozen=True, kw_only=True):
    """The identity of two cells; `shares_*` are the shares of the parts in each cell's cost."""

    usd_before: float
    usd_after: float
    shares_before: dict[str, float]
    shares_after: dict[str, float]
    terms: tuple[Term, ...]
    reduction: Estimate


def identity(
    before: Cell, after: Cell, *, drawn: ResampledSums, places: tuple[int, int]
) -> CostIdentity:
    """Split the change of cost between two cells; `places` are their positions in `drawn`."""
    old, new = ({name: drawn.column(name, place) for name in Cell.COLUMNS} for place in places)
    usd = drawn.usd()[:, list(places)]
    split = _split(old, new, usd=usd)
    sides = [_values(cell) for cell in (before, after)]
    return CostIdentity(
        usd_before=float(before.usd.mean()),
        usd_after=float(after.usd.mean()),
        shares_before=_shares(before),
        shares_after=_shares(after),
        terms=tuple(
            Term(
                vector=vector,
                name=name,
                before=sides[0][vector],
                after=sides[1][vector],
                factor=times(split[vector]),
            )
            for vector, name in _TERMS.items()
        ),
        reduction=times(np.log(usd[:, 0]) - np.log(usd[:, 1])),
    )


def _split(
    old: Mapping[str, Floats], new: Mapping[str, Floats], *, usd: Floats
) -> dict[str, Floats]:
    """Split the logarithm of the reduction by vector; shape (1 + resamples,) each."""
    total = _log_mean(usd[:, 0], usd[:, 1])
    split = {vector: np.zeros(len(usd)) for vector in _TERMS}
    for part, factors in _FACTORS.items():
        cost_before, cost_after = old[f"{part}_usd"], new[f"{part}_usd"]
        both = (cost_before > 0) & (cost_after > 0)
        weight = _log_mean(cost_before, cost_after) / total
        for vector, (top, bottom) in factors.items():
            ratio = _ratio(old[top], new[top]) / (_ratio(old[bottom], new[bottom]) if bottom else 1)
            split[vector] += np.where(both, weight * np.log(ratio), 0.0)
        # A part that appears or disappears does so because decodes start or end.
        split["paradigm"] += np.where(both, 0.0, (cost_before - cost_after) / total)
    return split


def _log_mean(a: Floats, b: Floats) -> Floats:
    """Return (a - b) / log(a / b): a if both are equal, 0 if one of them is 0."""
    low, high = np.minimum(a, b), np.maximum(a, b)
    gap = np.log(_ratio(high, low))
    flat = gap < 1e-8  # there the quotient loses its digits, and the arithmetic mean is as good
    mean = np.where(flat, (a + b) / 2, (high - low) / np.where(flat, 1.0, gap))
    return np.where(low > 0, mean, 0.0)


def _ratio(top: Floats, bottom: Floats) -> Floats:
    """Divide where both are above 0; return 1 elsewhere, where the ratio has no weight."""
    both = (top > 0) & (bottom > 0)
    return np.asarray(np.where(both, top, 1.0) / np.where(both, bottom, 1.0))


def _values(cell: Cell) -> dict[str, float | None]:
    """Return the factors of the identity for people; work is in dollars per million tokens."""
    total = {name: float(getattr(cell, name).sum()) for name in Cell.COLUMNS}
    work = total["answer_work"] + total["prompt_work"]
    work_per_token = _divide(total["answer_work"], total["output_tokens"])
    return {
        "paradigm": total["decodes"] / len(cell.requests),
        "output": _divide(total["output_tokens"], total["decodes"]),
        "prompt": _divide(total["input_tokens"], total["decodes"]),
        "architecture": None if work_per_token is None else work_per_token * TOKENS_PER_MTOK,
        "silicon": _divide(total["answer_usd"] + total["prompt_usd"], work),
    }


def _divide(top: float, bottom: float) -> float | None:
    return top / bottom if bottom else None


def _shares(cell: Cell) -> dict[str, float]:
    parts = {part: float(getattr(cell, f"{part}_usd").sum()) for part in _FACTORS}
    return {part: usd / sum(parts.values()) for part, usd in parts.items()}
