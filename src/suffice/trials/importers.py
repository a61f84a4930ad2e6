"""Trials from files: our own rows, nested rows of other work, and Inspect logs.

A flat row is one request on one rung, as `suffice bench` writes it. A nested row is one request
with an object `rungs` of outcomes. Both are JSONL, gzip too; fields that are not known are left
out, since other people's logs hold more than a trial does.
"""

import math
from collections.abc import Collection, Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import msgspec
import numpy as np
from msgspec import Meta, Struct

from suffice.errors import InputError, writing
from suffice.trials.jsonl import PathLike, convert_row, decode_object, read_lines
from suffice.trials.table import CostUnit, Floats, TrialTable
from suffice.types import Count, CountSource, Finish, Generation, Trial, TrialStatus, Usage

Pair = tuple[str, str]
T = TypeVar("T")

_LISTED = 3
_FINISH = {
    "max_tokens": Finish.LENGTH,
    "end_turn": Finish.STOP,
    **{finish.value: finish for finish in Finish},
}

_Tokens = Annotated[int, Meta(ge=0)]


class _Outcome(Generation, frozen=True, kw_only=True):
    """What a log may say of one answer, more loosely than a generation does.

    The first given of `quality`, `score`, `correct` counts.
    """

    quality: float | None = None
    score: float | None = None
    correct: bool | float | None = None
    status: TrialStatus | None = None
    scorer: str | None = None
    answer: str | int | float | None = None  # type: ignore[assignment]
    finish: str | None = None  # type: ignore[assignment]
    logprob: float | None = None
    logprobs: tuple[float, ...] | None = None
    usage: Usage | None = None  # type: ignore[assignment]
    input_tokens: _Tokens | None = None
    output_tokens: _Tokens | None = None
    reasoning_tokens: _Tokens | None = None
    output_words: _Tokens | None = None
    charge_usd: Decimal | None = None
    cost_usd: Decimal | None = None
    charge_estimated: bool = False
    retryable: bool = False


class _Flat(_Outcome, frozen=True, kw_only=True):
    request_id: str | int
    rung: str
    text: str = ""
    group: str | int | None = None


class _Nested(Struct, frozen=True, kw_only=True):
    request_id: str | int
    rungs: dict[str, _Outcome]
    text: str = ""
    group: str | int | None = None


_DECODERS = {kind: msgspec.json.Decoder(kind) for kind in (_Flat, _Nested)}


def read_trials(*paths: PathLike) -> tuple[Trial, ...]:
    """Read all trials of some files; a folder stands for the Inspect logs in it.

    A row may replace an earlier one of the same request and rung only where that one is marked
    `retryable`, as a resumed bench does. Raises InputError with file, line and field.
    """
    found: dict[Pair, tuple[Trial, str]] = {}
    for path in _files(paths):
        for trial, at in _read_file(path):
            pair = (trial.request_id, trial.rung)
            if pair in found and not found[pair][0].retryable:
                raise InputError(
                    f"{at}: request_id {pair[0]!r} on rung {pair[1]!r} repeats {found[pair][1]}",
                    hint="keep one row for each request and rung",
                )
            found[pair] = (trial, at)
    return tuple(trial for trial, _ in found.values())


def read_table(*paths: PathLike) -> TrialTable:
    """Read files as arrays: `tabulate` of `read_trials`."""
    return tabulate(read_trials(*paths))


def write_trials(path: PathLike, trials: Iterable[Trial]) -> None:
    """Write flat rows, one trial a line; raises InputError when the disk refuses."""
    lines = b"".join(msgspec.json.encode(trial) + b"\n" for trial in trials)
    with writing(path):
        Path(path).write_bytes(lines)


def tabulate(trials: Iterable[Trial]) -> TrialTable:
    """Turn trials into arrays, requests and rungs in the order in which they first come.

    Costs are dollars if every answered trial has them, else output tokens, else output words, else
    none; with dollars the rungs are put in order of their mean. Raises InputError when a rung is
    missing for some requests, or when one request id has two texts.
    """
    by_pair = {(trial.request_id, trial.rung): trial for trial in trials}
    ids = tuple(dict.fromkeys(request_id for request_id, _ in by_pair))
    rungs = tuple(dict.fromkeys(rung for _, rung in by_pair))
    _refuse_missing(by_pair, ids=ids, rungs=rungs)
    texts = _one_each({(t.request_id, t.text) for t in by_pair.values() if t.text}, "texts")
    groups = _one_each({(t.request_id, t.group) for t in by_pair.values() if t.group}, "groups")
    unit = cost_unit(by_pair.values())
    if unit is CostUnit.USD:
        rungs = _cheapest_first(by_pair, ids=ids, rungs=rungs)
    rows = [[by_pair[request_id, rung] for rung in rungs] for request_id in ids]
    return TrialTable(
        request_ids=ids,
        texts=tuple(texts.get(i, "") for i in ids),
        groups=tuple(groups.get(i) for i in ids),
        rungs=rungs,
        quality=_array([[_or_nan(trial.quality) for trial in row] for row in rows]),
        signals=tuple(tuple(trial.signals for trial in row) for row in rows),
        cost=_array([[_or_nan(cost_of(trial, unit)) for trial in row] for row in rows]),
        cost_unit=unit,
    )


def cost_unit(trials: Iterable[Trial]) -> CostUnit | None:
    """Return the best unit that every trial with an answer has a cost in; units never mix."""
    answered = [trial for trial in trials if trial.status is not TrialStatus.FAILED]
    for unit in CostUnit:
        if answered and all(cost_of(trial, unit) is not None for trial in answered):
            return unit
    return None


def cost_of(trial: Trial, unit: CostUnit | None) -> float | None:
    """Return what a trial cost in one unit, None where that is not known."""
    if unit is CostUnit.USD:
        return None if trial.charge_usd is None else float(trial.charge_usd)
    if unit is CostUnit.OUTPUT_TOKENS:
        return None if trial.usage.output_tokens is None else trial.usage.output_tokens.tokens
    return None if unit is None else trial.output_words


def _files(paths: Iterable[PathLike]) -> Iterator[Path]:
    for path in map(Path, paths):
        if path.is_dir():
            logs = sorted(p for p in path.iterdir() if p.suffix in {".eval", ".json"})
            if not logs:
                raise InputError(f"{path} holds no Inspect log", hint="name a file of trials")
            yield from logs
        else:
            yield path


def _read_file(path: Path) -> Iterator[tuple[Trial, str]]:
    if path.suffix in {".eval", ".json"}:
        from suffice.trials.inspect_logs import read_inspect

        yield from ((trial, str(path)) for trial in read_inspect(path))
    else:
        yield from _read_rows(path)


def _read_rows(path: Path) -> Iterator[tuple[Trial, str]]:
    """Read a file of flat or of nested rows; the first line says which."""
    lines = read_lines(path)
    first = decode_object(lines[0][1], at=f"{path}, line {lines[0][0]}")
    kind = _Nested if "rungs" in first else _Flat
    if kind is _Flat and "rung" not in first:
        raise InputError(
            f"{path}, line {lines[0][0]}: neither a field 'rung' nor 'rungs': this is no trial",
            hint="run tasks first, with `suffice bench`, to get trials",
        )
    for number, line in lines:
        at = f"{path}, line {number}"
        try:
            row: Any = _DECODERS[kind].decode(line)
        except msgspec.DecodeError:
            row = _decode_slowly(line, kind, at=at)
        if kind is _Nested and not row.rungs:
            raise InputError(f"{at}: field 'rungs' is empty", hint="name each rung's outcome")
        for rung, outcome in row.rungs.items() if kind is _Nested else [(row.rung, row)]:
            yield _trial(row, outcome, rung=rung, at=at), at


def _decode_slowly(line: bytes, kind: type[_Flat | _Nested], *, at: str) -> Any:
    """Decode a line that failed, step by step, so that the complaint names rung and field."""
    row = decode_object(line, at=at)
    if ("rungs" in row) != (kind is _Nested):
        raise InputError(
            f"{at}: a flat and a nested row in one file", hint="keep the two kinds in two files"
        )
    outcomes = row.get("rungs")
    for rung, outcome in outcomes.items() if isinstance(outcomes, dict) else ():
        convert_row(outcome, _Outcome, at=f"{at}, rung {rung!r}")
    return convert_row(row, kind, at=at)


def _trial(row: _Flat | _Nested, outcome: _Outcome, *, rung: str, at: str) -> Trial:
    quality = _quality(outcome, at=f"{at}, rung {rung!r}")
    status = TrialStatus.UNSCORED if quality is None else TrialStatus.SCORED
    given = outcome.status or status
    if (quality is None) == (given is TrialStatus.SCORED):
        raise InputError(
            f"{at}, rung {rung!r}: field 'status' is {given.value!r}, and the quality {quality}",
            hint="a scored trial has a quality, and no other has one",
        )
    generation = outcome.generation_fields | {
        "answer": None if outcome.answer is None else str(outcome.answer),
        "finish": _FINISH.get(outcome.finish or ""),
        "mean_logprob": _mean_logprob(outcome),
        "usage": _usage(outcome),
    }
    return Trial(
        request_id=str(row.request_id),
        rung=rung,
        status=given,
        text=row.text,
        group=None if row.group is None else str(row.group),
        quality=quality,
        scorer=outcome.scorer,
        output_words=outcome.output_words,
        charge_usd=_charge_usd(outcome, at=f"{at}, rung {rung!r}"),
        charge_estimated=outcome.charge_estimated,
        retryable=outcome.retryable,
        **generation,
    )


def _quality(outcome: _Outcome, *, at: str) -> float | None:
    for name in ("quality", "score", "correct"):
        value = getattr(outcome, name)
        if value is not None:
            if not 0 <= value <= 1:
                raise InputError(
                    f"{at}: field {name!r} is {value}, outside [0, 1]",
                    hint="scale the score to [0, 1]",
                )
            return float(value)
    return None


def _charge_usd(outcome: _Outcome, *, at: str) -> Decimal | None:
    for name in ("charge_usd", "cost_usd"):
        usd = getattr(outcome, name)
        if usd is not None:
            if not usd.is_finite() or usd < 0:
                raise InputError(f"{at}: field {name!r} is {usd}", hint="a cost is 0 or more")
            return cast("Decimal", usd)
    return None


def _mean_logprob(outcome: _Outcome) -> float | None:
    """Take the mean over tokens; a single `logprob` is taken to be that mean."""
    if outcome.logprobs:
        return math.fsum(outcome.logprobs) / len(outcome.logprobs)
    return outcome.logprob if outcome.mean_logprob is None else outcome.mean_logprob


def _usage(outcome: _Outcome) -> Usage:
    if outcome.usage is not None:
        return outcome.usage
    counts: dict[str, Any] = {
        name: Count(tokens, CountSource.REPORTED)
        for name in ("input_tokens", "output_tokens", "reasoning_tokens")
        if (tokens := getattr(outcome, name)) is not None
    }
    return Usage(**counts) if counts else Usage()


def _refuse_missing(
    by_pair: dict[Pair, Trial], *, ids: tuple[str, ...], rungs: tuple[str, ...]
) -> None:
    for rung in rungs if len(by_pair) < len(ids) * len(rungs) else ():
        missing = [request_id for request_id in ids if (request_id, rung) not in by_pair]
        if missing:
            shown = ", ".join(map(repr, missing[:_LISTED])) + (", ..." * (len(missing) > _LISTED))
            raise InputError(
                f"rung {rung!r} is missing for {len(missing)} of {len(ids)} requests: {shown}",
                hint="run those too, or take the requests out: rungs are compared on the same ones",
            )


def _one_each(found: Collection[tuple[str, T]], what: str) -> dict[str, T]:
    """Index by request; raises InputError when a request has two of something."""
    one = dict(found)
    if len(one) < len(found):
        twice = next(request_id for request_id, value in found if one[request_id] != value)
        raise InputError(
            f"request {twice!r} has two {what}",
            hint="an id stands for one request: give those of different tasks different ids",
        )
    return one


def _cheapest_first(
    by_pair: dict[Pair, Trial], *, ids: tuple[str, ...], rungs: tuple[str, ...]
) -> tuple[str, ...]:
    def mean_usd(rung: str) -> float:
        known = [c for i in ids if (c := cost_of(by_pair[i, rung], CostUnit.USD)) is not None]
        return math.fsum(known) / len(known) if known else math.inf

    return tuple(sorted(rungs, key=mean_usd))


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _array(rows: list[list[float]]) -> Floats:
    return np.array(rows, dtype=np.float64)
