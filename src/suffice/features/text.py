"""Numbers that describe the text of a request: size, numbers, wording, and its answer options."""

import math
import re
import zlib
from collections import Counter
from dataclasses import dataclass
from itertools import combinations

from suffice.features.arithmetic import numbers

LONGEST_TEXT = 20_000  # characters that are looked at; the rest only counts in the length
_SHORT_BYTES = 3_800  # zlib's window of 4,096 less its longest match and a little more

_OPTION = re.compile(r"(?:^|\n)[ \t]*(?:\(([A-Za-z0-9])\)|([A-Z]|\d{1,2})[.)]|[-*•])[ \t]+(.*)")
_WORD = re.compile(r"[^\W\d_][\w'’-]*")  # noqa: RUF001
_SENTENCE = re.compile(r"[.!?]\s")
_NEGATIONS = frozenset(
    (
        "not", "no", "never", "none", "neither", "nor", "except", "without", "cannot", "false",
        "incorrect", "least", "lies", "untrue",
    )
)  # fmt: skip
_QUESTION_WORDS = ("which", "what", "how", "who", "when", "where", "why", "if")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text read once: its body before any options, lower-case words, and the options."""

    text: str
    body: str
    words: tuple[str, ...]
    labels: tuple[str, ...]
    options: tuple[str, ...]


def read_prompt(text: str) -> Prompt:
    """Split a text into body, words and answer options (`(A) x`, `A. x`, `- x` at line starts)."""
    text = text[:LONGEST_TEXT]
    options = list(_OPTION.finditer(text))
    if len(options) < 2:
        options = []
    body = text[: options[0].start()] if options else text
    return Prompt(
        text=text,
        body=body,
        words=tuple(word.lower() for word in _WORD.findall(body)),
        labels=tuple((m.group(1) or m.group(2) or "").upper() for m in options),
        options=tuple(m.group(3).strip() for m in options),
    )


def text_features(prompt: Prompt) -> dict[str, float]:
    """Describe a prompt; every value is finite, and an empty text gives zeros."""
    return _size(prompt) | _wording(prompt) | _numbers(prompt) | _options(prompt)


def negations(prompt: Prompt) -> int:
    """Count the words that turn a statement round."""
    return sum(word in _NEGATIONS or word.endswith(("n't", "n’t")) for word in prompt.words)  # noqa: RUF001


def _size(prompt: Prompt) -> dict[str, float]:
    text, words = prompt.text, prompt.words
    packed = _packed(text.encode("utf-8", "ignore")) if text else 0
    return {
        "chars": math.log1p(len(text)),
        "lines": math.log1p(text.count("\n")),
        "body_words": math.log1p(len(words)),
        "sentences": math.log1p(len(_SENTENCE.findall(prompt.body))),
        "word_chars": sum(map(len, words)) / max(1, len(words)),
        "longest_word": float(max(map(len, words), default=0)),
        "long_words": sum(len(word) > 8 for word in words) / max(1, len(words)),
        "distinct_words": len(set(words)) / max(1, len(words)),
        "compressed": packed / max(1, len(text)),
    }


def _packed(data: bytes) -> int:
    """Return how many bytes are left when zlib has compressed at level 1.

    What is shorter than the smaller window looks the same in it, and takes a third of the time.
    """
    packer = zlib.compressobj(1, wbits=12 if len(data) < _SHORT_BYTES else 15)
    return len(packer.compress(data)) + len(packer.flush())


def _wording(prompt: Prompt) -> dict[str, float]:
    body, present = prompt.body, Counter(prompt.words)
    capitals = sum(map(str.isupper, body))
    ascii_chars = len(body.encode("ascii", "ignore"))
    marks = {
        "commas": ",", "questions": "?", "brackets": "([{<", "quotes": "\"'“”‘’`",  # noqa: RUF001
        "blanks": "_", "latex": "\\", "symbols": "+*/=^<>|&%$#@~",
    }  # fmt: skip
    return {
        **{name: math.log1p(sum(map(body.count, chars))) for name, chars in marks.items()},
        **{f"word_{word}": float(present[word]) for word in _QUESTION_WORDS},
        "negations": float(negations(prompt)),
        "capitals": capitals / max(1, len(body)),
        "non_ascii": 1 - ascii_chars / max(1, len(body)),
        "starts_upper": float(body.lstrip()[:1].isupper()),
    }


def _numbers(prompt: Prompt) -> dict[str, float]:
    values = numbers(prompt.body)
    return {
        "numbers": math.log1p(len(values)),
        "largest_number": math.log1p(max(values, default=0.0)),
        "decimals": float(sum(value != int(value) for value in values)),
        "odd_sum": sum(values) % 2 if values and sum(values) < 1e15 else 0.0,
    }


def _options(prompt: Prompt) -> dict[str, float]:
    options = prompt.options
    bags = [frozenset(option.lower().split()) for option in options]
    sizes = [len(option.split()) for option in options] or [0]
    mean = sum(sizes) / len(sizes)
    overlaps = [_jaccard(a, b) for a, b in combinations(bags[:12], 2)] or [0.0]
    body = frozenset(prompt.words)
    joined = " ".join(options).lower()
    return {
        "options": float(len(options)),
        "option_words": math.log1p(mean),
        "option_spread": math.sqrt(sum((size - mean) ** 2 for size in sizes) / len(sizes)),
        "option_range": float(max(sizes) - min(sizes)),
        "options_numeric": sum(any(map(str.isdigit, o)) for o in options) / max(1, len(options)),
        "options_alike": sum(overlaps) / len(overlaps),
        "options_alike_most": max(overlaps),
        "options_shared": _shared(bags),
        "options_in_body": sum(len(b & body) / max(1, len(b)) for b in bags) / max(1, len(bags)),
        "options_all": float("all of the" in joined or "both" in joined),
        "options_none": float("none of the" in joined or "neither" in joined),
    }


def _jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / max(1, len(a | b))


def _shared(bags: list[frozenset[str]]) -> float:
    """Return the share of option words that more than one option uses."""
    uses = Counter(word for bag in bags for word in bag)
    return sum(count > 1 for count in uses.values()) / max(1, len(uses))


def signed(passed: bool | None) -> float:  # noqa: FBT001
    """Return +1 for a check that passed, -1 for one that failed, 0 for one that does not apply."""
    return 0.0 if passed is None else 1.0 if passed else -1.0
