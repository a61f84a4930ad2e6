"""A stranger's text costs time in proportion to its length, whatever it holds."""

import ast
from pathlib import Path
from re import _constants as ops  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from time import process_time
from typing import Any

import pytest

from suffice.features.answer import answer_features
from suffice.features.text import read_prompt, text_features
from suffice.types import Signals

SOURCE = Path(__file__).parents[2] / "src" / "suffice"
LENGTH = 16_000
LIMIT_S = 1.0  # a quadratic pattern takes 10 s and more here, a linear one some hundredths
UNITS = (
    " ", "\n", "\t", "1", "1,", "1,111", "1.", "(", "{",
    "\\frac{", "\\frac{1}", "<<", "<<1", "a", "a ",
    "- ", "(A) ", "A) ", "\nA) x", "%", "1%", "1x", "1 x ", "=", "1=", "1+1=", "?", "is ", " is",
    "equals ", "q:", "a:", "a: ", "answer:", "answer is ", "#### ", "\\boxed{", "_", "“", "“a",
    "not ",
    "not(", "--", "*", "2**", ".", ", ", "assum", "wait ", "٣", "²",
)  # fmt: skip


def read_all(text: str) -> None:
    prompt = read_prompt(text)
    text_features(prompt)
    answer_features(prompt, Signals(answer=text, reasoning=text, samples=(text,)))


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("around", [("", ""), ("x", "y"), ("1", "=1")])
def test_features_take_time_in_proportion(unit: str, around: tuple[str, str]) -> None:
    text = around[0] + unit * (LENGTH // len(unit)) + around[1]
    before = process_time()
    read_all(text)
    assert process_time() - before < LIMIT_S


def patterns() -> list[tuple[str, str]]:
    """Find every regular expression that the product writes down as one string."""
    return [
        (f"{path.relative_to(SOURCE)}:{call.lineno}", call.args[0].value)
        for path in sorted(SOURCE.rglob("*.py"))
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "re"
        and call.args
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, str)
    ]


def nests_repeats(tree: Any, *, inside: bool = False) -> bool:
    """Say whether an unbounded repeat holds another one that could give back what it took."""
    for op, value in tree:
        if op in (ops.MAX_REPEAT, ops.MIN_REPEAT):
            unbounded = value[1] == ops.MAXREPEAT
            if (unbounded and inside) or nests_repeats(value[2], inside=inside or unbounded):
                return True
        parts = {
            ops.SUBPATTERN: lambda v: [v[3]],
            ops.BRANCH: lambda v: v[1],
            ops.ASSERT: lambda v: [v[1]],
            ops.ASSERT_NOT: lambda v: [v[1]],
        }.get(op, lambda _v: [])(value)
        if any(nests_repeats(part, inside=inside) for part in parts):
            return True
    return False


def test_no_pattern_nests_repeats() -> None:
    assert nests_repeats(parser.parse(r"(?:a+)+b"))
    assert not nests_repeats(parser.parse(r"(?:a++)+b"))
    found = patterns()
    assert len(found) > 20
    assert [place for place, text in found if nests_repeats(parser.parse(text))] == []
