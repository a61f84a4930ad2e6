"""Trials from files: our own rows, nested rows of other work, and outputs of evaluations.

A flat row is one request on one rung, as `suffice bench` writes it. A nested row is one request
with an object `rungs` of outcomes. Both are JSONL, gzip too; fields that are not known are left
out, since other people's logs hold more than a trial does.
"""

import math
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, cast

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from suffice.errors import InputError, writing
from suffice.trials.eval_outputs import files_of, read_output_lines, read_outputs
from suffice.trials.jsonl import Lines, PathLike, convert_row, decode_object, read_lines
from suffice.trials.pricing import Prices, with_charges
from suffice.trials.table import TrialTable
from suffice.trials.tabulate import tabulate
from suffice.types import (
    Count,
    CountSource,
    Finish,
    Generation,
    Say,
    Trial,
    TrialStatus,
    Usage,
    ZeroCost,
)

Run = tuple[str, str, str | None]

SUSPICIOUS_ZEROS = 0.05  # share of the dollar costs
_FINISH = {
    "max_tokens": Finish.LENGTH,
    "end_turn": Finish.STOP,
    **{finish.value: finish for finish in Finish},
}

_Tokens = Annotated[int, Meta(ge=0)]


class _AnswerRow(Generation, frozen=True, kw_only=True):
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
    check_usd: Decimal | None = None
    check_s: float | None = None
    retryable: bool = False


class _Flat(_AnswerRow, frozen=True, kw_only=True):
    request_id: str | int
    rung: str
    run: str | int | None = None
    cluster: str | int | None = None
    text: str = ""
    group: str | int | None = None


class _Nested(Struct, frozen=True, kw_only=True):
    request_id: str | int
    run: str | int | None = None
    cluster: str | int | None = None
    rungs: dict[str, _AnswerRow]
    text: str = ""
    group: str | int | None = None


_DECODERS = {kind: msgspec.json.Decoder(kind) for kind in (_Flat, _Nested)}


def read_trials(
    *paths: PathLike,
    zero_cost: ZeroCost | None = None,
    prices: Prices = MappingProxyType({}),
    note: Say = lambda _note: None,
) -> tuple[Trial, ...]:
    """Read all trials of some files; a folder stands for the Inspect logs in it.

    Several runs of a request on a rung need a `run` each. A row may replace an earlier one of the
    same request, rung and run only where that one is marked `retryable`, as a resumed bench does;
    one that repeats it exactly is counted once, and `note` is told how many did. `zero_cost` says
    what a cost of exactly 0 dollars means; trials without a cost are charged at `prices`, by the
    name of their rung or its model. Raises InputError with file, line and field, also for
    a row that contradicts another, and for many costs of 0 whose meaning nobody said.
    """
    kept: dict[Run, tuple[Trial, str]] = {}
    repeated = 0
    for path in _files(paths):
        for trial, at in _read_file(path):
            key = (trial.request_id, trial.rung, trial.run)
            earlier, first = kept.get(key, (None, ""))
            if earlier == trial:
                repeated += 1
                continue
            if earlier is not None and not earlier.retryable:
                raise _contradiction(trial, earlier, at=at, first=first)
            kept[key] = (trial, at)
    if repeated:
        note(f"{repeated:,} rows repeat another one exactly and are counted once")
    trials = with_charges((trial for trial, _ in kept.values()), prices)
    return _settle_zero_costs(trials, zero_cost)


def read_table(*paths: PathLike) -> TrialTable:
    """Read files as arrays: `tabulate` of `read_trials`."""
    return tabulate(read_trials(*paths))


def write_trials(path: PathLike, trials: Iterable[Trial]) -> None:
    """Write flat rows, one trial a line; raises InputError when the disk refuses."""
    lines = b"".join(msgspec.json.encode(trial) + b"\n" for trial in trials)
    with writing(path):
        Path(path).write_bytes(lines)


def _files(paths: Iterable[PathLike]) -> Iterator[Path]:
    for path in map(Path, paths):
        if path.is_dir():
            logs = files_of(path) or sorted(
                p for p in path.iterdir() if p.suffix in {".eval", ".json"}
            )
            if not logs:
                raise InputError(
                    f"{path} holds no Inspect log, and no output of another evaluation",
                    hint="name a file of trials; docs/logs.md lists what is read",
                )
            yield from logs
        else:
            yield path


def _read_file(path: Path) -> Iterator[tuple[Trial, str]]:
    lines = read_lines(path) if path.name.endswith((".jsonl", ".jsonl.gz")) else None
    outputs = read_outputs(path) if lines is None else read_output_lines(path, lines)
    if outputs is not None:
        yield from ((trial, str(path)) for trial in outputs)
    elif path.suffix in {".eval", ".json"}:
        from suffice.trials.inspect_logs import read_inspect

        yield from ((trial, str(path)) for trial in read_inspect(path))
    else:
        yield from _read_rows(path, read_lines(path) if lines is None else lines)


def _read_rows(path: Path, lines: Lines) -> Iterator[tuple[Trial, str]]:
    """Read a file of flat or of nested rows; the first line says which."""
    first = decode_object(lines[0][1], at=f"{path}, line {lines[0][0]}")
    kind = _Nested if "rungs" in first else _Flat
    if kind is _Flat and "rung" not in first:
        raise InputError(
            f"{path}, line {lines[0][0]}: neither a field 'rung' nor 'rungs': this is no trial",
            hint="run tasks first, with `suffice bench`, to get trials; docs/logs.md lists the "
            "outputs of other tools that are read",
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
        convert_row(outcome, _AnswerRow, at=f"{at}, rung {rung!r}")
    return convert_row(row, kind, at=at)


def _trial(row: _Flat | _Nested, outcome: _AnswerRow, *, rung: str, at: str) -> Trial:
    quality = _quality(outcome, at=f"{at}, rung {rung!r}")
    status = TrialStatus.UNSCORED if quality is None else TrialStatus.SCORED
    stated = outcome.status or status
    if (quality is None) == (stated is TrialStatus.SCORED):
        raise InputError(
            f"{at}, rung {rung!r}: field 'status' is {stated.value!r}, and the quality {quality}",
            hint="a scored trial has a quality, and no other has one",
        )
    generation = outcome.generation_fields | {
        "answer": _text_or_none(outcome.answer),
        "finish": _FINISH.get(outcome.finish or ""),
        "mean_logprob": _mean_logprob(outcome),
        "usage": _usage(outcome),
    }
    return Trial(
        request_id=str(row.request_id),
        rung=rung,
        status=stated,
        text=row.text,
        group=_text_or_none(row.group),
        run=_text_or_none(row.run),
        cluster=_text_or_none(row.cluster),
        quality=quality,
        scorer=outcome.scorer,
        output_words=outcome.output_words,
        charge_usd=_charge_usd(outcome, at=f"{at}, rung {rung!r}"),
        charge_estimated=outcome.charge_estimated,
        check_usd=outcome.check_usd,
        check_s=outcome.check_s,
        retryable=outcome.retryable,
        **generation,
    )


def _contradiction(trial: Trial, before: Trial, *, at: str, first: str) -> InputError:
    what = f"request_id {trial.request_id!r} on rung {trial.rung!r}"
    if trial.run is not None:
        what += f", run {trial.run!r},"
    if trial.quality != before.quality:
        why = f"has quality {trial.quality}, and {before.quality} in {first}"
    else:
        why = f"repeats {first} with another answer"
    return InputError(
        f"{at}: {what} {why}",
        hint="give each run of a request its own field 'run', or keep one row",
    )


def _settle_zero_costs(trials: tuple[Trial, ...], zero_cost: ZeroCost | None) -> tuple[Trial, ...]:
    """Take costs of 0 dollars for what they mean; a call that generated nothing is free."""
    priced = [t for t in trials if t.charge_usd is not None and not _generated_nothing(t)]
    zeros = sum(trial.charge_usd == 0 for trial in priced)
    if zero_cost is ZeroCost.UNKNOWN:
        return tuple(
            replace(t, charge_usd=None) if t.charge_usd == 0 and not _generated_nothing(t) else t
            for t in trials
        )
    if zero_cost is None and SUSPICIOUS_ZEROS * len(priced) < zeros < len(priced):
        raise InputError(
            f"{zeros:,} of {len(priced):,} costs are exactly 0 dollars: free, or not known?",
            hint="say which: --zero-cost free, or --zero-cost unknown",
        )
    return trials


def _generated_nothing(trial: Trial) -> bool:
    tokens = trial.usage.output_tokens
    return trial.finish is Finish.ABSTAINED or (tokens is not None and tokens.tokens == 0)


def _text_or_none(value: str | float | None) -> str | None:
    return None if value is None else str(value)


def _quality(outcome: _AnswerRow, *, at: str) -> float | None:
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


def _charge_usd(outcome: _AnswerRow, *, at: str) -> Decimal | None:
    for name in ("charge_usd", "cost_usd"):
        usd = getattr(outcome, name)
        if usd is not None:
            if not usd.is_finite() or usd < 0:
                raise InputError(f"{at}: field {name!r} is {usd}", hint="a cost is 0 or more")
            return cast("Decimal", usd)
    return None


def _mean_logprob(outcome: _AnswerRow) -> float | None:
    """Take the mean over tokens; a single `logprob` is taken to be that mean."""
    if outcome.logprobs:
        return math.fsum(outcome.logprobs) / len(outcome.logprobs)
    return outcome.logprob if outcome.mean_logprob is None else outcome.mean_logprob


def _usage(outcome: _AnswerRow) -> Usage:
    if outcome.usage is not None:
        return outcome.usage
    counts: dict[str, Any] = {
        name: Count(tokens, CountSource.REPORTED)
        for name in ("input_tokens", "output_tokens", "reasoning_tokens")
        if (tokens := getattr(outcome, name)) is not None
    }
    return Usage(**counts) if counts else Usage()
