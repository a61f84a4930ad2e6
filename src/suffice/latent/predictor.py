"""Predictors: from a text to a predicted answer, and the trust in that prediction.

A predictor is a committee of voters over a closed set of answers. It predicts the answer with the
largest mean log-probability. Its trust is the log-odds, learned out of fold, that such a prediction
is right. Trust is no promise; `certify.py` turns it into one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from suffice.encoders.base import Encoder, Vectors
from suffice.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
NO_ANSWER = -np.inf  # the trust of a prediction that must not be given
NGRAM_SCALE = 3.0  # from margins of a support vector machine to logits
_CLIP = 15.0  # log-odds; larger margins say no more


class JoinedEncoder:
    """Several encoders as one: their unit vectors side by side."""

    def __init__(self, *parts: Encoder) -> None:
        self._parts = parts
        self.dim = sum(part.dim for part in parts)
        self.fingerprint = "+".join(part.fingerprint for part in parts)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return (texts, dim); each part has unit length, or is zero for a text without a word."""
        return np.hstack([unit(part.embed(texts)) for part in self._parts])


class Voter(Protocol):
    """One opinion about the answer."""

    def logits(self, texts: Sequence[str], vectors: Vectors) -> Floats:
        """Return (texts, answers), up to a constant in each row."""
        ...

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all fitted arrays by name."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """For each text the index of the predicted answer, and its trust (`NO_ANSWER`: abstain)."""

    answers: Ints
    trust: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Trust:
    """A logistic regression on the margins and probabilities of the voters."""

    weights: Floats
    intercept: float

    def __call__(self, features: Floats) -> Floats:
        """Return the log-odds that each prediction is right; shape (texts,)."""
        return features @ self.weights + self.intercept


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictor:
    """Answers, voters and trust, tied to one encoder.

    A voter may have one column more than there are answers, for texts that no answer fits.
    """

    answers: tuple[str, ...]
    encoder: Encoder
    voters: tuple[Voter, ...]
    trust: Trust

    def predict(self, texts: Sequence[str]) -> Predictions:
        """Predict an answer for each text; abstain if the encoder knows no word of the text."""
        vectors = require_finite(self.encoder.embed(texts))
        logits = [voter.logits(texts, vectors) for voter in self.voters]
        prediction, features = combine_votes(logits)
        trust = self.trust(features)
        trust[~vectors.any(axis=1) | (prediction >= len(self.answers))] = NO_ANSWER
        return Predictions(answers=prediction, trust=trust)

    @property
    def fingerprint(self) -> str:
        """A hash of encoder, answers and every fitted number."""
        digest = sha256("\0".join((self.encoder.fingerprint, *self.answers)).encode())
        for voter in self.voters:
            for name, array in sorted(voter.arrays().items()):
                digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
        digest.update(self.trust.weights.tobytes() + repr(self.trust.intercept).encode())
        return digest.hexdigest()[:32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Layers:
    """A voter of dense layers on the embedding, ReLU between them: one layer is a linear head."""

    weights: tuple[NDArray[np.float32], ...]
    biases: tuple[NDArray[np.float32], ...]

    def logits(self, texts: Sequence[str], vectors: Vectors) -> Floats:  # noqa: ARG002
        """Return (texts, answers)."""
        hidden = vectors
        last = len(self.weights) - 1
        for i, (weights, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = hidden @ weights + bias
            hidden = hidden if i == last else np.maximum(hidden, 0.0)
        return hidden.astype(np.float64)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the layers by number."""
        pairs = zip(self.weights, self.biases, strict=True)
        return {
            f"{kind}{i}": a for i, p in enumerate(pairs) for kind, a in zip("wb", p, strict=True)
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Ngrams:
    """A voter of linear weights on hashed word and character n-grams.

    `columns` are the hashed columns seen at least twice in training, sorted; `idf` and the rows of
    `weights` belong to them.
    """

    columns: Ints
    idf: NDArray[np.float32]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]

    def logits(self, texts: Sequence[str], vectors: Vectors) -> Floats:  # noqa: ARG002
        """Return (texts, answers)."""
        tfidf = tfidf_rows(select_columns(hashed_ngrams(texts), self.columns), self.idf)
        margins = tfidf @ self.weights + self.bias
        return NGRAM_SCALE * np.asarray(margins, dtype=np.float64)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return columns and weights."""
        return {
            "columns": self.columns,
            "idf": self.idf,
            "weights": self.weights,
            "bias": self.bias,
        }


def hashed_ngrams(texts: Sequence[str]) -> Any:
    """Return counts of words, word pairs and character n-grams, sparse rows (texts, 2 * 2**18)."""
    from scipy import sparse

    parts = [
        hasher.transform(analyse(text) for text in texts) for analyse, hasher in _ngram_hashers()
    ]
    return sparse.hstack(parts, format="csr")


def select_columns(counts: Any, columns: Ints) -> Any:
    """Return some columns of sparse rows, in rising order; shape (rows, columns).

    Slicing would first allocate all 2**19 columns.
    """
    from scipy import sparse

    at = np.searchsorted(columns, counts.indices)
    at[at == len(columns)] = 0
    present = columns[at] == counts.indices
    rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    shape = (counts.shape[0], len(columns))
    return sparse.csr_matrix((counts.data[present], (rows[present], at[present])), shape=shape)


@cache
def _ngram_hashers() -> tuple[tuple[Any, Any], ...]:
    """Return the analysers of a text into n-grams, words first, each with its hasher."""
    from sklearn.feature_extraction import FeatureHasher
    from sklearn.feature_extraction.text import HashingVectorizer

    cuts = ({"ngram_range": (1, 2)}, {"analyzer": "char_wb", "ngram_range": (2, 5)})
    hasher = FeatureHasher(2**18, input_type="string", alternate_sign=False, dtype=np.float32)
    return tuple((HashingVectorizer(**cut).build_analyzer(), hasher) for cut in cuts)


def tfidf_rows(counts: Any, idf: NDArray[np.float32]) -> Any:
    """Return (1 + log count) times idf, in sparse rows of unit length."""
    matrix = counts.astype(np.float32)
    matrix.data = (1.0 + np.log(matrix.data)) * idf[matrix.indices]
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    lengths = np.sqrt(np.bincount(rows, matrix.data**2, minlength=matrix.shape[0]))
    matrix.data /= lengths[rows]
    return matrix


def combine_votes(logits: Sequence[Floats]) -> tuple[Ints, Floats]:
    """Return the committee's prediction for each text, and the features of its trust."""
    opinions = [log_softmax(scores) for scores in logits]
    mean = log_softmax(np.mean(opinions, axis=0))
    prediction: Ints = mean.argmax(axis=1)
    rows = np.arange(len(prediction))
    features = [_margins(mean, prediction), mean[rows, prediction]]
    for opinion in opinions:
        features += [_margins(opinion, prediction), np.exp(opinion[rows, prediction])]
    return prediction, np.column_stack(features)


def log_softmax(logits: Floats) -> Floats:
    """Return log-probabilities along the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    logs: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return logs


def unit(vectors: Vectors) -> Vectors:
    """Scale rows to unit length; zero rows stay zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Vectors = (vectors / np.maximum(lengths, 1e-9)).astype(np.float32)
    return scaled


def require_finite(vectors: Vectors) -> Vectors:
    """Return the vectors; raise InputError if one is not finite."""
    if not np.isfinite(vectors).all():
        raise InputError(
            "the encoder returned a vector that is not finite",
            hint="nothing was answered; check the encoder and its weights",
        )
    return vectors


def _margins(opinion: Floats, prediction: Ints) -> Floats:
    """Return the margin of the predicted answer over the best other one, clipped."""
    rows = np.arange(len(prediction))
    others = opinion.copy()
    others[rows, prediction] = -np.inf
    margins: Floats = np.clip(opinion[rows, prediction] - others.max(axis=1), -_CLIP, _CLIP)
    return margins
