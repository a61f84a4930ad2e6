"""The network that corrects physics: radial basis functions of standardised features, in numpy."""

import numpy as np

from suffice.silicon.roofline import Array

BLOCK_ROWS = 512
REACH = 3.0


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


def evaluate(x: Array, *, lifted: Array, weights: Array, bias: Array) -> tuple[Array, Array]:
    """Return all targets (t, n) and distances of features (d, n), in blocks that fit the cache."""
    n = x.shape[1]
    moved, distance = np.empty((len(bias), n), x.dtype), np.empty(n, x.dtype)
    for start in range(0, n, BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        basis, distance[block] = activations(x[:, block], lifted=lifted)
        for target, own in zip(moved, weights, strict=True):
            np.dot(basis.T, own, out=target[block])
    return moved + bias[:, None], distance
