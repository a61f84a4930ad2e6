"""The network that corrects physics: radial basis functions of standardised features, in numpy."""

from dataclasses import dataclass

import numpy as np

from suffice.silicon.roofline import Array

BLOCK_ROWS = 512
REACH = 3.0


@dataclass(frozen=True, kw_only=True)
class Network:
    """Centres as `lift` arranges them (m, d + 2), `mean` and `scale` of features (d), t targets."""

    mean: Array
    scale: Array
    lifted: Array
    weights: Array
    bias: Array


def lift(centres: Array) -> Array:
    """Arrange centres (m, d) so that a product with (x, |x|^2, 1) gives each exponent."""
    squares = (centres * centres).sum(axis=1, keepdims=True)
    rows = [centres, np.full((len(centres), 1), -0.5), -0.5 * squares]
    return np.asarray(np.concatenate(rows, axis=1) / centres.shape[1], centres.dtype)


def activations(x: Array, *, lifted: Array) -> tuple[Array, Array]:
    """Return radial basis functions (m, n) of features (d, n), and distances to the nearest."""
    longer = np.empty((len(x) + 2, x.shape[1]), x.dtype)
    longer[:-2] = x
    np.einsum("ij,ij->j", x, x, out=longer[-2])
    longer[-1] = 1
    basis = lifted @ longer
    distance = np.sqrt(np.maximum(-2 * basis.max(axis=0), 0))
    np.exp(basis, out=basis)
    return basis, distance


def standardise(raw: Array, *, mean: Array, scale: Array) -> Array:
    """Centre and scale features (d, n), and stop far values from running away."""
    x = raw - mean[:, None]
    x /= scale[:, None]
    return np.clip(x, -REACH, REACH, out=x)


def evaluate(raw: Array, network: Network) -> tuple[Array, Array]:
    """Return all targets (t, n) and distances of raw features (d, n), in blocks that fit the cache.

    Features that are the same in all rows add one number to each exponent, and are left out.
    """
    fixed = raw[:, 0] == raw[:, -1]
    fixed[fixed] = (raw[fixed] == raw[fixed, :1]).all(axis=1)
    mean, scale, (centres, square, one) = network.mean, network.scale, _split(network.lifted)
    common = standardise(raw[fixed, :1], mean=mean[fixed], scale=scale[fixed])[:, 0]
    one = one + square * (common @ common) + centres[:, fixed] @ common
    lifted = np.column_stack([centres[:, ~fixed], square, one])
    x = standardise(raw[~fixed], mean=mean[~fixed], scale=scale[~fixed])
    n = x.shape[1]
    moved, distance = np.empty((len(network.bias), n), x.dtype), np.empty(n, x.dtype)
    for start in range(0, n, BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        basis, distance[block] = activations(x[:, block], lifted=lifted)
        for target, own in zip(moved, network.weights, strict=True):
            np.dot(basis.T, own, out=target[block])
    return moved + network.bias[:, None], distance


def _split(lifted: Array) -> tuple[Array, Array, Array]:
    """Split what `lift` arranged into centres and the factors of |x|^2 and 1."""
    return lifted[:, :-2], lifted[:, -2], lifted[:, -1]
