import math
import random
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suffice.features.answer import answer_features, final_answer
from suffice.features.arithmetic import evaluate, evaluate_logic, numbers, statements
from suffice.features.text import read_prompt, text_features
from suffice.types import Finish, Signals

CHOICES = "Which is red?\n(A) grass\n(B) a ripe tomato\n(C) the sky\nA:"


def described(text: str, answer: str | None, **signals: object) -> dict[str, float]:
    return answer_features(read_prompt(text), Signals(answer=answer, **signals))  # type: ignore[arg-type]


# -- arithmetic -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("2 - -5 - 4", 3),
        ("-2 ^ 2", -4),
        ("2 ** 3 ** 2", 512),
        ("8 / 4 / 2", 1),
        ("-(3 - 5) * .5", 1),
    ],
)
def test_expressions_have_the_value_that_arithmetic_gives(expression: str, value: float) -> None:
    assert evaluate(expression) == value


@pytest.mark.parametrize(
    "expression",
    ["", "1 +", "(1", "1)", "1 / 0", "2 ^ 999", "abc", "1 2", "__import__('os')", "9" * 900,
     "(" * 300 + "1" + ")" * 300, "10 ^ 60"],
)  # fmt: skip
def test_what_is_no_finite_expression_has_no_value(expression: str) -> None:
    assert evaluate(expression) is None


def test_random_expressions_agree_with_python() -> None:
    draw = random.Random(0)

    def build(depth: int) -> str:
        if depth == 0:
            return str(draw.randint(1, 9))
        return f"({build(depth - 1)} {draw.choice('+-*/')} {build(depth - 1)})"

    for _ in range(200):
        expression = build(draw.randint(1, 4))
        try:
            expected = eval(expression)
        except ZeroDivisionError:
            expected = None
        found = evaluate(expression)
        assert found == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("not True and True", False),
        ("not ( True and False ) or False", True),
        ("false or not not true", True),
        ("True or", None),
        ("maybe", None),
        ("", None),
    ],
)
def test_logic_binds_not_before_and_before_or(expression: str, value: bool | None) -> None:
    assert evaluate_logic(expression) is value


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("so 4 * 5 = 20 glasses", [True]),
        ("<<4*5=20>>", [True]),
        ("38 x 216 = 8,128", [False]),
        ("She has 4 apples * 5 = 21 apples.", [False]),
        ("$400,000 × 60% = $240,000", [True]),  # noqa: RUF001
        (r"\frac{9}{3} = 3", [True]),
        ("2 + 2 = 4 and then\n4 - 1 = 2", [True, False]),
        ("1 + 1 = 2 = 3 - 1", [True]),
        ("10 / 3 = 3.33", [True]),
        ("x = 5", []),
        ("no sums here", []),
    ],
)
def test_statements_are_found_and_checked(text: str, holds: list[bool]) -> None:
    assert [statement.holds for statement in statements(text)] == holds


def test_numbers_read_thousands_and_leave_out_what_is_too_long_to_be_one() -> None:
    assert numbers("1,200.5 and .5, then 3") == [1200.5, 0.5, 3.0]
    assert numbers("9" * 400) == []


# -- prompts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        CHOICES,
        "Q\nA. grass\nB. tomato\nC. sky",
        "Q\n- grass\n- tomato\n- sky",
        "Q\n1) a\n2) b\n3) c",
    ],
)
def test_options_are_read_in_the_usual_forms(text: str) -> None:
    assert text_features(read_prompt(text))["options"] == 3.0


def test_one_line_with_a_dash_is_no_list_of_options() -> None:
    assert read_prompt("Hello\n- and bye").options == ()


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=300), st.none() | st.text(max_size=300))
def test_any_text_gives_the_same_finite_numbers(text: str, answer: str | None) -> None:
    prompt = read_prompt(text)
    values = text_features(prompt) | answer_features(prompt, Signals(answer=answer))
    plain = text_features(read_prompt(CHOICES)) | described(CHOICES, "(B)")
    assert list(values) == list(plain)
    assert all(math.isfinite(value) for value in values.values())


@pytest.mark.timeout(60)  # a reading that is not linear hangs
@pytest.mark.parametrize(
    "unit", ["1+", "(", "9 ", "((1)=", "a=1 ", "1,000 ", "\n(A) x", "not ", "<<1+1=2>>", "= ", "["]
)
def test_long_odd_texts_do_not_hang(unit: str) -> None:
    assert all(map(math.isfinite, described(unit * 40_000, unit * 40_000).values()))


# -- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "final"),
    [
        ("(B).", "b"),
        ("Work.\n#### 1,234\n", "1234"),
        ("Thus the final answer is: Paris.", "paris"),
        (r"so \boxed{42}", "42"),
        ("first line\nlast line", "last line"),
        ("", ""),
    ],
)
def test_the_final_answer_is_what_the_answer_states(answer: str, final: str) -> None:
    assert final_answer(answer) == final


@pytest.mark.parametrize(
    ("check", "text", "right", "wrong"),
    [
        ("value_agrees", "Q: (1 + 2) * 3 =\nA:", "9", "8"),
        ("value_agrees", "Q: not True or True is\nA:", "True", "False"),
        ("brackets_close", "Q: Close the brackets. Input: { < (\nA:", ") > }", "> ) }"),
        ("words_sorted", "Sort: pear fig apple", "apple fig pear", "fig apple pear"),
        ("words_rearranged", "Sort: pear fig apple", "apple fig pear", "apple fig plum"),
        ("counted", "I have two cups, a fork and three spoons. How many?", "6", "7"),
        ("tallied", "I have two cups, a fork and three spoons. How many?", "3", "7"),
        ("result_last", "6 apples, 4 pears", "6 + 4 = 10\n#### 10", "6 + 4 = 10\n#### 12"),
        ("whole", "6 apples", "6", "6.5"),
    ],
)
def test_checks_pass_fail_and_stand_aside(check: str, text: str, right: str, wrong: str) -> None:
    assert described(text, right)[check] == 1.0
    assert described(text, wrong)[check] == -1.0
    assert described("Tell me a story.", "Never mind")[check] == 0.0


def test_wrong_steps_are_counted() -> None:
    values = described("6 apples at 4 dollars", "6 * 4 = 25\n25 - 5 = 20\n#### 20")
    assert (values["steps_wrong"], values["steps_wrong_share"]) == (1.0, 0.5)


def test_numbers_left_unused_and_numbers_from_nowhere_are_counted() -> None:
    values = described("6 apples at 4 dollars, 9 pears", "6 * 4 = 24\n24 + 77 = 101\n#### 101")
    assert (values["numbers_unused"], values["operands_foreign"]) == (1.0, 1.0)


@pytest.mark.parametrize("answer", ["(B)", "b", "A ripe tomato."])
def test_a_choice_is_recognised_by_label_or_text(answer: str) -> None:
    values = described(CHOICES, answer)
    assert (values["choice"], values["choice_position"]) == (1.0, pytest.approx(2 / 3))


def test_polarity_is_set_against_the_negations_of_the_prompt() -> None:
    assert described("Is it not so?", "No")["polarity_parity"] == 1.0
    assert described("Is it so?", "No")["polarity_parity"] == -1.0


def test_engine_signals_are_passed_on() -> None:
    values = described(
        "2 + 2?", "4", finish=Finish.LENGTH, mean_logprob=-0.7, samples=("4", "5", "4", "4")
    )
    assert values["cut_off"] == 1.0
    assert values["logprob"] == -0.7
    assert values["agreement"] == 0.75
    assert values["distinct_samples"] == 0.5


def worked(text: str, answer: str, reasoning: str | None) -> dict[str, float]:
    found = described(text, answer, reasoning=reasoning)
    return {name.removeprefix("work_"): found[name] for name in found if name.startswith("work_")}


def test_without_reasoning_the_work_says_nothing() -> None:
    for nothing in (None, "", "  \n"):
        values = worked('How many "o" are in "solo 12"?', "2", nothing)
        assert set(values.values()) == {0.0}


def test_a_wrong_step_of_the_reasoning_is_found() -> None:
    right = worked("15 - 64 + 94 =", "45", "15-64=-49\n-49+94=45\n")
    assert (right["wrong"], right["result"], right["unused_share"]) == (0.0, 1.0, 0.0)
    wrong = worked("15 - 64 + 94 =", "35", "15-64=-49\n-49+94=35\n")
    assert (wrong["wrong"], wrong["wrong_share"], wrong["result"]) == (1.0, 0.5, 1.0)
    other = worked("15 - 64 + 94 =", "54", "15-64=-49\n-49+94=45\n")
    assert (other["wrong"], other["result"], other["ends_so"]) == (0.0, -1.0, -1.0)


def test_a_number_of_the_prompt_that_the_reasoning_drops_is_found() -> None:
    assert worked("Sort 5, 3, 9, 1", "1, 3, 9", "1|5 3 9")["unused_share"] == 0.0
    assert worked("Sort 5, 3, 9, 1", "1, 3, 9", "1|3 9")["unused_share"] == 0.25


def test_a_quotation_copied_with_a_gap_is_found() -> None:
    text = 'How often is "a" in "this agreement There are a"?'
    assert worked(text, "3", "this a1greement There a2re a3")["quotes"] == 1.0
    assert worked(text, "2", "this a1greement There are")["quotes"] == -1.0
    assert worked("How often is an a in this?", "0", "this")["quotes"] == 0.0


def test_long_reasoning_is_read_from_its_end() -> None:
    values = worked("2 + 2?", "4", "so it goes on, " * 10_000 + "\n2+2=5\n2+2=4")
    assert (values["wrong"], values["result"]) == (1.0, 1.0)
    assert values["chars"] < math.log(20_002)
    for lead in range(9):  # wherever the cut falls, no half of an equality is taken for one
        assert worked("Sum", "46", "x" * lead + "12+34=46\n" * 3000)["wrong"] == 0.0


def test_doubts_and_loops_are_counted() -> None:
    values = worked("2 + 2?", "4", "2+2=5\nWait, that is wrong.\n2+2=5\n2+2=5")
    assert values["doubts"] == pytest.approx(math.log(3))
    assert values["repeats"] == 0.5


@settings(max_examples=100)
@given(st.text(max_size=300), st.text(max_size=20), st.text(max_size=300))
def test_any_reasoning_gives_the_same_finite_numbers(text: str, answer: str, work: str) -> None:
    values = described(text, answer, reasoning=work)
    assert all(math.isfinite(value) for value in values.values())
    assert list(values) == list(described("", ""))


@settings(max_examples=60)
@given(st.text(max_size=40), st.integers(1, 300), st.integers(0, 5000))
def test_a_smaller_window_compresses_a_short_text_just_as_far(
    text: str, times: int, cut: int
) -> None:
    data = f"!{text * times}"[: cut + 1]
    packed = round(text_features(read_prompt(data))["compressed"] * len(data))
    assert packed == len(zlib.compress(data.encode("utf-8", "ignore"), 1))
