"""Solutions of the harder families end with the answer, and every line of them holds."""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from tools.reference_model.harder_solutions import HARDER
from tools.reference_model.questions import ReasoningQuestion, Spec, questions, read_spec
from tools.reference_model.solutions import solution
from tools.reference_model.tokenizer import build_tokenizer, prompt

from suffice.types import Effort

SPEC_FILE = Path(__file__).parents[2] / "benchmarks" / "effort" / "effort.toml"


@pytest.fixture(scope="module")
def spec() -> Spec:
    return read_spec(SPEC_FILE)


def asked(spec: Spec, family: str, count: int = 60) -> Iterator[ReasoningQuestion]:
    return islice(questions(spec, family, seed=7), count)


def written(question: ReasoningQuestion, effort: Effort) -> str:
    return "".join(step.text for step in solution(question, effort, Random(0)))


def test_the_specification_names_the_harder_families(spec: Spec) -> None:
    assert set(spec.harder) == set(HARDER)


def test_high_ends_with_the_answer(spec: Spec) -> None:
    for family in ("products", "color_cube_rotation"):
        for question in asked(spec, family):
            last = re.split("[=:]", written(question, Effort.HIGH).rstrip())[-1]
            assert last == question.answer
    for question in asked(spec, "leg_counting"):
        assert written(question, Effort.HIGH).split()[-1] == question.answer


def test_both_parts_of_a_complex_product_are_stated(spec: Spec) -> None:
    for question in asked(spec, "complex_arithmetic"):
        answer = complex(question.answer.replace(" ", "").replace("i", "j"))
        parts = [str(round(answer.real)), str(round(answer.imag))]
        assert written(question, Effort.LOW).splitlines() == parts
        high = written(question, Effort.HIGH).splitlines()
        assert [line.rpartition("=")[2] for line in high] == parts


def test_low_states_main_steps_alone(spec: Spec) -> None:
    for question in asked(spec, "leg_counting"):
        assert written(question, Effort.LOW).splitlines()[-1] == question.answer
    for question in asked(spec, "products"):
        parts = written(question, Effort.LOW).splitlines()
        assert sum(map(int, parts)) == int(question.answer)
    for question in asked(spec, "color_cube_rotation"):
        turns = len(re.findall(r"top(?: face)?\.\n", question.text))
        states = written(question, Effort.LOW).splitlines()
        assert len(states) == turns // 3
        high = written(question, Effort.HIGH).splitlines()
        assert states == [line[2:] for line in high[2:turns:3]]


def test_every_line_of_arithmetic_holds(spec: Spec) -> None:
    """A second calculation, by Python."""
    for family in HARDER:
        for question in asked(spec, family):
            lines = re.findall(
                r"(?<![\d=*+-])(-?\d+[+*-]-?\d+(?:\+\d)?)=(-?\d+)", written(question, Effort.HIGH)
            )
            assert bool(lines) == (family != "color_cube_rotation")
            for left, right in lines:
                assert eval(left) == int(right)


def test_a_turn_there_and_back_is_none(spec: Spec) -> None:
    question = next(asked(spec, "color_cube_rotation"))
    head, _, rest = question.text.partition("The cube is rotated")
    end = rest[rest.index("What is now") :]
    turns = [
        "The cube is rotated so that the side which was before at the front is now at the top.\n\n",
        "Now the cube is rotated to place its back side at the top.\n\n",
        "Next, the left side is rotated to become the top face.\n\n",
        "After that the cube is turned to make the right face the top.\n\n",
        "Then the cube is rotated to bring the bottom side to the top.\n\n",
        "Then the cube is rotated to bring the bottom side to the top.\n\n",
    ]
    made = ReasoningQuestion(family=question.family, text=head + "".join(turns) + end, answer="")
    states = [line[2:] for line in written(made, Effort.HIGH).splitlines()[:-1]]
    assert [states[at] for at in (1, 3, 5)] == ["URFLBD"] * 3


def test_fixed_wordings_are_single_tokens(spec: Spec) -> None:
    """Reading a question is cheap: what does not change from one to the next is few tokens."""
    tokenizer = build_tokenizer()
    most = {"products": 20, "leg_counting": 45, "color_cube_rotation": 70, "complex_arithmetic": 24}
    for family, tokens in most.items():
        for question in asked(spec, family):
            assert len(tokenizer.encode(prompt(question.text, Effort.LOW)).ids) <= tokens
