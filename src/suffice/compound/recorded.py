"""The trials of a workload as arrays, after checks that none is missing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from suffice.compound.cells import Requests
from suffice.compound.workload import CompoundWorkload, Deployed
from suffice.errors import InputError
from suffice.guarantee import LabelSource
from suffice.meter import Price, charge
from suffice.scoring.labels import label_source
from suffice.trials.table import Floats
from suffice.types import Count, CountSource, Finish, Trial, TrialStatus, Vector

Flags = NDArray[np.bool_]

_NOTHING = Count(0, CountSource.REPORTED)


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictedAnswers:
    """The answers of rungs that decode nothing; `quality` is NaN where none of them answered.

    `attempted` marks, by rung, the requests that the rung was called for.
    """

    attempted: Mapping[str, Flags]
    quality: Floats

    @property
    def answered(self) -> Flags:
        """The requests that one of the rungs answered."""
        return ~np.isnan(self.quality)


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """The answers of one rung to every request: quality, tokens, and dollars by deployment."""

    trials: tuple[Trial, ...]
    quality: Floats
    input_tokens: Floats
    output_tokens: Floats
    prompt_usd: Mapping[Deployed, Floats]
    answer_usd: Mapping[Deployed, Floats]
    estimated: Mapping[Deployed, bool]


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordedRequests:
    """All requests of a workload with the answers of every rung; arrays in the requests' order."""

    requests: Requests
    groups: tuple[str, ...]
    decoded: Mapping[str, Decoded]
    predicted: PredictedAnswers
    labels: LabelSource
    notes: tuple[str, ...]


def record(
    workload: CompoundWorkload, trials: Sequence[Trial], *, now: datetime
) -> RecordedRequests:
    """Check trials against their workload and put them into arrays, at the prices of `now`.

    Raises InputError naming rung and request for a trial that is missing, failed or unscored, a
    request with several runs or without one text, a group that belongs to no part, and an unknown
    charge.
    """
    by_pair = {(trial.request_id, trial.rung): trial for trial in trials}
    if len(by_pair) < len(trials):
        raise InputError(
            "some requests have several runs on one rung",
            hint="keep one run of each request: a combination is replayed from single answers",
        )
    one_each = _one_each(trials)
    ids = tuple(one_each)
    requests = Requests(
        ids=ids,
        texts=tuple(one_each[i].text for i in ids),
        parts=tuple(_part(workload, one_each[i]) for i in ids),
    )
    _refuse_empty_parts(workload, requests)
    decoding = (*workload.rungs_of(Vector.OUTPUT), workload.reference)
    predicting = workload.rungs_of(Vector.PARADIGM)
    prices = workload.prices()
    return RecordedRequests(
        requests=requests,
        groups=tuple(str(one_each[i].group) for i in ids),
        decoded={rung: _decoded(by_pair, rung, ids, prices=prices, now=now) for rung in decoding},
        predicted=_predicted(by_pair, predicting, ids),
        labels=_labels(trials),
        notes=_left_out(trials, {*decoding, *predicting}),
    )


def _one_each(trials: Iterable[Trial]) -> dict[str, Trial]:
    """Return the first trial of every request; all must agree on its text and group."""
    first_trials: dict[str, Trial] = {}
    for trial in trials:
        first = first_trials.setdefault(trial.request_id, trial)
        if not trial.text or (trial.text, trial.group) != (first.text, first.group):
            raise InputError(
                f"request {trial.request_id!r} has "
                + ("two texts or groups" if trial.text else "no text"),
                hint="cells are compared, and caches filled, by the text of a request",
            )
    return first_trials


def _part(workload: CompoundWorkload, trial: Trial) -> str:
    for name, part in workload.part.items():
        if trial.group in part.groups:
            return name
    raise InputError(
        f"request {trial.request_id!r} has group {trial.group!r}, which is in no part of "
        f"{workload.name!r}",
        hint="add the group to a part of the workload, or leave the request out",
    )


def _labels(trials: Sequence[Trial]) -> LabelSource:
    """Return the source of the labels; raises InputError for a judge, whose errors are unknown."""
    source = label_source(trials)
    if source is LabelSource.JUDGE:
        raise InputError(
            "a judge marked some of these answers, and no human labels show how often it errs",
            hint="score them with a program, or leave those requests out of the workload",
        )
    return source


def _refuse_empty_parts(workload: CompoundWorkload, requests: Requests) -> None:
    for name in workload.part:
        if name not in requests.parts:
            raise InputError(
                f"no request belongs to part {name!r} of {workload.name!r}",
                hint="run that part too: the workload declares its share of the cost",
            )


def _left_out(trials: Iterable[Trial], used: set[str]) -> tuple[str, ...]:
    others = dict.fromkeys(trial.rung for trial in trials if trial.rung not in used)
    return tuple(f"Rung {rung!r} belongs to no lever and was left out." for rung in others)


def _decoded(
    by_pair: Mapping[tuple[str, str], Trial],
    rung: str,
    ids: Sequence[str],
    *,
    prices: Mapping[Deployed, Price],
    now: datetime,
) -> Decoded:
    """Put the trials of a decoding rung into arrays; raises InputError for one without a score."""
    for request_id in ids:
        trial = by_pair.get((request_id, rung))
        if trial is None or trial.status is not TrialStatus.SCORED:
            what = "no trial" if trial is None else f"a trial that is {trial.status.value}"
            raise InputError(
                f"rung {rung!r} has {what} for request {request_id!r}",
                hint="run and score every request on every rung that decodes",
            )
    rung_trials = tuple(by_pair[request_id, rung] for request_id in ids)
    usages = [_complete(trial) for trial in rung_trials]
    charged = {
        at: [_charge(trial, price, now=now) for trial in rung_trials]
        for at, price in prices.items()
    }
    return Decoded(
        trials=rung_trials,
        quality=np.array([trial.quality for trial in rung_trials], dtype=np.float64),
        input_tokens=np.array([read for read, _ in usages], dtype=np.float64),
        output_tokens=np.array([written for _, written in usages], dtype=np.float64),
        prompt_usd={
            at: np.array([prompt for prompt, _, _ in charges]) for at, charges in charged.items()
        },
        answer_usd={
            at: np.array([answer for _, answer, _ in charges]) for at, charges in charged.items()
        },
        estimated={at: any(guess for _, _, guess in charges) for at, charges in charged.items()},
    )


def _complete(trial: Trial) -> tuple[int, int]:
    """Return the tokens read and written; raises InputError if the engine gave no count."""
    read, written = trial.usage.input_tokens, trial.usage.output_tokens
    if read is None or written is None:
        raise InputError(
            f"the charge of rung {trial.rung!r} for request {trial.request_id!r} is unknown: "
            f"no {'input' if read is None else 'output'} tokens",
            hint="count them with the model's own tokenizer; unknown is not 0",
        )
    return read.tokens, written.tokens


def _charge(trial: Trial, price: Price, *, now: datetime) -> tuple[float, float, bool]:
    """Return the dollars of the prompt, those of the answer, and whether they are estimates."""
    whole = charge(trial.usage, price, at=now)
    no_answer = replace(trial.usage, output_tokens=_NOTHING, reasoning_tokens=_NOTHING)
    prompt = charge(no_answer, price, at=now)
    if whole.usd is None or prompt.usd is None:
        raise InputError(
            f"the charge of rung {trial.rung!r} for request {trial.request_id!r} is unknown at "
            f"price {price.name!r}",
            hint="its counts contradict each other: a part is larger than its whole",
        )
    return float(prompt.usd), float(whole.usd - prompt.usd), whole.estimated


def _predicted(
    by_pair: Mapping[tuple[str, str], Trial], rungs: Sequence[str], ids: Sequence[str]
) -> PredictedAnswers:
    """Replay the rungs in their order until one answers; no trial means that it was not called."""
    quality = np.full(len(ids), np.nan)
    attempted = {rung: np.zeros(len(ids), dtype=np.bool_) for rung in rungs}
    for at, request_id in enumerate(ids):
        for rung in rungs:
            trial = by_pair.get((request_id, rung))
            if trial is None:
                continue
            attempted[rung][at] = True
            if trial.finish is Finish.ABSTAINED:
                continue
            if trial.status is TrialStatus.UNSCORED:
                raise InputError(
                    f"rung {rung!r} has a trial that is unscored for request {request_id!r}",
                    hint="score every answer",
                )
            if trial.quality is not None:
                quality[at] = trial.quality
                break
    return PredictedAnswers(attempted=attempted, quality=quality)
