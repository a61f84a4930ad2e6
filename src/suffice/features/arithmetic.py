"""Arithmetic found in text: a safe evaluator, and the statements `a op b = c` in an answer.

No `eval`: an expression is read by a small recursive-descent parser that knows numbers,
`+ - * / ^`, parentheses, and the words `true false not and or`, and gives up on anything else.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

LONGEST_EXPRESSION = 400  # characters; longer ones are left unread
MOST_STATEMENTS = 500  # equalities of one text that are evaluated
_LARGEST = 1e15

_NUMBER = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+")
_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d+)?|\.\d+)|(\*\*|[-+*/^()]))")
_LOGIC = re.compile(r"\s*(true|false|not|and|or|[()])", re.IGNORECASE)
_CALCULATOR = re.compile(r"<<([^<>]*)>>")
_SIDE_END = re.compile(r"[\d.(+\-][\d.()+\-*/^\s]*$")
_SIDE_START = re.compile(r"\s*[\d.()+\-*/^\s]+")
_CLAUSE = re.compile(r"\n|(?<=[a-z)])[.,;:] ")
_SIGNS = str.maketrans({"×": "*", "÷": "/", "−": "-", "–": "-", "·": "*", "$": " ", "€": " "})  # noqa: RUF001
_REWRITES = tuple(
    (re.compile(pattern), to)
    for pattern, to in (
        (r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))"),
        (r"\\times|\\cdot|\\\*", "*"),
        (r"\\div", "/"),
        (r"\\%", "%"),
        (r"(?<=[\d)])\s*[xX]\s*(?=[\d(.])", "*"),
        (r"(\d),(?=\d{3}(?!\d))", r"\1"),
        (r"(?<!\d)(\d+(?:\.\d+)?)\s*%", r"(\1/100)"),
    )
)


@dataclass(frozen=True, slots=True)
class Statement:
    """One equality found in a text: the left side as written, and the values of both sides."""

    left: str
    value: float
    claimed: float

    @property
    def holds(self) -> bool:
        """Whether the sides agree, up to rounding as people round."""
        return close(self.value, self.claimed)


def close(a: float, b: float) -> bool:
    """Whether two values agree to half a percent, or to a cent."""
    return abs(a - b) <= max(0.011, 0.005 * abs(a))


def numbers(text: str) -> list[float]:
    """Return the numbers written in digits, in order: `1,200.5` is one, signs are left out.

    Numbers beyond 1e15 are left out too: they are identifiers, and no sum of them is exact.
    """
    values = (float(digits.replace(",", "")) for digits in _NUMBER.findall(text))
    return [value for value in values if value <= _LARGEST]


def evaluate(expression: str) -> float | None:
    """Return the value of an arithmetic expression; None if it is none, or has no finite value."""
    if len(expression) > LONGEST_EXPRESSION:
        return None
    try:
        parser = _Parser(_tokens(expression, _TOKEN))
        value = parser.sum()
        parser.finish()
    except (ValueError, ArithmeticError, RecursionError):
        return None
    return value if math.isfinite(value) and abs(value) <= _LARGEST else None


def evaluate_logic(expression: str) -> bool | None:
    """Return the value of an expression of `true false not and or`; None if it is not one."""
    if len(expression) > LONGEST_EXPRESSION:
        return None
    try:
        parser = _LogicParser(_tokens(expression.lower(), _LOGIC))
        value = parser.any()
        parser.finish()
    except (ValueError, RecursionError):
        return None
    return value


def statements(text: str) -> tuple[Statement, ...]:
    """Return the equalities with an operation on the left, in the order in which they are read.

    Those between `<<` and `>>` (calculator marks) come first. Words between numbers are skipped,
    so `4 apples * 5 = 20 apples` is one. At most `MOST_STATEMENTS` are returned.
    """
    marked = _CALCULATOR.findall(text)
    clauses = _CLAUSE.split(_CALCULATOR.sub("", text))
    spoken = (re.sub(r"[A-Za-z\\]+", " ", plain(clause)) for clause in clauses if "=" in clause)
    lines = chain(map(plain, marked), spoken)
    return tuple(islice(chain.from_iterable(map(_equalities, lines)), MOST_STATEMENTS))


def plain(text: str) -> str:
    """Rewrite LaTeX, percent, thousands and other signs into the operators that are evaluated."""
    text = text.translate(_SIGNS)
    for pattern, to in _REWRITES:
        text = pattern.sub(to, text)
    return text


def _equalities(line: str) -> Iterator[Statement]:
    first, *rest = line.split("=")
    match = _SIDE_END.search(first[-LONGEST_EXPRESSION:])
    left = _trim(match.group().lstrip("+*/^). ")) if match else ""
    for part in rest:
        start = _SIDE_START.match(part)
        right = _trim(start.group()) if start else ""
        value, claimed = evaluate(left), evaluate(right)
        if value is not None and claimed is not None and re.search(r"[-+*/^]", left[1:]):
            yield Statement(left, value, claimed)
        left = right


def _trim(side: str) -> str:
    """Cut blanks and full stops, and parentheses that only one side of the cut has."""
    side = side.strip(" .\t")
    if side.count("(") != side.count(")"):
        side = side.strip("() ")
    return side


def _tokens(expression: str, pattern: re.Pattern[str]) -> list[str]:
    expression = expression.strip()
    tokens, at = [], 0
    while at < len(expression):
        match = pattern.match(expression, at)
        if match is None:
            raise ValueError(expression[at:])
        tokens.append(match.group().strip())
        at = match.end()
    return tokens


class _TokenReader:
    """A list of tokens and the place reached in it."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.at = 0

    def take(self, *choices: str) -> str | None:
        """Return the next token and step over it if it is one of `choices`."""
        if self.at < len(self.tokens) and self.tokens[self.at] in choices:
            self.at += 1
            return self.tokens[self.at - 1]
        return None

    def expect(self, token: str) -> None:
        if self.take(token) is None:
            raise ValueError(token)

    def finish(self) -> None:
        if self.at != len(self.tokens):
            raise ValueError(self.tokens[self.at])


class _Parser(_TokenReader):
    def sum(self) -> float:
        value = self.product()
        while sign := self.take("+", "-"):
            other = self.product()
            value = value + other if sign == "+" else value - other
        return value

    def product(self) -> float:
        value = self.factor()
        while sign := self.take("*", "/"):
            other = self.factor()
            value = value * other if sign == "*" else value / other
        return value

    def factor(self) -> float:
        if sign := self.take("-", "+"):
            value = self.factor()
            return -value if sign == "-" else value
        base = self.atom()
        return self.power(base) if self.take("^", "**") else base

    def power(self, base: float) -> float:
        exponent = self.factor()
        if abs(exponent) > 64 or abs(base) > 1e6 or (base < 0 and exponent != int(exponent)):
            raise ValueError("out of range")
        return float(base**exponent)

    def atom(self) -> float:
        if self.take("("):
            value = self.sum()
            self.expect(")")
            return value
        if self.at >= len(self.tokens):
            raise ValueError("nothing left")
        self.at += 1
        return float(self.tokens[self.at - 1])


class _LogicParser(_TokenReader):
    def any(self) -> bool:
        value = self.all()
        while self.take("or"):
            value = self.all() or value
        return value

    def all(self) -> bool:
        value = self.inverse()
        while self.take("and"):
            value = self.inverse() and value
        return value

    def inverse(self) -> bool:
        if self.take("not"):
            return not self.inverse()
        if self.take("("):
            value = self.any()
            self.expect(")")
            return value
        word = self.take("true", "false")
        if word is None:
            raise ValueError("no value")
        return word == "true"
