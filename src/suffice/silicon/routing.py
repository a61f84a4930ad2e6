"""How many experts a batch reads where routing is uniform, and where it is skewed."""

import numpy as np
from msgspec import Struct

from suffice.silicon.roofline import Array, unique_experts

LAW_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
SKEW = 1.1
"""Popularity of experts falls as rank^-SKEW; aiconfigurator assumes 1.01 to 1.2."""


def skewed_experts(experts: int, active: int, *, tokens: Array, exponent: float) -> Array:
    """Count unique experts when popularity falls as rank^-exponent; 0 is the uniform law.

    The chance that a token picks expert i is min(1, c * p_i) with c such that they sum to `active`.
    """
    popularity = np.arange(1, experts + 1, dtype=float) ** -exponent
    low, high = 0.0, active / popularity.min()
    for _ in range(80):
        scale = (low + high) / 2
        over = np.minimum(1, scale * popularity).sum() > active
        low, high = (low, scale) if over else (scale, high)
    chance = np.minimum(1, high * popularity)
    return np.asarray((1 - (1 - chance) ** np.asarray(tokens, float)[..., None]).sum(axis=-1))


class ExpertsRead(Struct, frozen=True, kw_only=True):
    """Experts that a batch of `tokens` reads in one layer: uniform routing, and SKEW."""

    tokens: int
    uniform: float
    skewed: float


def law_of_experts(experts: int, active: int) -> tuple[ExpertsRead, ...]:
    """Tabulate both counts over batches; with routing as rank^-SKEW the count is lower."""
    tokens = np.array(LAW_BATCHES, float)
    uniform = unique_experts(np.array(experts), np.array(active), tokens)
    skewed = skewed_experts(experts, active, tokens=tokens, exponent=SKEW)
    return tuple(
        ExpertsRead(tokens=n, uniform=float(u), skewed=float(s))
        for n, u, s in zip(LAW_BATCHES, uniform, skewed, strict=True)
    )
