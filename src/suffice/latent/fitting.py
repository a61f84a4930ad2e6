"""Fit predictors to the answers of the reference rung; this takes minutes and needs no torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suffice.encoders.base import Encoder, Vectors
from suffice.errors import InputError
from suffice.guarantee import RiskKind
from suffice.guarantee.bounds import binomial_p_value
from suffice.latent.joint import fit_joint
from suffice.latent.predictor import (
    Floats,
    Ints,
    Layers,
    Ngrams,
    Predictions,
    Predictor,
    Trust,
    Voter,
    combine_votes,
    hashed_ngrams,
    require_finite,
    select_columns,
    tfidf_rows,
)
from suffice.trials.table import clusters_of

FOLDS = 3
NONE_WEIGHT = 4.0  # of out-of-scope rows in fitting the trust; traffic has more than training
HIDDEN = 512
LOOSEST, STRICTEST = 0.02, 0.45  # shares of fitting rows unanswered at the two ends of a grid
GRID_SIZES = (15, 8, 5, 3, 2)  # thresholds in a grid; they share delta
SINGLE_SHARES = (0.02, 0.05, 0.1, 0.2, 0.3)  # shares unanswered, for grids of one threshold
RESAMPLES = 500


class PredictorKind(StrEnum):
    """The kinds of predictors, by their voters."""

    HEAD = "head"  # one hidden layer on the embedding, and a linear head on n-grams
    EMBEDDING = "embedding"  # one hidden layer and a linear head on the embedding: the quickest
    JOINT = "joint"  # prompt embedding to answer embedding; answers can be added


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledTexts:
    """Texts with their answers; None if no answer of the set fits (out of scope)."""

    texts: Sequence[str]
    answers: Sequence[str | None]

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.answers):
            raise InputError(f"{len(self.texts)} texts for {len(self.answers)} answers")


@dataclass(frozen=True, kw_only=True, eq=False)
class ThresholdGrid:
    """Trust thresholds from strict to loose, and the share of requests expected to be answered."""

    thresholds: Floats
    expected_share: float


_ANSWERED = RiskKind.ERROR_AMONG_ANSWERED


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedPredictor:
    """A predictor, and its out-of-fold predictions on the rows that it was fitted to.

    `trust` is the trust of each prediction, `right` whether it was right. They fix the grid of
    thresholds and choose between predictors, both before the certifying rows are seen.
    """

    predictor: Predictor
    trust: Floats
    right: NDArray[np.bool_]

    def grid(
        self, rows: int, *, alpha: float, delta: float, risk_kind: RiskKind = _ANSWERED
    ) -> ThresholdGrid:
        """Return the grid that would certify most on `rows` rows like the fitting rows.

        More thresholds are finer steps, but each takes its part of delta: with few rows, few
        thresholds are best.
        """
        usable = self.trust[np.isfinite(self.trust)]
        if not len(usable):
            return ThresholdGrid(thresholds=np.zeros(1), expected_share=0.0)
        abstained = [np.linspace(STRICTEST, LOOSEST, size) for size in GRID_SIZES]
        abstained += [np.array([share]) for share in SINGLE_SHARES]
        marginal = risk_kind is not RiskKind.ERROR_AMONG_ANSWERED
        grids = [np.quantile(usable, shares) for shares in abstained]
        expected = [
            self._expected_share(grid, rows, alpha=alpha, delta=delta, marginal=marginal)
            for grid in grids
        ]
        best = int(np.argmax(expected))  # at a tie, the grid with more thresholds
        return ThresholdGrid(thresholds=grids[best], expected_share=expected[best])

    def _expected_share(
        self, thresholds: Floats, rows: int, *, alpha: float, delta: float, marginal: bool
    ) -> float:
        """Return the mean share answered if resamples of the fitting rows certify a grid."""
        points = len(thresholds)
        first = np.searchsorted(-thresholds, -self.trust)  # the strictest that answers each row
        cells = np.bincount(2 * first + self.right, minlength=2 * points + 2)
        share = cells.reshape(-1, 2).sum(axis=1).cumsum()[:points] / len(self.trust)
        draws = np.random.default_rng(0).multinomial(rows, cells / cells.sum(), size=RESAMPLES)
        wrong, right = draws.reshape(RESAMPLES, -1, 2)[:, :points].cumsum(axis=1).transpose(2, 0, 1)
        if marginal:
            passed = binomial_p_value(wrong, rows, alpha=alpha) <= delta
            passed = np.logical_and.accumulate(passed, axis=1)
        else:
            passed = binomial_p_value(wrong, wrong + right, alpha=alpha) <= delta / points
        return float(np.where(passed, share, 0.0).max(axis=1).mean())


def fit(
    rows: LabelledTexts,
    *,
    encoder: Encoder,
    kind: PredictorKind = PredictorKind.HEAD,
    seed: int = 0,
) -> FittedPredictor:
    """Fit a predictor; raises InputError if the rows show fewer than two answers.

    Rows without an answer of the set teach the predictor to abstain.
    """
    from threadpoolctl import threadpool_limits

    answers = tuple(sorted({answer for answer in rows.answers if answer is not None}))
    if len(answers) < 2:
        raise InputError(
            f"{len(answers)} distinct answers: there is nothing to predict",
            hint="a request with one possible answer needs no model; drop it or collect more rows",
        )
    place = {answer: i for i, answer in enumerate(answers)}
    targets = np.array([len(answers) if a is None else place[a] for a in rows.answers])
    vectors = require_finite(encoder.embed(rows.texts))
    has_none = bool((targets >= len(answers)).any())
    fit_voters = _voter_fit(kind, answers, has_none=has_none, encoder=encoder, seed=seed)
    texts = np.array(rows.texts, dtype=object)
    with threadpool_limits(limits=1):  # the products are small: more threads mostly wait
        prediction, features = _out_of_fold(fit_voters, texts, vectors, targets, seed=seed)
        voters = fit_voters(texts, vectors, targets)
    right = (prediction == targets) & (targets < len(answers))
    in_list = prediction < len(answers)  # other predictions abstain, whatever their trust
    outside = targets >= len(answers)
    trust = _fit_trust(features[in_list], right[in_list], outside=outside[in_list])
    scores = np.where(in_list, trust(features), -np.inf)
    predictor = Predictor(answers=answers, encoder=encoder, voters=voters, trust=trust)
    return FittedPredictor(predictor=predictor, trust=scores, right=right)


def text_clusters(texts: Sequence[str] | NDArray[Any]) -> Ints:
    """Return the cluster of each text: texts that look equal share it, empty texts do not."""
    return clusters_of([str(row) for row in range(len(texts))], list(texts))[0]


def is_right(
    predictions: Predictions, answers: Sequence[str | None], known: Sequence[str]
) -> NDArray[np.bool_]:
    """Return whether each prediction is the answer; a prediction where none fits is wrong."""
    pairs = zip(predictions.answers, answers, strict=True)
    return np.array([g < len(known) and known[g] == answer for g, answer in pairs], dtype=np.bool_)


VoterFit = Callable[[NDArray[Any], Vectors, Ints], tuple[Voter, ...]]


def _voter_fit(
    kind: PredictorKind, answers: tuple[str, ...], *, has_none: bool, encoder: Encoder, seed: int
) -> VoterFit:
    """Return the function that fits voters of this kind to some of the rows."""
    classes = len(answers) + int(has_none)

    def fit_voters(texts: NDArray[Any], vectors: Vectors, targets: Ints) -> tuple[Voter, ...]:
        if kind is PredictorKind.JOINT:
            inside = targets < len(answers)
            return (
                fit_joint(vectors[inside], targets[inside], answers, encoder=encoder, seed=seed),
            )
        hidden = _hidden(vectors, targets, classes=classes, seed=seed)
        if kind is PredictorKind.EMBEDDING:
            return hidden, _linear(vectors, targets, classes=classes)
        return hidden, _ngrams(texts, targets, classes=classes)

    return fit_voters


def _out_of_fold(
    fit_voters: VoterFit, texts: NDArray[Any], vectors: Vectors, targets: Ints, *, seed: int
) -> tuple[Ints, Floats]:
    """Return predictions and features for every row from voters that did not see it."""
    clusters = text_clusters(texts)  # equal texts go into one fold
    fold = np.random.default_rng(seed).permutation(clusters.max() + 1)[clusters] % FOLDS
    parts = []
    for number in range(FOLDS):
        kept, held = fold != number, fold == number
        voters = fit_voters(texts[kept], vectors[kept], targets[kept])
        parts.append(
            combine_votes([voter.logits(list(texts[held]), vectors[held]) for voter in voters])
        )
    predictions = np.empty(len(targets), np.int64)
    features = np.empty((len(targets), parts[0][1].shape[1]))
    for number, (prediction, feature) in enumerate(parts):
        predictions[fold == number], features[fold == number] = prediction, feature
    return predictions, features


def _fit_trust(
    features: Floats, correct: NDArray[np.bool_], *, outside: NDArray[np.bool_]
) -> Trust:
    """Fit the log-odds of being right; constant where every prediction was right, or none was."""
    from sklearn.linear_model import LogisticRegression

    width = features.shape[1]
    if correct.all() or not correct.any():
        return Trust(weights=np.eye(1, width)[0], intercept=0.0)  # the margin by itself
    centre, spread = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-9)
    weights = np.where(outside, NONE_WEIGHT, 1.0)
    model = LogisticRegression(max_iter=500)
    model.fit((features - centre) / spread, correct, sample_weight=weights)
    raw = model.coef_[0] / spread
    return Trust(weights=raw, intercept=float(model.intercept_[0] - raw @ centre))


def _linear(vectors: Vectors, targets: Ints, *, classes: int) -> Layers:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=10.0, max_iter=100, tol=1e-3).fit(vectors, targets)
    weights, biases = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # one row of weights stands for both
        weights, biases = np.vstack([-weights, weights]) / 2, np.append(-biases, biases) / 2
    return Layers(
        weights=(_by_class(weights, model.classes_, classes=classes).T.copy(),),
        biases=(_by_class(biases, model.classes_, classes=classes),),
    )


def _hidden(vectors: Vectors, targets: Ints, *, classes: int, seed: int) -> Layers:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier(
        (HIDDEN,),
        batch_size=min(256, len(targets)),
        max_iter=20,
        learning_rate_init=2e-3,
        random_state=seed,
        tol=0.0,
        n_iter_no_change=99,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is the stop
        model.fit(vectors, targets)
    (first, last), (bias, final) = model.coefs_, model.intercepts_
    if len(model.classes_) == 2:
        last, final = np.hstack([-last, last]) / 2, np.append(-final, final) / 2
    return Layers(
        weights=(
            first.astype(np.float32),
            _by_class(last.T, model.classes_, classes=classes).T.copy(),
        ),
        biases=(bias.astype(np.float32), _by_class(final, model.classes_, classes=classes)),
    )


def _ngrams(texts: NDArray[Any], targets: Ints, *, classes: int) -> Ngrams:
    from sklearn.svm import LinearSVC

    counts = hashed_ngrams(list(texts))
    rows_with = np.bincount(counts.indices, minlength=counts.shape[1])
    columns = np.flatnonzero(rows_with >= min(2, len(texts)))
    idf = (np.log((1 + len(texts)) / (1 + rows_with[columns])) + 1.0).astype(np.float32)
    tfidf = tfidf_rows(select_columns(counts, columns), idf)
    model = LinearSVC(C=1.0, tol=1e-2).fit(tfidf, targets)
    weights, biases = model.coef_, model.intercept_
    if len(model.classes_) == 2:
        weights, biases = np.vstack([-weights, weights]), np.append(-biases, biases)
    return Ngrams(
        columns=columns,
        idf=idf,
        weights=_by_class(weights, model.classes_, classes=classes).T.copy(),
        bias=_by_class(biases, model.classes_, classes=classes, absent=-2.0),
    )


def _by_class(
    rows_fitted: NDArray[Any], classes_fitted: Ints, *, classes: int, absent: float = -10.0
) -> NDArray[np.float32]:
    """Return fitted rows by class; a class absent from a fold gets no weight and a low bias."""
    rows = np.zeros((classes, *rows_fitted.shape[1:]), np.float32)
    if rows_fitted.ndim == 1:
        rows += np.float32(absent)
    rows[classes_fitted] = rows_fitted
    return rows
