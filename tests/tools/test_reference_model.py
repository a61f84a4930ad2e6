"""The reference model's data: questions kept apart, solutions that are right, tokens that fit."""

import json
import re
from itertools import islice, pairwise
from pathlib import Path
from random import Random

import pytest
from msgspec import structs
from tools.reference_model.examples import EFFORT_SHARES, Examples, encode
from tools.reference_model.intents import INTENTS, OUT_OF_SCOPE, dialogue
from tools.reference_model.questions import (
    OWN,
    ReasoningQuestion,
    Spec,
    held_out,
    question_at,
    questions,
    read_spec,
)
from tools.reference_model.scratch import Scratch
from tools.reference_model.solutions import KINDS, SOLVERS, solution
from tools.reference_model.tokenizer import END, THINK, build_tokenizer, prompt

from suffice.errors import InputError
from suffice.types import Effort

pytestmark = pytest.mark.slow

SPEC_FILE = Path(__file__).parents[2] / "benchmarks" / "effort" / "effort.toml"
THINKING = (Effort.LOW, Effort.HIGH)


@pytest.fixture(scope="module")
def spec() -> Spec:
    return read_spec(SPEC_FILE)


@pytest.fixture(scope="module")
def small(spec: Spec) -> Spec:
    return structs.replace(spec, sizes=type(spec.sizes)(held_out=40))


def written(question: ReasoningQuestion, effort: Effort, seed: int = 0) -> str:
    return "".join(step.text for step in solution(question, effort, Random(seed)))


def test_every_family_has_a_solver(spec: Spec) -> None:
    assert set(spec.families) == set(SOLVERS)
    assert len(set(spec.families) - set(OWN)) >= 6


def test_the_same_seed_gives_the_same_question(spec: Spec) -> None:
    for family in spec.families:
        assert question_at(spec, family, seed=17) == question_at(spec, family, seed=17)


def test_no_held_out_question_is_trained_on(small: Spec) -> None:
    """Also where a family has so few questions that the seeds alone would not keep them apart."""
    kept = {question.hash for made in held_out(small).values() for question in made}
    examples = Examples(small, build_tokenizer())
    asked = [examples.question(number) for number in range(5000)]
    assert not kept & {question.hash for question in asked}
    repeated = {question.text for question in asked if question.family == "syllogism"}
    assert len(repeated) > 200


def test_held_out_questions_are_distinct(small: Spec) -> None:
    for made in held_out(small).values():
        assert len({question.text for question in made}) == len(made) == 40


@pytest.mark.parametrize("family", ["chain_sum", "simple_equations"])
@pytest.mark.parametrize("effort", THINKING)
def test_the_last_result_of_a_solution_is_the_answer(
    spec: Spec, family: str, effort: Effort
) -> None:
    for number, question in enumerate(islice(questions(spec, family, seed=5), 200)):
        steps = solution(question, effort, Random(number))
        work = "".join(step.text for step in steps if step.kind == "work")
        assert work.rstrip("\n").rpartition("=")[2] == question.answer


def test_the_divisor_is_the_last_number_divided_by(spec: Spec) -> None:
    for question in islice(questions(spec, "gcd", seed=5), 200):
        lines = [line for line in written(question, Effort.HIGH).splitlines() if "%" in line]
        assert re.search(r"%(\d+)", lines[-1])[1] == question.answer
        assert lines[-1].endswith("=0")


def test_brief_divisors_name_each_multiple_and_its_rest(spec: Spec) -> None:
    for question in islice(questions(spec, "gcd", seed=5), 200):
        lines = re.findall(r"(\d+)\*(\d+)=(\d+):(\d+)\n", written(question, Effort.LOW))
        first, second = sorted(int(number) for number in re.findall(r"\d+", question.text)[:2])
        for divisor, times, multiple, rest in (tuple(map(int, line)) for line in lines):
            assert (divisor, times * divisor) == (first, multiple)
            assert multiple + rest == second
            second, first = first, rest
        assert (first, second) == (0, int(question.answer))


def test_the_other_families_end_with_what_the_answer_says(spec: Spec) -> None:
    for question in islice(questions(spec, "number_sorting", seed=5), 100):
        ordered = [float(each) for each in written(question, Effort.LOW).split()]
        assert ordered == [float(each) for each in json.loads(question.answer.replace("'", '"'))]
    for question in islice(questions(spec, "letter_counting", seed=5), 100):
        text = re.search(r'text: "(.*)"', question.text, re.DOTALL)[1]
        marks = len(written(question, Effort.LOW).rstrip("\n")) - len(text)
        assert marks == int(question.answer)  # of one digit each
        counts = re.search(r"([\d+]+)=(\d+)", written(question, Effort.HIGH))
        assert sum(map(int, counts[1].split("+"))) == int(counts[2]) == int(question.answer)
    for question in islice(questions(spec, "spell_backward", seed=5), 100):
        back = written(question, Effort.HIGH).splitlines()[1]
        assert "".join(c for at, c in enumerate(back) if at % 2) == question.answer


def test_every_line_of_arithmetic_holds(spec: Spec) -> None:
    """A second calculation, by Python, of all that is not a slip."""
    for family in ("chain_sum", "simple_equations", "gcd"):
        for number, question in enumerate(islice(questions(spec, family, seed=9), 200)):
            steps = solution(question, Effort.HIGH, Random(number))
            if all(step.learned for step in steps):
                for left, right in re.findall(
                    r"(?<![\d=*+-])(-?\d+[+*-]-?\d+(?:\+1)?)=(-?\d+)",
                    "".join(s.text for s in steps),
                ):
                    assert eval(left) == int(right)


def test_some_solutions_slip_and_all_of_those_are_found_and_mended(spec: Spec) -> None:
    slips = 0
    for number, question in enumerate(islice(questions(spec, "chain_sum", seed=5), 400)):
        steps = solution(question, Effort.HIGH, Random(number))
        wrong = [step for step in steps if not step.learned]
        text = "".join(step.text for step in steps)
        assert len(wrong) == text.count(" no\n") <= 1
        assert text.endswith(" ok\n")
        slips += len(wrong)
    assert 10 < slips < 80


def test_low_leaves_out_what_high_adds(spec: Spec) -> None:
    for family in set(spec.families) - set(OWN):
        question = question_at(spec, family, seed=3)
        low = {step.kind for step in solution(question, Effort.LOW, Random(0))}
        high = {step.kind for step in solution(question, Effort.HIGH, Random(0))}
        assert low == {"work"}
        assert high - low <= KINDS
        assert high > low


def test_a_kind_of_step_can_be_left_out(spec: Spec) -> None:
    question = question_at(spec, "chain_sum", seed=3)
    steps = solution(question, Effort.HIGH, Random(0), without=frozenset({"columns"}))
    assert {step.kind for step in steps} == {"work", "check"}


def test_none_writes_nothing_and_other_efforts_are_refused(spec: Spec) -> None:
    question = question_at(spec, "gcd", seed=3)
    assert solution(question, Effort.NONE, Random(0)) == ()
    with pytest.raises(InputError, match="medium"):
        solution(question, Effort.MEDIUM, Random(0))


@pytest.mark.parametrize(
    ("a", "b", "text"),
    [
        (58, 67, "58+67:8+7=15 5+6+1=12 =125\n"),
        (12, -57, "12-57:7-2=5 5-1=4 =-45\n"),
        (-60, 7, "-60+7:10-7=3 5-0=5 =-53\n"),
        (-5, -9, "-5-9:5+9=14 =-14\n"),
        (4, -4, "4-4:4-4=0 =0\n"),
    ],
)
def test_columns_are_worked_from_the_right(a: int, b: int, text: str) -> None:
    scratch = Scratch(Random(0))
    assert scratch.combine(a, b) == a + b
    assert "".join(step.text for step in scratch.steps) == text


def test_a_slip_changes_one_result_and_is_not_learned() -> None:
    scratch = Scratch(Random(0), slip=1)
    assert scratch.combine(1, 2) == 3
    assert scratch.combine(10, 20) != 30
    assert [step.learned for step in scratch.steps].count(False) == 1


def test_dialogues_keep_their_intent_until_a_new_one_is_asked_for() -> None:
    made = [dialogue(seed) for seed in range(50)]
    labels = [label for turns in made for _, label in turns]
    assert set(labels) == set(INTENTS)
    changes = sum(a != b for turns in made for (_, a), (_, b) in pairwise(turns))
    assert 0.15 < changes / (50 * 11) < 0.35


def test_closed_set_answers_are_json_of_known_labels(spec: Spec) -> None:
    made = list(islice(questions(spec, "closed_set", seed=0), 400))
    labels = [json.loads(question.answer)["intent"] for question in made]
    assert set(labels) == {*INTENTS, OUT_OF_SCOPE}
    assert 0.1 < labels.count(OUT_OF_SCOPE) / len(labels) < 0.3


def test_digits_are_tokens_of_their_own_and_text_comes_back(spec: Spec) -> None:
    tokenizer = build_tokenizer()
    for family in spec.families:
        for question in islice(questions(spec, family, seed=1), 30):
            text = f"{question.text}\n{written(question, Effort.HIGH)}{question.answer}"
            encoded = tokenizer.encode(text)
            assert tokenizer.decode(encoded.ids, skip_special_tokens=False) == text
    numbers = tokenizer.encode("12+345=357").tokens
    assert numbers == list("12+345=357")
    assert tokenizer.decode(tokenizer.encode("Grüße, 世界 🙂").ids) == "Grüße, 世界 🙂"


def test_prompts_count_nothing_and_long_solutions_count_less_a_token(spec: Spec) -> None:
    tokenizer = build_tokenizer()
    question = question_at(spec, "chain_sum", seed=3)
    for effort in EFFORT_SHARES:
        example = encode(tokenizer, question, effort=effort, rng=Random(0))
        asked = len(tokenizer.encode(prompt(question.text, effort)).ids)
        assert set(example.weights[:asked]) == {0.0}
        told = example.weights[asked:]
        assert len(told) == len(example.tokens) - asked
        assert told[0] == pytest.approx(sum(weight > 0 for weight in told) ** -0.5)
        assert tokenizer.decode(example.tokens[asked:], skip_special_tokens=False).endswith(END)
        assert (tokenizer.token_to_id(THINK) in example.tokens) == (effort is not Effort.NONE)


def test_slips_are_in_the_tokens_but_count_nothing(spec: Spec) -> None:
    tokenizer = build_tokenizer()
    for number, question in enumerate(islice(questions(spec, "chain_sum", seed=5), 200)):
        steps = solution(question, Effort.HIGH, Random(number))
        slip = next((step for step in steps if not step.learned), None)
        if slip is None:
            continue
        example = encode(tokenizer, question, effort=Effort.HIGH, rng=Random(number))
        asked = len(tokenizer.encode(prompt(question.text, Effort.HIGH)).ids)
        silent = [
            t for t, w in zip(example.tokens[asked:], example.weights[asked:], strict=True) if not w
        ]
        assert tokenizer.decode(silent) == slip.text
        return
    pytest.fail("no slip among 200 solutions")


def test_batches_hold_every_example_once_and_no_more_tokens_than_asked(small: Spec) -> None:
    examples = Examples(small, build_tokenizer())
    batches = examples.batches(0, tokens=2048)
    assert max(batch.tokens.size for batch in batches) <= 2048
    assert sum(len(batch.tokens) for batch in batches) == 4096
    again = examples.batches(0, tokens=2048)
    assert all((a.tokens == b.tokens).all() for a, b in zip(batches, again, strict=True))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense", "TOML"),
        ("[seeds]\ntrain = 1\n", "held_out"),
        ("", "seeds"),
    ],
)
def test_a_bad_specification_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "effort.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError, match=r"effort\.toml") as caught:
        read_spec(path)
    assert said in str(caught.value) or text == "nonsense"
    with pytest.raises(InputError, match="cannot read"):
        read_spec(tmp_path / "gone.toml")
