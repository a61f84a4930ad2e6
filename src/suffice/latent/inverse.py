"""Inverse dynamics by joint embedding: the action that led from one state to another.

The joint-embedding predictor maps the difference of two states (after less before, unit vectors) to
the embedding of the action, and the nearest of the offered actions is the answer. Nothing is
decoded. VL-JEPA answers WorldPrediction-WM in this way (arXiv 2512.10942, section 4).
"""

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from suffice.encoders.base import Vectors
from suffice.errors import InputError
from suffice.evidence.published import PublishedAccuracies, worldprediction
from suffice.guarantee.bounds import clopper_pearson_interval
from suffice.latent.joint import Joint, fit_joint_vectors
from suffice.latent.predictor import Ints, unit
from suffice.latent.transitions import Transition
from suffice.trials.resample import CONFIDENCE, Estimate, cluster_sums, drawn_sums, estimate

FOLDS = 5
CHANGE = "change"
CAPTIONS = 6  # of two states and four actions, where a language model reads instead of seeing


class ViewEncoder(Protocol):
    """Turns texts or clips into vectors, whichever the questions hold."""

    @property
    def fingerprint(self) -> str:
        """Name, version and weights."""
        ...

    def embed(self, views: Sequence[Any], /) -> Vectors:
        """Return one finite vector a view, shape (views, dim)."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class EmbeddedTransitions:
    """Unit vectors of questions: states (questions, dim), actions (questions, choices, dim)."""

    before: Vectors
    after: Vectors
    actions: Vectors
    answers: Ints
    right_actions: tuple[Hashable, ...]

    def inputs(self, name: str) -> Vectors:
        """Return what the predictor sees, (questions, dim): the change, or one state alone."""
        if name == CHANGE:
            return self.after - self.before
        return self.after if name == "after alone" else self.before

    def __getitem__(self, rows: NDArray[Any]) -> "EmbeddedTransitions":
        return EmbeddedTransitions(
            before=self.before[rows],
            after=self.after[rows],
            actions=self.actions[rows],
            answers=self.answers[rows],
            right_actions=tuple(
                self.right_actions[row] for row in np.arange(len(self.answers))[rows]
            ),
        )


class ActionChoices(Struct, frozen=True, kw_only=True):
    """How often the predictor names the action, and what it did not decode.

    `controls` are accuracies without what the task is about: one state alone, and no training.
    A model that writes its choice decodes once a question (`decodes_saved`); one that reads
    captions decodes them too (`decodes_saved_with_captions`). `choices_per_s` starts at embedded
    questions, in seconds of one processor. `fitted_on` says where the predictor learned.
    """

    questions: int
    clusters: int
    chance: float
    accuracy: Estimate
    above_chance: bool
    by_source: dict[str, Estimate]
    controls: dict[str, float]
    encoder: str
    fitted_on: str
    decodes: int
    decodes_saved: int
    decodes_saved_with_captions: int
    encoding_s: float
    choices_per_s: float
    published: PublishedAccuracies
    choices: tuple[int, ...]


def embed_transitions(
    questions: Sequence[Transition], *, encoder: ViewEncoder
) -> EmbeddedTransitions:
    """Embed each different view once."""
    rows = [(question.before, question.after, *question.actions) for question in questions]
    views = {view: at for at, view in enumerate(dict.fromkeys(v for row in rows for v in row))}
    vectors = unit(encoder.embed(list(views)))
    embedded = vectors[np.array([[views[view] for view in row] for row in rows])]
    return EmbeddedTransitions(
        before=embedded[:, 0],
        after=embedded[:, 1],
        actions=embedded[:, 2:],
        answers=np.array([question.answer for question in questions], np.int64),
        right_actions=tuple(question.right_action for question in questions),
    )


def fit_inverse(inputs: Vectors, embedded: EmbeddedTransitions, *, seed: int = 0) -> Joint:
    """Fit the predictor from inputs (questions, dim) to the actions that happened."""
    places = {action: at for at, action in enumerate(dict.fromkeys(embedded.right_actions))}
    targets = np.array([places[action] for action in embedded.right_actions], np.int64)
    right = embedded.actions[np.arange(len(targets)), embedded.answers]
    first = np.unique(targets, return_index=True)[1]
    return fit_joint_vectors(inputs, targets, right[first], seed=seed)


def choose_actions(predictor: Joint | None, inputs: Vectors, actions: Vectors) -> Ints:
    """Return the index of the nearest action for each question; None maps nothing."""
    if predictor is None:
        predicted = unit(inputs)
    else:
        predicted = unit(inputs @ predictor.weights + predictor.bias)
    cosines = np.einsum("nkd,nd->nk", actions, predicted)
    choices: Ints = cosines.argmax(axis=1)
    return choices


def measure_choices(
    questions: Sequence[Transition],
    *,
    encoder: ViewEncoder,
    train: Sequence[Transition] = (),
    seed: int = 0,
) -> ActionChoices:
    """Measure the predictor on questions: fitted on `train`, or else on the other folds.

    Folds deal whole clusters. Raises InputError where the questions are too few for that.
    """
    began = time.perf_counter()
    embedded = embed_transitions(questions, encoder=encoder)
    fitting = embed_transitions(train, encoder=encoder) if train else None
    encoding_s = time.perf_counter() - began
    folds = _folds([question.cluster for question in questions], seed=seed, held_out=not train)
    choices, seconds = _choose(embedded, fitting, folds, name=CHANGE, seed=seed)
    nearest = choose_actions(None, embedded.inputs(CHANGE), embedded.actions)
    controls = {
        name: _choose(embedded, fitting, folds, name=name, seed=seed)[0]
        for name in ("after alone", "before alone")
    }
    right = choices == embedded.answers
    accuracy = _accuracy(right, questions, seed=seed)
    chance = 1 / embedded.actions.shape[1]
    low = None if accuracy.interval is None else accuracy.interval[0]
    return ActionChoices(
        questions=len(questions),
        clusters=len({question.cluster for question in questions}),
        chance=chance,
        accuracy=accuracy,
        above_chance=low is not None and low > chance,
        by_source={
            source: _accuracy(right, questions, seed=seed, source=source)
            for source in dict.fromkeys(question.source for question in questions)
        },
        controls={
            name: float((control == embedded.answers).mean())
            for name, control in {**controls, "untrained": nearest}.items()
        },
        encoder=encoder.fingerprint,
        fitted_on=f"{len(train):,} other questions" if train else f"{FOLDS - 1} of {FOLDS} folds",
        decodes=0,
        decodes_saved=len(questions),
        decodes_saved_with_captions=len(questions) * (CAPTIONS + 1),
        encoding_s=encoding_s,
        choices_per_s=len(questions) / seconds,
        published=worldprediction(),
        choices=tuple(choices.tolist()),
    )


def _choose(
    embedded: EmbeddedTransitions,
    fitting: EmbeddedTransitions | None,
    folds: Ints,
    *,
    name: str,
    seed: int,
) -> tuple[Ints, float]:
    """Choose for each fold with a predictor of the others; also return its processor seconds.

    One thread is quickest for so small matrices, and steady on a busy machine.
    """
    from threadpoolctl import threadpool_limits

    choices, seconds = np.zeros(len(folds), np.int64), 0.0
    with threadpool_limits(limits=1):
        for fold in np.unique(folds):
            rows = folds == fold
            source = embedded[~rows] if fitting is None else fitting
            predictor = fit_inverse(source.inputs(name), source, seed=seed)
            inputs, actions = embedded.inputs(name)[rows], embedded.actions[rows]
            began = time.thread_time()
            choices[rows] = choose_actions(predictor, inputs, actions)
            seconds += time.thread_time() - began
    return choices, seconds


def _folds(clusters: Sequence[str], *, seed: int, held_out: bool) -> Ints:
    """Deal whole clusters to folds; one fold where nothing has to be held out."""
    names = list(dict.fromkeys(clusters))
    if not held_out:
        return np.zeros(len(clusters), np.int64)
    if len(names) < FOLDS:
        raise InputError(
            f"{len(names)} clusters of questions are too few for {FOLDS} folds",
            hint="give --train with other questions, or more questions",
        )
    order = np.random.default_rng(seed).permutation(len(names))
    fold = {names[at]: place % FOLDS for place, at in enumerate(order)}
    return np.array([fold[cluster] for cluster in clusters], np.int64)


def _accuracy(
    right: NDArray[np.bool_],
    questions: Sequence[Transition],
    *,
    seed: int,
    source: str | None = None,
) -> Estimate:
    """Resample whole clusters; all right or all wrong takes the exact interval."""
    rows = [n for n, question in enumerate(questions) if source in (None, question.source)]
    clusters = [questions[n].cluster for n in rows]
    columns = np.column_stack([right[rows], np.ones(len(rows))]).astype(np.float64)
    sums = cluster_sums(columns, clusters)
    share = float(columns[:, 0].mean())
    if share in {0.0, 1.0}:
        hits = len(sums) if share else 0
        low, high = clopper_pearson_interval(hits, len(sums), delta=1 - CONFIDENCE)
        return Estimate(value=share, interval=(float(low), float(high)))
    drawn = drawn_sums(sums, seed=seed)
    figure = estimate(drawn[:, 0] / drawn[:, 1], clusters=len(sums))
    assert figure is not None
    return figure
