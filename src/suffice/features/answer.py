"""Numbers that describe an attempted answer: its form, its arithmetic, and its fit to the prompt.

Checks give +1 where the answer passes, -1 where it fails and 0 where they do not apply, so that a
score learns from trials what passing is worth. None of them knows a right answer.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from suffice.features.arithmetic import (
    Statement,
    close,
    evaluate,
    evaluate_logic,
    numbers,
    plain,
    statements,
)
from suffice.features.text import Prompt, negations, signed
from suffice.features.work import work_features
from suffice.types import Finish, Signals

LONGEST_ANSWER = 20_000  # characters that are looked at
LONGEST_FINAL = 100  # characters of a final answer that are compared
_MOST_NUMBERS = 200  # of a kind that are compared with each other

_MARKER = re.compile(
    r"####\s*(.+)|\\boxed\{([^{}]*)\}|(?:final answer|answer)(?: is|:)\s*(.+)", re.IGNORECASE
)
_LETTER = re.compile(r"^\W*([A-Za-z])(?:\W|$)")
_WORD = re.compile(r"[\w&'’-]+")  # noqa: RUF001
_HEDGES = re.compile(
    r"\b(?:assum\w*|approximately|about|round\w*|however|but|cannot|can't|unclear|unsure|probably|"
    r"might|maybe|perhaps|let|denote|wait|actually|sorry)\b",
    re.IGNORECASE,
)
_UNKNOWN = re.compile(r"\b[a-z]\s*=|\d[a-z]\b")
_QUESTION = re.compile(r"\s*(?:q|question)\s*:\s*", re.IGNORECASE)
_YES = frozenset({"yes", "true", "valid", "correct", "plausible", "right"})
_NO = frozenset({"no", "false", "invalid", "incorrect", "implausible", "wrong"})
_CHOICE = (
    "choice", "choice_position", "choice_length_rank", "choice_in_body", "choice_in_body_rank",
    "choice_mentions", "choice_like_others",
)  # fmt: skip
_BRACKETS = {")": "(", "]": "[", "}": "{", ">": "<"}
_OPENERS = frozenset(_BRACKETS.values())
_COUNTS = {
    word: value
    for value, word in enumerate(
        (
            "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
            "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen",
            "eighteen", "nineteen", "twenty",
        )
    )
} | {"a": 1, "an": 1, "another": 1, "dozen": 12, "pair": 2, "couple": 2}  # fmt: skip
_FACTORS = {
    "half": 0.5, "twice": 2.0, "double": 2.0, "doubles": 2.0, "triple": 3.0, "thrice": 3.0,
    "third": 3.0, "quarter": 4.0, "fourth": 4.0, "fifth": 5.0, "tenth": 10.0, "thirty": 30.0,
    "forty": 40.0, "fifty": 50.0, "sixty": 60.0, "hundred": 100.0, "thousand": 1000.0,
    "week": 7.0, "weeks": 7.0, "year": 12.0, "day": 24.0, "hour": 60.0, "minute": 60.0,
}  # fmt: skip


def final_answer(answer: str) -> str:
    """Return the part of an answer that states its result: what follows a marker, or its last line.

    Lower case, without surrounding punctuation; used to compare answers, so `(B).` is `b`.
    """
    marked = _MARKER.findall(answer[-LONGEST_ANSWER:])
    if marked:
        stated = next(part for part in marked[-1] if part) if any(marked[-1]) else ""
    else:
        stated = next((line for line in reversed(answer.splitlines()) if line.strip()), "")
    return (
        re.sub(r"(?<=\d),(?=\d{3})", "", stated).strip(" \t\r.,;:!?()*$\"'").lower()[:LONGEST_FINAL]
    )


def answer_features(prompt: Prompt, signals: Signals) -> dict[str, float]:
    """Describe one attempt; every value is finite, and 0 where a signal is missing."""
    answer = (signals.answer or "")[:LONGEST_ANSWER]
    final = final_answer(answer)
    steps = statements(answer)
    return (
        _form(prompt, answer)
        | _arithmetic(prompt, answer, final=final, steps=steps)
        | _result(prompt, final)
        | _choice(prompt, final)
        | _checks(prompt, answer, final=final)
        | _engine(signals, final=final)
        | work_features(prompt, signals.reasoning, final=final, value=_number(final))
    )


def _form(prompt: Prompt, answer: str) -> dict[str, float]:
    words, lines = answer.split(), [line for line in answer.splitlines() if line.strip()]
    return {
        "answer_chars": math.log1p(len(answer)),
        "answer_words": math.log1p(len(words)),
        "answer_lines": math.log1p(len(lines)),
        "answer_ratio": math.log((1 + len(answer)) / (1 + len(prompt.text))),
        "answer_blank_end": float(len(answer) - len(answer.rstrip())),
        "answer_stops": float(answer.rstrip()[-1:] in {*".!)]}>"}),
        "answer_marked": float(_MARKER.search(answer) is not None),
        "answer_hedges": math.log1p(len(_HEDGES.findall(answer))),
        "answer_unknowns": math.log1p(len(_UNKNOWN.findall(answer))),
        "answer_repeats": 1 - len(set(lines)) / max(1, len(lines)),
        "answer_distinct": len(set(words)) / max(1, len(words)),
        "answer_questions": float(answer.count("?")),
    }


def _arithmetic(
    prompt: Prompt, answer: str, *, final: str, steps: Sequence[Statement]
) -> dict[str, float]:
    results = [statement.claimed for statement in steps]
    in_prompt, in_answer = (
        numbers(prompt.body)[:_MOST_NUMBERS],
        set(numbers(answer)[:_MOST_NUMBERS]),
    )
    operands = sorted({v for s in steps for v in numbers(s.left)})[:_MOST_NUMBERS]
    known = {*_prompt_numbers(prompt)[:_MOST_NUMBERS], *results[:_MOST_NUMBERS]}
    foreign = sum(not _derived(value, known) for value in operands)
    unused = sum(not any(close(x, y) or close(x / 100, y) for y in in_answer) for x in in_prompt)
    wrong = sum(not statement.holds for statement in steps)
    value = _number(final) or 0.0
    comparable = bool(results) and _number(final) is not None
    return {
        "steps": math.log1p(len(steps)),
        "steps_wrong": float(wrong),
        "steps_wrong_share": wrong / max(1, len(steps)),
        "steps_per_number": len(steps) / max(1, len(in_prompt)),
        "steps_fractional": float(sum(r != int(r) for r in results)),
        "steps_largest": math.log1p(max((abs(r) for r in results), default=0.0)),
        "result_last": signed(close(value, results[-1]) if comparable else None),
        "result_reached": signed(any(close(value, r) for r in results) if comparable else None),
        "operands_foreign": float(foreign),
        "operands_foreign_share": foreign / max(1, len(operands)),
        "numbers_unused": float(unused),
        "numbers_unused_share": unused / max(1, len(in_prompt)),
        "numbers_said": math.log1p(len(in_answer)),
    }


def _result(prompt: Prompt, final: str) -> dict[str, float]:
    value = _number(final)
    if value is None:
        return dict.fromkeys(("number", "whole", "magnitude", "given", "counted", "tallied"), 0.0)
    counts = _counts(prompt)
    return {
        "number": 1.0,
        "whole": 1.0 if value == int(value) else -1.0,
        "magnitude": math.copysign(math.log1p(abs(value)), value),
        "given": signed(value in numbers(prompt.body)),
        "counted": signed(value == sum(counts) if counts else None),
        "tallied": signed(value == len(counts) if counts else None),
    }


def _choice(prompt: Prompt, final: str) -> dict[str, float]:
    at = _chosen(prompt, final)
    if at is None:
        return dict.fromkeys(_CHOICE, 0.0)
    options, body = prompt.options, prompt.body.lower()
    bags = [frozenset(option.lower().split()) for option in options]
    words = frozenset(prompt.words)
    inside = [len(bag & words) / max(1, len(bag)) for bag in bags]
    others = frozenset[str]().union(*(bag for i, bag in enumerate(bags) if i != at))
    values = (
        1.0,
        (at + 1) / len(options),
        _rank([float(len(option)) for option in options], at),
        inside[at],
        _rank(inside, at),
        float(body.count(options[at].lower().strip(" ."))) if options[at] else 0.0,
        len(bags[at] & others) / max(1, len(bags[at])),
    )
    return dict(zip(_CHOICE, values, strict=True))


def _checks(prompt: Prompt, answer: str, *, final: str) -> dict[str, float]:
    polarity = float((final in _YES) - (final in _NO))
    odd = negations(prompt) % 2
    words = [word.lower() for word in _WORD.findall(answer)]
    text, first = prompt.text.lower(), words[:50]
    return {
        "polarity": polarity,
        "polarity_parity": polarity * (1 - 2 * odd),
        "value_agrees": _value_agrees(prompt, final),
        "brackets_close": _brackets_close(prompt, answer),
        "words_sorted": signed(words == sorted(words) if len(words) > 2 else None),
        "words_rearranged": _rearranged(prompt, words),
        "words_in_prompt": sum(word in text for word in first) / max(1, len(first)),
    }


def _engine(signals: Signals, *, final: str) -> dict[str, float]:
    votes = [final_answer(sample) for sample in signals.samples]
    return {
        "cut_off": float(signals.finish is Finish.LENGTH),
        "logprob": signals.mean_logprob or 0.0,
        "agreement": sum(vote == final for vote in votes) / max(1, len(votes)),
        "distinct_samples": len({*votes, final}) / max(1, len(votes)),
    }


def _number(final: str) -> float | None:
    """Read a final answer that is one number, with or without sign, unit or percent."""
    values = numbers(final)
    if len(values) != 1:
        return evaluate(plain(final)) if values else None
    return -values[0] if re.search(r"-\s*\$?\s*[\d.]", final) else values[0]


def _prompt_numbers(prompt: Prompt) -> list[float]:
    words = [*map(_COUNTS.get, prompt.words), *map(_FACTORS.get, prompt.words)]
    return numbers(prompt.text) + [float(value) for value in words if value is not None]


def _derived(value: float, known: Iterable[float]) -> bool:
    """Whether a number is given or made from one that is, also as a percentage of it."""
    return any(
        close(value, x) or close(value, x / 100) or close(value, 1 + x / 100)
        or close(value, 1 - x / 100) or close(value, 100 - x)
        for x in known
    )  # fmt: skip


def _counts(prompt: Prompt) -> list[float]:
    """Return the counts that the first sentence lists: `two cups, a spoon` is 2 and 1."""
    first = re.split(r"[.?!]\s", _unframed(prompt.body), maxsplit=1)[0]
    words = (word.lower() for word in re.findall(r"[\w-]+", first))
    counts = (float(w) if w.isdecimal() and len(w) < 10 else _COUNTS.get(w) for w in words)
    return [float(count) for count in counts if count is not None]


def _chosen(prompt: Prompt, final: str) -> int | None:
    """Return which option an answer names, by its text or by its label."""
    lowered = [option.lower().strip(" .") for option in prompt.options]
    if final in lowered:
        return lowered.index(final)
    label = _LETTER.match(final)
    if label and label.group(1).upper() in prompt.labels:
        return prompt.labels.index(label.group(1).upper())
    return None


def _rank(values: Sequence[float], at: int) -> float:
    """Return where one value stands among the others: 0 lowest, 1 highest, ties in the middle."""
    below = sum(value < values[at] for value in values)
    same = sum(value == values[at] for value in values) - 1
    return (below + same / 2) / max(1, len(values) - 1)


def _unframed(text: str) -> str:
    """Cut `Q:` or `question:` from the front of a text, and `A:` or `answer:` from its end."""
    question = _QUESTION.match(text)
    text = text[question.end() :] if question else text
    end = text.rstrip()
    if not end.endswith(":"):
        return text
    before = end[:-1].rstrip()
    lowered = before[-6:].lower()
    if lowered.endswith("answer"):
        return before[:-6].rstrip()
    return before[:-1].rstrip() if lowered.endswith("a") else text


def _expression(text: str) -> str:
    """Cut a question mark, and `=`, `is` or `equals` before it, from the end of a text."""
    text = text.rstrip().removesuffix("?").rstrip()
    for word in ("=", "is", "equals"):
        cut = text.removesuffix(word)
        starts_word = not (cut[-1:].isalnum() or cut.endswith("_"))
        if cut != text and (word == "=" or starts_word):
            return cut.rstrip()
    return text


def _value_agrees(prompt: Prompt, final: str) -> float:
    """Evaluate a prompt that is itself an expression, and compare."""
    expression = _expression(_unframed(prompt.body))
    truth = evaluate_logic(expression)
    if truth is not None:
        return signed(final == str(truth).lower())
    value = evaluate(plain(expression))
    if value is None or not re.search(r"\d\D+\d", expression):
        return 0.0
    answer_value = _number(final)
    return signed(answer_value is not None and close(value, answer_value))


def _brackets_close(prompt: Prompt, answer: str) -> float:
    """Check that an answer made of brackets alone closes those that the prompt leaves open."""
    marks = answer.replace(" ", "").strip(".\n")
    if not marks or not set(marks) <= {*_BRACKETS, *_OPENERS}:
        return 0.0
    return signed(_balanced(_unframed(prompt.body) + marks))


def _balanced(text: str) -> bool:
    opened: list[str] = []
    for sign in text:
        if sign in _OPENERS:
            opened.append(sign)
        elif sign in _BRACKETS and (not opened or opened.pop() != _BRACKETS[sign]):
            return False
    return not opened


def _rearranged(prompt: Prompt, words: list[str]) -> float:
    """Check that an answer of several words uses exactly the last words of the prompt."""
    prompt_words = [word.lower() for word in _WORD.findall(_unframed(prompt.body))]
    if len(words) < 3 or len(prompt_words) < len(words):
        return 0.0
    return signed(Counter(words) == Counter(prompt_words[-len(words) :]))
