"""A learned score for text streams: the probability that the held answer is wrong by now.

The score is one logistic regression over hashed words: those of the event, those of its context,
and both joined with the held answer. The joined words make it a prediction about the *answer*:
"book it" means a change if the held answer is a search, and no change if it is a reservation.
"""

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from suffice.errors import InputError
from suffice.guarantee import Calibration, Evidence, Method, calibrate
from suffice.guarantee.clusters import Clusters
from suffice.selective.decoder import DecodeGate, GateSettings

COLUMNS = 2**18  # of each view; enough for a tenth as many distinct words
LONGEST_LAG = 8  # events; the oldest held answer in the training pairs
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?|\d+")
Pair = tuple["Turn", str]


class Turn(Struct, frozen=True, kw_only=True):
    """An event of a text stream: its text, the text just before it, and the answer if known."""

    text: str
    context: str = ""
    answer: str | None = None


Stream = Sequence[Turn]


@dataclass(frozen=True, kw_only=True, eq=False)
class ChangeModel:
    """Weights of shape (3, COLUMNS), one row per view, and an intercept; see `fit_change_model`."""

    weights: NDArray[np.float32]
    intercept: float

    def scores(self, turns: Sequence[Turn], held: Sequence[str]) -> NDArray[np.float64]:
        """Return the probability that a held answer is wrong for a turn; shape (turns, held)."""
        own = self.intercept + sum(
            view @ weights for view, weights in zip(_own_views(turns), self.weights, strict=False)
        )
        joined = [_joined_view([(turn, name) for turn in turns]) @ self.weights[2] for name in held]
        logits = own[:, None] + np.column_stack(joined)
        chances: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-np.clip(logits, -30.0, 30.0)))
        return chances

    def to_bytes(self) -> bytes:
        """Return the model as a compressed `.npz` file; loading it executes no code."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, weights=self.weights, intercept=self.intercept)
        return buffer.getvalue()

    @classmethod
    def load(cls, path: Path) -> "ChangeModel":
        """Read a file that `to_bytes` made; raises InputError for any other."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                model = cls(weights=arrays["weights"], intercept=float(arrays["intercept"]))
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise InputError(
                f"{path} is not a change model: {error}", hint="train one again"
            ) from error
        if model.weights.shape != (3, COLUMNS) or not np.isfinite(model.weights).all():
            raise InputError(f"{path} holds weights of another version", hint="train one again")
        return model


class TextChange:
    """Scores the turns of one stream against the answer decoded last."""

    def __init__(self, model: ChangeModel) -> None:
        self._model = model
        self._held = ""

    def score(self, event: Turn) -> float:
        """Return the probability that the held answer is wrong; 1 for a turn without a word."""
        if not _words(event.text):
            return 1.0
        return float(self._model.scores([event], [self._held])[0, 0])

    def decoded(self, event: Turn, answer: str) -> None:  # noqa: ARG002 (the protocol's form)
        """Hold `answer` from now on."""
        self._held = answer


def fit_change_model(streams: Sequence[Stream], *, seed: int = 0) -> ChangeModel:
    """Fit a change model to streams whose turns all carry answers.

    Each turn is paired with the answer before it and with an older, different answer, so that the
    model also sees answers that have been wrong for a while. Raises InputError if no turn changes
    the answer, or if every turn does.
    """
    from scipy import sparse
    from sklearn.linear_model import LogisticRegression

    pairs, stale = _training_pairs(streams, rng=np.random.default_rng(seed))
    if len(set(stale)) < 2:
        raise InputError(
            "these streams show no turn where the answer changes and one where it holds",
            hint="give longer streams, with the answer of every turn",
        )
    own = _own_views([turn for turn, _ in pairs])
    design = sparse.hstack([*own, _joined_view(pairs)], format="csr")
    columns = np.flatnonzero(np.diff(design.tocsc().indptr))
    model = LogisticRegression(C=3.0, max_iter=100, tol=1e-3, solver="liblinear")
    model.fit(design[:, columns], np.array(stale))
    weights = np.zeros(3 * COLUMNS, np.float32)
    weights[columns] = model.coef_[0]
    return ChangeModel(weights=weights.reshape(3, COLUMNS), intercept=float(model.intercept_[0]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Rollout:
    """The counts of a gate on one labelled stream, with a decoder that is always right."""

    events: int
    decodes: int
    wrong: int

    @property
    def held(self) -> float:
        """The share of events with a right answer."""
        return 1.0 - self.wrong / self.events


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredStream:
    """A labelled stream with the score of every turn against every answer that could be held."""

    answers: NDArray[np.int64]
    scores: NDArray[np.float64]  # (turns, answers of this stream)

    def roll(self, settings: GateSettings) -> Rollout:
        """Run a gate over the stream."""
        gate, held, decodes, wrong = DecodeGate(settings), 0, 0, 0
        for turn, answer in enumerate(self.answers):
            if gate.push(float(self.scores[turn, held])) is not None:
                gate.decoded()
                held, decodes = int(answer), decodes + 1
            wrong += int(held != answer)
        return Rollout(events=len(self.answers), decodes=decodes, wrong=wrong)


def score_stream(model: ChangeModel, stream: Stream) -> ScoredStream:
    """Score a labelled stream once for all thresholds."""
    names = [_answer(turn) for turn in stream]
    distinct = sorted(set(names))
    return ScoredStream(
        answers=np.searchsorted(np.array(distinct), np.array(names)).astype(np.int64),
        scores=model.scores(stream, distinct),
    )


def calibrate_threshold(
    streams: Sequence[ScoredStream],
    *,
    settings: Sequence[GateSettings],
    alpha: float,
    delta: float,
    copies: NDArray[np.int64] | None = None,
) -> Calibration:
    """Certify the cheapest gate whose mean share of wrong events over streams is at most `alpha`.

    Turns of a stream depend on each other, so each stream counts once: its loss is its share of
    wrong events. A betting bound tests the losses along `settings`, which go from many decodes to
    few. Of the streams that share a number in `copies`, only the first counts.
    """
    losses = np.array([[1.0 - stream.roll(gate).held for gate in settings] for stream in streams])
    clusters = None if copies is None else Clusters(codes=copies, largest=1)
    evidence = Evidence(losses=losses, clusters=clusters)
    return calibrate(evidence, alpha=alpha, delta=delta, method=Method.BETTING)


def _training_pairs(
    streams: Sequence[Stream], *, rng: np.random.Generator
) -> tuple[list[Pair], list[bool]]:
    pairs: list[Pair] = []
    for stream in streams:
        names = [_answer(turn) for turn in stream]
        lags = rng.integers(1, LONGEST_LAG, len(stream))
        for i in range(1, len(stream)):
            pairs.append((stream[i], names[i - 1]))
            older = i - 1 - int(lags[i])
            if older >= 0 and names[older] != names[i - 1]:
                pairs.append((stream[i], names[older]))
    return pairs, [turn.answer != held for turn, held in pairs]


def _answer(turn: Turn) -> str:
    if turn.answer is None:
        raise InputError(
            "a turn has no answer", hint="training and calibration need one for every turn"
        )
    return turn.answer


def _own_views(turns: Sequence[Turn]) -> tuple[Any, Any]:
    """Return the hashed phrases of texts and of contexts; sparse, (turns, COLUMNS) each."""
    texts = _hashed([_phrases(turn.text) for turn in turns])
    return texts, _hashed([_phrases(turn.context) for turn in turns])


def _joined_view(pairs: Sequence[Pair]) -> Any:
    """Return the hashed held answer, alone and joined with each word of event and context."""
    return _hashed(
        [
            held,
            *(f"{held}|text|{word}" for word in _words(turn.text)),
            *(f"{held}|context|{word}" for word in _words(turn.context)),
        ]
        for turn, held in pairs
    )


def _hashed(rows: Iterable[list[str]]) -> Any:
    """Count tokens in hashed columns; rows have unit length."""
    from sklearn.feature_extraction.text import HashingVectorizer

    hasher = HashingVectorizer(
        n_features=COLUMNS, analyzer=list, alternate_sign=False, norm="l2", dtype=np.float32
    )
    return hasher.transform(rows)


def _phrases(text: str) -> list[str]:
    """Return the words of a text, and its pairs of neighbouring words."""
    words = _words(text)
    return words + [f"{a} {b}" for a, b in pairwise(words)]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
