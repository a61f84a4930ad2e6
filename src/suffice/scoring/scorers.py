"""How a closed question is marked: completion text and target in, a quality in [0, 1] out.

A wrong answer to a closed question is 0, and so is one that cannot be parsed: the question said
what was wanted. Only an answer that nothing could judge (a scorer that raised, returned no number
in [0, 1], or a judge that failed) is unscored: its quality is None, which is not 0.
"""

import importlib
import json
import math
import os
import re
import sys
import unicodedata
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from msgspec import Struct

from suffice.config import nearest
from suffice.errors import InputError, MissingExtra
from suffice.scoring.gym import GYM
from suffice.types import JSON

ScoreFunction = Callable[[str, Any, JSON], float | None]
Check = Callable[[Any, JSON], None]

LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")

_ANSWER = (re.compile(r"<answer>", re.I), re.compile(r"</answer>", re.I))
_FENCE = (re.compile(r"```(?:json)?\s*\n", re.I), re.compile(r"```"))
_NUMBER = re.compile(
    r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+(?:\.\d{1,300})?|\d{1,300}(?:\.\d{1,300})?|\.\d{1,300})"
    r"(?:[eE][-+]?\d{1,3}(?!\d))?(?:/[1-9]\d{0,300})?"
)
_FINAL_NUMBER = re.compile(r"(?:####|\\boxed\{|\banswer(?:\s+is)?\s*:?)([^\n]*)", re.I)


class ScorerVerdict(Struct, frozen=True, kw_only=True):
    """What a scorer said: a quality in [0, 1], or None and the reason why there is none."""

    quality: float | None
    reason: str | None = None


class Form(Struct, frozen=True, kw_only=True):
    """What a scorer takes: the check of its target and options, and the options it knows."""

    check: Check
    options: tuple[str, ...] = ()


class Scorer(Form, frozen=True, kw_only=True):
    """A way to mark answers by a program."""

    score: ScoreFunction


def mark(text: str, *, scorer: str, target: Any, options: JSON) -> ScorerVerdict:
    """Mark one answer; a scorer that raises or leaves [0, 1] gives no quality, with the reason."""
    try:
        quality = find_scorer(scorer).score(text, target, options)
    except Exception as error:  # noqa: BLE001 - user code may raise anything; the paid answer stays
        return ScorerVerdict(quality=None, reason=f"scorer raised {type(error).__name__}: {error}")
    if quality is None:
        return ScorerVerdict(quality=None, reason=f"scorer {scorer!r} gave no quality")
    if not isinstance(quality, bool | int | float) or not 0 <= quality <= 1:
        return ScorerVerdict(
            quality=None, reason=f"scorer gave {quality!r}, not a number in [0, 1]"
        )
    return ScorerVerdict(quality=float(quality))


def check_scorer(name: str, *, target: Any, options: JSON, at: str) -> None:
    """Refuse an unknown scorer, an unknown option or a target that it cannot use: InputError."""
    scorer = JUDGED.get(name) or find_scorer(name, at=at)
    for option in options if scorer.options else ():
        if option not in scorer.options:
            raise InputError(
                f"{at}: scorer {name!r} has no option {option!r}",
                hint=nearest(option, scorer.options),
            )
    try:
        scorer.check(target, options)
    except ValueError as error:
        raise InputError(
            f"{at}: field 'target': {error}", hint=f"or use another scorer than {name!r}"
        ) from error


def find_scorer(name: str, *, at: str = "scorer") -> Scorer:
    """Look up a scorer by name, or import `package.module:function`; raises InputError."""
    if name in SCORERS:
        return SCORERS[name]
    if ":" in name:
        return Scorer(score=load_function(name, at=at), check=lambda _target, _options: None)
    raise InputError(
        f"{at}: unknown scorer {name!r}", hint=nearest(name, (*SCORERS, *JUDGED, "module:function"))
    )


def tagged_answer(text: str) -> str:
    """Return what stands in the last `<answer>` tags, or else the whole text, trimmed."""
    tagged = _last_between(text, *_ANSWER)
    return (text if tagged is None else tagged).strip()


def _last_between(text: str, opening: re.Pattern[str], closing: re.Pattern[str]) -> str | None:
    """Return the last part of a text between two marks, None without one, in linear time."""
    part, at = None, 0
    while (start := opening.search(text, at)) and (end := closing.search(text, start.end())):
        part, at = text[start.end() : end.start()], end.end()
    return part


def exact(text: str, target: Any, options: JSON) -> float:
    """Give 1 when the answer is the target, or one of a list of targets, after tidying blanks."""
    accepted = target if isinstance(target, list) else [target]
    return float(_tidy(tagged_answer(text), options) in {_tidy(str(t), options) for t in accepted})


def choice(text: str, target: Any, options: JSON) -> float:
    """Give 1 when the label that the answer settles on is the target; no clear label is wrong."""
    chosen = chosen_label(text, _labels(options))
    return float(chosen is not None and chosen == str(target).strip().casefold())


def numeric(text: str, target: Any, options: JSON) -> float:
    """Give 1 when the final number is the target, within `abs_tol` and `rel_tol` (both 0)."""
    number, target_number = final_number(text), _number(str(target))
    if number is None or target_number is None:
        return 0.0
    room = max(
        Fraction(options.get("abs_tol", 0)),
        Fraction(options.get("rel_tol", 0)) * abs(target_number),
    )
    return float(abs(number - target_number) <= room)


def regex(text: str, target: Any, options: JSON) -> float:
    """Give 1 when the pattern is found in the text, or is all of it with `full`."""
    flags = re.IGNORECASE if options.get("ignore_case") else re.NOFLAG
    find = re.fullmatch if options.get("full") else re.search
    return float(find(target, text.strip(), flags) is not None)


def json_schema(text: str, target: Any, _options: JSON) -> float:
    """Give 1 when the text, or its last fenced block, is JSON that the schema accepts."""
    fenced = _last_between(text, *_FENCE)
    try:
        value = json.loads(text if fenced is None else fenced)
    except ValueError:
        return 0.0
    return float(_validator(target).is_valid(value))


def verify(text: str, target: Any, options: JSON) -> float:
    """Ask the generator's own verifier of reasoning-gym, which may give partial credit."""
    from suffice.scoring.gym import verify_answer

    return verify_answer(tagged_answer(text), target=target, options=options)


def chosen_label(text: str, labels: tuple[str, ...] = LETTERS) -> str | None:
    r"""Return the label (case-folded) that an answer settles on, or None when it is not clear.

    Looked for in this order: the label alone, `\boxed{B}`, a statement ("the answer is (B)", the
    last one), a leading "B." or "B)", and at last the only label named in brackets or, when labels
    are words, anywhere.
    """
    text = tagged_answer(text)
    alone = text.strip(" \t\n()[]*_.`\"'").casefold()
    if alone in {label.casefold() for label in labels}:
        return alone
    one = "|".join(
        re.escape(x) if len(x) == 1 else f"(?i:{re.escape(x)})" for x in _longest_first(labels)
    )
    for pattern, take in (
        (rf"\\boxed\{{\W*(?:text\W*)?({one})(?!\w)", -1),
        (rf"(?i:answer|choice|option)(?i:\s+is)?\W*(?i:option\W*)?({one})(?!\w)", -1),
        (rf"\A[\s*_]*({one})(?:[).:*]|\s*\n)", 0),
    ):
        if matches := re.findall(pattern, text):
            return str(matches[take]).casefold()
    words = "|".join(f"(?i:{re.escape(x)})" for x in _longest_first(labels) if len(x) > 1)
    named = re.findall(rf"\(({one})\)", text) + (
        re.findall(rf"\b({words})\b", text) if words else []
    )
    distinct = {name.casefold() for name in named}
    return distinct.pop() if len(distinct) == 1 else None


def final_number(text: str) -> Fraction | None:
    r"""Return the number that an answer ends on, exactly, or None when there is none.

    It is the first number after the last `####`, `\boxed{` or "answer is" (after its last `=`),
    and else the last number of the text. Thousands commas and fractions are read; `%` and units
    are not.
    """
    text = tagged_answer(text).replace("\N{MINUS SIGN}", "-")
    marked = _FINAL_NUMBER.findall(text)
    if marked and (match := _NUMBER.search(marked[-1].rpartition("=")[2])):
        return _number(match[0])
    numbers = _NUMBER.findall(text)
    return _number(numbers[-1]) if numbers else None


def _number(text: str) -> Fraction | None:
    """Read one number exactly; None when the text is not one."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        return None
    top, _, bottom = match[0].replace(",", "").partition("/")
    return Fraction(top) / Fraction(bottom or 1)


def _tidy(text: str, options: JSON) -> str:
    text = " ".join(unicodedata.normalize("NFC", text).split())
    text = text.casefold() if options.get("ignore_case") else text
    return text.strip(".,;:!?\"'` ") if options.get("ignore_punctuation") else text


def _labels(options: JSON) -> tuple[str, ...]:
    return tuple(options.get("choices", LETTERS))


def _longest_first(labels: tuple[str, ...]) -> list[str]:
    return sorted(labels, key=len, reverse=True)


def _validator(schema: JSON) -> Any:
    """Build a validator that fetches nothing: a schema may only refer to itself."""
    try:
        from jsonschema import Draft202012Validator, validators
        from referencing import Registry
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "the json_schema scorer needs jsonschema", hint="pip install 'suffice[tasks]'"
        ) from error
    kind = validators.validator_for(schema, default=Draft202012Validator)
    return kind(schema, registry=Registry())


def load_function(name: str, *, at: str, what: str = "scorer") -> Callable[..., Any]:
    """Import `package.module:function`, also from the current folder; raises InputError."""
    module, _, function = name.partition(":")
    if os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path holds strings
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        score = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"{at}: cannot import {what} {name!r}: {error}",
            hint="write package.module:function, importable from this folder",
        ) from error
    if not callable(score):
        raise InputError(f"{at}: {what} {name!r} is not callable", hint="name a function")
    return score  # type: ignore[no-any-return]


def _check_judged(target: Any, options: JSON) -> None:
    if not isinstance(target, str | None) or not isinstance(options.get("rubric", ""), str):
        raise ValueError("a judge takes a model answer and a rubric, as text")  # noqa: TRY004


def _check_exact(target: Any, _options: JSON) -> None:
    accepted = target if isinstance(target, list) and target else [target]
    for value in accepted:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError("exact needs a string, a number, or a list of them")  # noqa: TRY004


def _check_choice(target: Any, options: JSON) -> None:
    labels = {label.casefold() for label in _labels(options)}
    if not isinstance(target, str) or target.strip().casefold() not in labels:
        raise ValueError(f"{target!r} is not one of the choices")


def _check_numeric(target: Any, options: JSON) -> None:
    if isinstance(target, bool) or _number(str(target)) is None:
        raise ValueError(f"{target!r} is not a number")
    for name in ("abs_tol", "rel_tol"):
        room = options.get(name, 0)
        if not isinstance(room, int | float) or not 0 <= room < math.inf:
            raise ValueError(f"option {name!r} must be a number from 0 on")


def _check_regex(target: Any, _options: JSON) -> None:
    try:
        re.compile(target)
    except (re.error, TypeError) as error:
        raise ValueError(f"not a regular expression: {error}") from error


def _check_schema(target: Any, _options: JSON) -> None:
    if not isinstance(target, dict):
        raise ValueError("json_schema needs a JSON schema object")  # noqa: TRY004
    validator = _validator(target)
    from jsonschema import SchemaError

    try:
        validator.check_schema(target)
    except SchemaError as error:
        raise ValueError(f"not a JSON schema: {error.message}") from error


SCORERS = {
    "exact": Scorer(score=exact, check=_check_exact, options=("ignore_case", "ignore_punctuation")),
    "choice": Scorer(score=choice, check=_check_choice, options=("choices",)),
    "numeric": Scorer(score=numeric, check=_check_numeric, options=("abs_tol", "rel_tol")),
    "regex": Scorer(score=regex, check=_check_regex, options=("full", "ignore_case")),
    "json_schema": Scorer(score=json_schema, check=_check_schema),
    GYM: Scorer(score=verify, check=lambda _target, _options: None),
}

# Marked by a model: see judge.py.
JUDGED = {name: Form(check=_check_judged, options=("rubric",)) for name in ("rubric", "pairwise")}
