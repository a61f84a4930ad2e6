"""A joint-embedding predictor: from the embedding of a prompt to that of its answer.

The predictor is a linear map, trained with InfoNCE in both directions (prompt to answer, answer to
prompt) and, on request, with SIGReg against collapse. A new answer needs no training.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suffice.encoders.base import Encoder, Vectors

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
TEMPERATURE = 0.05
EPOCHS = 12
BATCH = 512
RATE = 3e-3
RIDGE = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Joint:
    """A voter: `weights` (dim, answer dim) and `bias` map prompts to answers.

    `candidates` are the unit vectors of the answers.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    candidates: Vectors

    def logits(self, texts: Sequence[str], vectors: Vectors) -> NDArray[np.float64]:  # noqa: ARG002
        """Return cosine over temperature, (texts, answers)."""
        mapped = _unit(vectors @ self.weights + self.bias)
        cosines: NDArray[np.float64] = (mapped @ self.candidates.T).astype(np.float64)
        return cosines / TEMPERATURE

    def with_answer(self, answer: str, *, encoder: Encoder) -> "Joint":
        """Return a voter that can also give `answer`, without training."""
        added = embed_answers([answer], encoder=encoder)
        return replace(self, candidates=np.vstack([self.candidates, added]))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the map and the candidates."""
        return {"weights": self.weights, "bias": self.bias, "candidates": self.candidates}


def fit_joint(
    vectors: Vectors,
    targets: Ints,
    answers: Sequence[str],
    *,
    encoder: Encoder,
    **options: Any,
) -> Joint:
    """Fit the map from prompts (rows, dim) to their answers' embeddings.

    Options: `seed` (0) and `sigreg` (0.0), the weight of the penalty against collapse.
    """
    return fit_joint_vectors(vectors, targets, embed_answers(answers, encoder=encoder), **options)


def fit_joint_vectors(
    vectors: Vectors, targets: Ints, candidates: Vectors, **options: Any
) -> Joint:
    """Fit the map to answers that are vectors already: unit rows, (answers, answer dim).

    Options are those of `fit_joint`.
    """
    rng = np.random.default_rng(options.get("seed", 0))
    parameters = _least_squares(vectors, candidates[targets])
    moments = [np.zeros((2, *p.shape), np.float32) for p in parameters]
    batches = -(-len(targets) // BATCH)
    for step in range(EPOCHS * batches):
        if step % batches == 0:
            parts = np.array_split(rng.permutation(len(targets)), batches)
        rows = parts[step % batches]
        slopes = _slopes(parameters, vectors[rows], targets[rows], candidates)
        if options.get("sigreg"):
            _add_sigreg(slopes, parameters, vectors[rows], rng=rng, weight=options["sigreg"])
        _adam(parameters, slopes, moments, step=step + 1)
    return Joint(weights=parameters[0], bias=parameters[1], candidates=candidates)


def embed_answers(answers: Sequence[str], *, encoder: Encoder) -> Vectors:
    """Return unit vectors of the answers; `card_arrival` is read as `card arrival`."""
    spaced = [re.sub(r"[_\W]+|(?<=[a-z])(?=[A-Z])", " ", answer).strip() for answer in answers]
    return _unit(
        encoder.embed([text or answer for text, answer in zip(spaced, answers, strict=True)])
    )


def sigreg(points: Floats, directions: Floats) -> float:
    """Return the distance of points (rows, dim) from a standard normal, along directions.

    It is the mean Epps-Pulley statistic of the projections (LeJEPA, arXiv 2511.08544); 0 is normal.
    """
    knots, weights, target = _knots()
    angles = (points @ directions)[:, :, None] * knots
    real, imaginary = np.cos(angles).mean(axis=0) - target, np.sin(angles).mean(axis=0)
    return float(((real**2 + imaginary**2) * weights).sum(axis=1).mean())


def _sigreg_slope(points: Floats, directions: Floats) -> Floats:
    """Return the gradient of `sigreg` with respect to the points."""
    knots, weights, target = _knots()
    angles = (points @ directions)[:, :, None] * knots
    cosines, sines = np.cos(angles), np.sin(angles)
    real, imaginary = cosines.mean(axis=0) - target, sines.mean(axis=0)
    along = 2.0 * weights * knots * (imaginary * cosines - real * sines)
    slope: Floats = along.sum(axis=2) @ directions.T / (len(points) * directions.shape[1])
    return slope


def _add_sigreg(
    slopes: list[Floats],
    parameters: list[Floats],
    vectors: Vectors,
    *,
    rng: np.random.Generator,
    weight: float,
) -> None:
    """Add the gradient of SIGReg to the slopes, in place."""
    directions = _directions(rng, parameters[0].shape[1])
    pull = weight * _sigreg_slope(vectors @ parameters[0] + parameters[1], directions)
    slopes[0] += vectors.T @ pull
    slopes[1] += pull.sum(axis=0)


def _knots() -> tuple[Floats, Floats, Floats]:
    knots = np.linspace(0.2, 3.0, 15)
    target = np.exp(-(knots**2) / 2.0)
    return knots, target * (knots[1] - knots[0]), target


def _directions(rng: np.random.Generator, dim: int, *, count: int = 64) -> Floats:
    raw = rng.standard_normal((dim, count))
    unit: Floats = raw / np.linalg.norm(raw, axis=0)
    return unit


def _least_squares(vectors: Vectors, answers: Vectors) -> list[Floats]:
    """Return the ridge regression of answers on prompts, as the start of the training."""
    centre, mean = vectors.mean(axis=0, dtype=np.float64), answers.mean(axis=0, dtype=np.float64)
    x, y = vectors - centre, answers - mean
    weights = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ y)
    return [weights.astype(np.float32), (mean - centre @ weights).astype(np.float32)]


def _slopes(
    parameters: list[Floats], vectors: Vectors, targets: Ints, candidates: Vectors
) -> list[Floats]:
    """Return the gradient of InfoNCE in both directions, averaged over the batch."""
    mapped = vectors @ parameters[0] + parameters[1]
    lengths = np.linalg.norm(mapped, axis=1, keepdims=True) + 1e-9
    unit = mapped / lengths
    cosines = unit @ candidates.T / TEMPERATURE
    one_hot = np.zeros_like(cosines)
    one_hot[np.arange(len(targets)), targets] = 1.0
    to_answer = _softmax(cosines, axis=1) - one_hot
    present = one_hot.any(axis=0)
    to_prompt = (
        _softmax(cosines, axis=0) - one_hot / np.maximum(one_hot.sum(axis=0), 1.0)
    ) * present
    pull = (to_answer / len(targets) + to_prompt / present.sum()) / (2.0 * TEMPERATURE)
    on_unit = pull @ candidates
    on_mapped = (on_unit - unit * (on_unit * unit).sum(axis=1, keepdims=True)) / lengths
    return [vectors.T @ on_mapped, on_mapped.sum(axis=0)]


def _adam(
    parameters: list[Floats], slopes: list[Floats], moments: list[Floats], *, step: int
) -> None:
    """Update the parameters in place (Adam, decay 0.9 and 0.999)."""
    for parameter, slope, moment in zip(parameters, slopes, moments, strict=True):
        moment[0] += 0.1 * (slope - moment[0])
        moment[1] += 0.001 * (slope**2 - moment[1])
        size = np.sqrt(moment[1] / (1 - 0.999**step)) + 1e-8
        parameter[...] -= RATE * (moment[0] / (1 - 0.9**step)) / size


def _softmax(values: Floats, *, axis: int) -> Floats:
    powers = np.exp(values - values.max(axis=axis, keepdims=True))
    share: Floats = powers / powers.sum(axis=axis, keepdims=True)
    return share


def _unit(vectors: Any) -> Vectors:
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    scaled: Vectors = (vectors / lengths).astype(np.float32)
    return scaled
