"""Where qualities come from: programs, a judge mended by human labels, or mere agreement."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from suffice.errors import InputError
from suffice.guarantee.certificate import LabelSource
from suffice.scoring.scorers import JUDGED, chosen_label, final_number, mark, tagged_answer
from suffice.trials.jsonl import PathLike, convert_row, decode_object, read_lines
from suffice.trials.table import Floats, Rows, TrialTable
from suffice.types import Finish, Trial, TrialStatus

AGREEMENT = "agreement"
WITH_TARGETS = frozenset({"exact", "choice", "numeric"})

Pair = tuple[str, str]


class _Label(Struct, frozen=True, kw_only=True):
    request_id: str
    rung: str
    quality: float


@dataclass(frozen=True, kw_only=True, eq=False)
class HumanLabels:
    """Human qualities of some requests of a table, every rung of each; in the order of its rows.

    `rows` are positions in the table, shape (labelled,); `quality` has shape (labelled, rungs).
    A bound that mends a judge by them holds if the requests were picked at random.
    """

    rows: Rows
    quality: Floats


def label_source(trials: Iterable[Trial]) -> LabelSource:
    """Say what a promise on these qualities is about: the weakest source that any of them has.

    A quality of unknown making counts as a program's verdict; no quality at all, as agreement.
    """
    scorers = {trial.scorer for trial in trials if trial.quality is not None}
    if not scorers or AGREEMENT in scorers:
        return LabelSource.AGREEMENT
    if scorers & set(JUDGED):
        return LabelSource.JUDGE
    return LabelSource.TARGET if scorers <= WITH_TARGETS else LabelSource.SCORER


def score_by_agreement(
    trials: Sequence[Trial], *, reference: str, scorer: str = "exact"
) -> tuple[Trial, ...]:
    """Give each answered trial quality 1 if it agrees with the reference rung's answer, else 0.

    `scorer` says what of the answers must agree: `exact` (the final answer, whatever its case),
    `choice` (the label) or `numeric` (the final number). Of several runs of the reference, the one
    of the same `run` counts, or else its first. Where the reference has no answer, the request
    stays unscored. Raises InputError for a rung without trials.
    """
    first: dict[str, str | None] = {}
    runs: dict[tuple[str, str | None], str | None] = {}
    for trial in trials:
        if trial.rung == reference:
            first.setdefault(trial.request_id, trial.answer)
            runs[trial.request_id, trial.run] = trial.answer
    if not first:
        raise InputError(f"no trial of the reference rung {reference!r}")

    def of_reference(trial: Trial) -> str | None:
        return runs.get((trial.request_id, trial.run), first.get(trial.request_id))

    return tuple(_compare(trial, of_reference(trial), scorer=scorer) for trial in trials)


def agreement(answer: str, reference: str | None, *, scorer: str = "exact") -> float | None:
    """Give 1 if an answer agrees with the reference's, else 0; None where that has none to give."""
    target = None if reference is None else _target(reference, scorer)
    if target is None:
        return None
    return mark(answer, scorer=scorer, target=target, options={"ignore_case": True}).quality


def read_labels(path: PathLike) -> dict[Pair, float]:
    """Read human labels, rows of `request_id, rung, quality`; raises InputError with the line."""
    labels: dict[Pair, float] = {}
    for number, line in read_lines(path):
        at = f"{path}, line {number}"
        row = convert_row(decode_object(line, at=at), _Label, at=at)
        if not 0 <= row.quality <= 1:
            raise InputError(f"{at}: field 'quality' is {row.quality}, outside [0, 1]")
        if (row.request_id, row.rung) in labels:
            raise InputError(
                f"{at}: request_id {row.request_id!r} on rung {row.rung!r} is labelled twice",
                hint="settle on one label for each answer",
            )
        labels[row.request_id, row.rung] = row.quality
    return labels


def human_labels(table: TrialTable, labels: Mapping[Pair, float]) -> HumanLabels:
    """Find the labelled requests in a table; raises InputError for labels that do not fit it.

    A request must be labelled on every rung: its loss compares two of them. Labels of as many
    requests as the table left out may find no row.
    """
    known = set(table.request_ids)
    absent = {request_id for request_id, _ in labels} - known
    may_be_left_out = len(absent) <= sum(table.left_out.values())
    for request_id, rung in labels:
        if (request_id in absent and not may_be_left_out) or rung not in table.rungs:
            raise InputError(
                f"a label is about request {request_id!r} on rung {rung!r}, which has no trial",
                hint="label answers of these trials; runs of a request R are R#1, R#2 and so on",
            )
    labels = {pair: quality for pair, quality in labels.items() if pair[0] in known}
    labelled = {request_id for request_id, _ in labels}
    rows = [i for i, request_id in enumerate(table.request_ids) if request_id in labelled]
    partly = {i for i, _ in labels if any((i, rung) not in labels for rung in table.rungs)}
    if partly:
        raise InputError(
            f"{len(partly)} labelled requests lack a label on some rung, such as {min(partly)!r}",
            hint="label every rung's answer to a labelled request",
        )
    quality = [[labels[table.request_ids[i], rung] for rung in table.rungs] for i in rows]
    shape = (len(rows), len(table.rungs))
    return HumanLabels(
        rows=np.array(rows, dtype=np.int64), quality=np.array(quality, np.float64).reshape(shape)
    )


def _compare(trial: Trial, reference: str | None, *, scorer: str) -> Trial:
    if trial.finish is Finish.ABSTAINED:
        return replace(trial, status=TrialStatus.SCORED, quality=0.0, scorer=AGREEMENT)
    if trial.status is TrialStatus.FAILED or trial.answer is None:
        return trial
    quality = agreement(trial.answer, reference, scorer=scorer)
    scored = quality is not None
    return replace(
        trial,
        status=TrialStatus.SCORED if scored else TrialStatus.UNSCORED,
        quality=quality,
        scorer=AGREEMENT,
        error=None if scored else "the reference rung has no answer to agree with",
        retryable=False,
    )


def _target(answer: str, scorer: str) -> str | None:
    """Take from the reference's answer what the others must agree with; None where it has none."""
    if scorer == "choice":
        return chosen_label(answer)
    if scorer == "numeric":
        number = final_number(answer)
        return None if number is None else str(number)
    return tagged_answer(answer) or None
