"""Marking: what counts as right, what as wrong, and what as unscored."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suffice.scoring.scorers import SCORERS, chosen_label, final_number, mark


def quality(text: str, scorer: str, target: Any, **options: Any) -> float | None:
    return mark(text, scorer=scorer, target=target, options=options).quality


@pytest.mark.parametrize(
    ("text", "target", "options", "right"),
    [
        ("Paris", "Paris", {}, True),
        ("  Paris\n", "Paris", {}, True),
        ("the  big\ncat", "the big cat", {}, True),
        ("caf\u0065\u0301", "caf\u00e9", {}, True),
        ("I think <answer>London</answer>, no, <answer> Paris </answer>", "Paris", {}, True),
        ("paris", "Paris", {}, False),
        ("paris", "Paris", {"ignore_case": True}, True),
        ("Paris.", "Paris", {}, False),
        ("Paris.", "Paris", {"ignore_punctuation": True}, True),
        ("Lyon", ["Paris", "Lyon"], {}, True),
        ("18", 18, {}, True),
        ("", "Paris", {}, False),
        ("It is Paris", "Paris", {}, False),
    ],
)
def test_exact(text: str, target: Any, options: dict[str, Any], right: bool) -> None:
    assert quality(text, "exact", target, **options) == float(right)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("B", "b"),
        ("b", "b"),
        ("(B)", "b"),
        ("**B**", "b"),
        ("B. Because of this", "b"),
        ("B) yes", "b"),
        ("B\nBecause", "b"),
        ("The answer is (B).", "b"),
        ("The correct answer is: **B**", "b"),
        ("Answer: B", "b"),
        ("The answer is A, no: the answer is C", "c"),
        (r"Thus \boxed{D}", "d"),
        (r"Thus \boxed{\text{D}}", "d"),
        ("First A is wrong. So I go for (C)", "c"),
        ("B. It cannot be (A)", "b"),
        ("(B) because of this", "b"),
        ("(A) is wrong, so (B)", None),
        ("A dog is an animal", None),
        ("The answer is a dog", None),
        ("I do not know", None),
        ("", None),
    ],
)
def test_the_label_that_an_answer_settles_on(text: str, label: str | None) -> None:
    assert chosen_label(text, tuple("ABCD")) == label


@pytest.mark.parametrize(
    ("text", "target", "expected"),
    [
        ("Yes", "yes", 1.0),
        ("I would say yes, clearly.", "yes", 1.0),
        ("yes or no", "yes", 0.0),
        ("The answer is No", "yes", 0.0),
        ("maybe", "yes", 0.0),
        ("yesterday", "yes", 0.0),
    ],
)
def test_labels_may_be_words(text: str, target: str, expected: float) -> None:
    assert quality(text, "choice", target, choices=["yes", "no"]) == expected


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("18", Fraction(18)),
        ("She makes 9 * 2 = $18 every day.\n#### 18", Fraction(18)),
        ("#### 1,234", Fraction(1234)),
        ("The answer is 18 dollars for 3 days", Fraction(18)),
        ("Answer: 3 + 4 = 7", Fraction(7)),
        ("so it is -2.5", Fraction(-5, 2)),
        ("so it is \N{MINUS SIGN}3", Fraction(-3)),
        ("of 12 apples, 5-3", Fraction(3)),
        ("3/4", Fraction(3, 4)),
        (r"\boxed{42} as 6*7", Fraction(42)),
        ("1e3", Fraction(1000)),
        ("50 %", Fraction(50)),
        ("<answer>7</answer> of 9", Fraction(7)),
        ("none", None),
        ("", None),
        ("v2x", None),
    ],
)
def test_the_number_that_an_answer_ends_on(text: str, number: Fraction | None) -> None:
    assert final_number(text) == number


def test_numeric_is_exact_unless_given_room() -> None:
    assert quality("0.1", "numeric", "1/10") == 1.0
    assert quality("0.333", "numeric", "1/3") == 0.0
    assert quality("0.333", "numeric", "1/3", abs_tol=0.001) == 1.0
    assert quality("101", "numeric", 100, rel_tol=0.01) == 1.0
    assert quality("101.1", "numeric", 100, rel_tol=0.01) == 0.0
    assert quality("no number", "numeric", 100, abs_tol=1e9) == 0.0


@given(st.integers(-(10**12), 10**12))
def test_any_whole_number_is_read_back(number: int) -> None:
    assert final_number(f"so the total is {number:,}.") == number


@pytest.mark.timeout(10)
def test_numbers_made_to_blow_up_do_not() -> None:
    for text in ("1e999999999", "9" * 100_000, "1/" + "9" * 10_000, "1," * 50_000):
        assert quality(text, "numeric", 7) == 0.0


@pytest.mark.parametrize(
    ("text", "options", "right"),
    [
        ("call 555-1234 now", {}, True),
        ("call 555-1234 now", {"full": True}, False),
        ("555-1234", {"full": True}, True),
        ("call five", {}, False),
    ],
)
def test_regex(text: str, options: dict[str, Any], right: bool) -> None:
    assert quality(text, "regex", r"\d{3}-\d{4}", **options) == float(right)


def test_regex_can_ignore_case() -> None:
    assert quality("YES", "regex", "yes") == 0.0
    assert quality("YES", "regex", "yes", ignore_case=True) == 1.0


SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ('{"n": 3}', True),
        ('Here:\n```json\n{"n": 3}\n```', True),
        ('{"n": "3"}', False),
        ('{"n": 3, "m": 1}', False),
        ("{n: 3}", False),
        ("", False),
    ],
)
def test_json_schema(text: str, right: bool) -> None:
    assert quality(text, "json_schema", SCHEMA) == float(right)


def test_a_schema_may_not_reach_out(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("urllib.request.urlopen", lambda *args, **_: asked.append(args))
    schema = {"$ref": "http://example.invalid/x"}
    assert mark("3", scorer="json_schema", target=schema, options={}).quality is None
    assert not asked


@pytest.fixture
def my_scorers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "suffice_test_scorers.py").write_text(
        "def half(text, target, options): return 0.5\n"
        "def right(text, target, options): return text == target\n"
        "def raises(text, target, options): raise KeyError('x')\n"
        "def nothing(text, target, options): return None\n"
        "def nan(text, target, options): return float('nan')\n"
        "def ten(text, target, options): return 10\n"
        "def word(text, target, options): return 'good'\n"
    )
    return "suffice_test_scorers"


def test_a_function_of_the_user_marks(my_scorers: str) -> None:
    assert quality("x", f"{my_scorers}:half", None) == 0.5
    assert quality("x", f"{my_scorers}:right", "x") == 1.0


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("raises", "scorer raised KeyError: 'x'"),
        ("nothing", "gave no quality"),
        ("nan", "not a number in [0, 1]"),
        ("ten", "gave 10, not a number in [0, 1]"),
        ("word", "not a number in [0, 1]"),
    ],
)
def test_what_could_not_be_judged_is_unscored_and_says_why(
    my_scorers: str, function: str, reason: str
) -> None:
    verdict = mark("x", scorer=f"{my_scorers}:{function}", target=None, options={})
    assert verdict.quality is None
    assert reason in (verdict.reason or "")


@given(st.text())
def test_closed_questions_always_get_a_mark(text: str) -> None:
    for scorer, target in (("exact", "a"), ("choice", "A"), ("numeric", 1), ("regex", "a")):
        assert mark(text, scorer=scorer, target=target, options={}).quality in {0.0, 1.0}
    assert SCORERS["json_schema"].score(text, {}, {}) in {0.0, 1.0}
