"""Quality per generated token over the checkpoints of a training run.

A history is a file of trials whose rungs are `checkpoint-STEP`, or `RUN/checkpoint-STEP` where one
file holds several runs: `suffice frontier` reads it like any other. A training loop of any
framework adds a checkpoint with `log_checkpoint`; `suffice.bench.checkpoints` does so for the
Trainer of `transformers`.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from suffice.errors import InputError, writing
from suffice.trials.frontier import Frontier, RungPoint
from suffice.trials.resample import Estimate
from suffice.types import Count, CountSource, Trial, TrialStatus, Usage

_CHECKPOINT = re.compile(r"(?:(?P<run>.+)/)?checkpoint-(?P<step>\d+)")


class Checkpoint(Struct, frozen=True, kw_only=True):
    """One checkpoint: `accuracy_per_1000_tokens` is 1000 over `tokens_per_correct`.

    `on_front` says that no other checkpoint, of any run, is at least as accurate with fewer tokens.
    """

    run: str | None
    step: int
    answers: int
    accuracy: Estimate | None
    accuracy_per_1000_tokens: Estimate | None
    tokens_per_correct: Estimate | None
    tokens_per_answer: Estimate | None
    on_front: bool | None


class History(Struct, frozen=True, kw_only=True):
    """The checkpoints by run and step, and what a reader must know."""

    checkpoints: tuple[Checkpoint, ...]
    clusters: int
    notes: tuple[str, ...]


def log_checkpoint(
    path: str | Path,
    *,
    step: int,
    qualities: Sequence[float],
    output_tokens: Sequence[int],
    requests: Sequence[str] | None = None,
    run: str | None = None,
) -> tuple[Trial, ...]:
    """Append the answers of one checkpoint to a history; returns them as trials.

    `qualities` lie in [0, 1]; `output_tokens` count everything generated, reasoning included.
    `requests` names the questions, which are numbered otherwise: the same at every checkpoint.
    """
    names = [str(n) for n in range(len(qualities))] if requests is None else requests
    if not len(names) == len(qualities) == len(output_tokens):
        raise InputError(
            f"step {step}: {len(names)} requests, {len(qualities)} qualities and "
            f"{len(output_tokens)} token counts",
            hint="give one of each for every answer",
        )
    if not all(0 <= quality <= 1 for quality in qualities):
        raise InputError(f"step {step}: a quality outside [0, 1]", hint="scale the marks")
    rung = f"checkpoint-{step}" if run is None else f"{run}/checkpoint-{step}"
    trials = tuple(
        Trial(
            request_id=name,
            rung=rung,
            status=TrialStatus.SCORED,
            text="",
            quality=float(quality),
            usage=Usage(output_tokens=Count(int(tokens), CountSource.COUNTED)),
        )
        for name, quality, tokens in zip(names, qualities, output_tokens, strict=True)
    )
    with writing(path), Path(path).open("ab") as file:
        file.write(b"".join(msgspec.json.encode(trial) + b"\n" for trial in trials))
    return trials


def history(frontier: Frontier) -> History:
    """Read a frontier as the history of a training; raises InputError for other rungs."""
    checkpoints = [_checkpoint(point) for point in frontier.rungs]
    return History(
        checkpoints=tuple(sorted(checkpoints, key=lambda one: (one.run or "", one.step))),
        clusters=frontier.clusters,
        notes=frontier.notes,
    )


def _checkpoint(point: RungPoint) -> Checkpoint:
    name = _CHECKPOINT.fullmatch(point.rung)
    if name is None:
        raise InputError(
            f"{point.rung!r} is no checkpoint",
            hint="a history has rungs checkpoint-STEP or RUN/checkpoint-STEP",
        )
    return Checkpoint(
        run=name["run"],
        step=int(name["step"]),
        answers=point.scored,
        accuracy=point.accuracy,
        accuracy_per_1000_tokens=_per_1000(point.tokens_per_correct),
        tokens_per_correct=point.tokens_per_correct,
        tokens_per_answer=point.tokens_per_answer,
        on_front=point.on_front,
    )


def _per_1000(tokens: Estimate | None) -> Estimate | None:
    """Turn tokens for a right answer around; without bound, because none was right, is 0."""
    if tokens is None:
        return None
    low, high = tokens.interval or (None, None)
    interval = None if tokens.interval is None else (_inverse(high), _inverse(low))
    return Estimate(value=_inverse(tokens.value), interval=interval)


def _inverse(tokens: float | None) -> float | None:
    return 0.0 if tokens is None else None if tokens == 0 else 1000 / tokens
