"""Worked solutions of each family, for low and for high effort.

Low writes the results of the main steps. High also writes the work inside each step and ends with
a check. If the check fails, the solution starts again without the slip. Those of the harder
families, which have no check, stand in harder_solutions.py.
"""

import re
from collections.abc import Callable, Mapping
from itertools import count, pairwise
from random import Random

from suffice.errors import InputError
from suffice.types import Effort
from tools.reference_model.harder_solutions import HARDER
from tools.reference_model.questions import ReasoningQuestion
from tools.reference_model.scratch import Scratch, ScratchStep

Solve = Callable[[ReasoningQuestion, Scratch], None]

# The share of solutions with a slip, where the check can find one.
SLIP_SHARE = 0.1
# The kinds of step that high writes and low leaves out.
KINDS = frozenset(
    (
        "check", "columns", "marks", "names", "restate", "reverse", "rules", "select", "spell",
        "state", "total",
    )
)  # fmt: skip


def solution(
    question: ReasoningQuestion,
    effort: Effort,
    rng: Random,
    *,
    without: frozenset[str] = frozenset(),
) -> tuple[ScratchStep, ...]:
    """Return the reasoning for an effort: nothing for none, brief for low, complete for high.

    `without` names further kinds of step to leave out. Raises InputError for another effort.
    """
    if effort is Effort.NONE:
        return ()
    if effort not in (Effort.LOW, Effort.HIGH):
        raise InputError(
            f"no solutions are written for the effort {effort}", hint="none, low or high"
        )
    solve = SOLVERS[question.family]
    if effort is Effort.LOW:
        scratch = Scratch(rng, without=KINDS | without, brief=True)
        solve(question, scratch)
        return tuple(scratch.steps)
    return _checked(question, solve, rng=rng, without=without)


def _checked(
    question: ReasoningQuestion, solve: Solve, *, rng: Random, without: frozenset[str]
) -> tuple[ScratchStep, ...]:
    """Return the full solution, sometimes after an attempt with a slip that the check finds."""
    right = Scratch(rng, without=without)
    solve(question, right)
    if not right.results or "check" in without or rng.random() > SLIP_SHARE:
        return tuple(right.steps)
    wrong = Scratch(rng, without=without, slip=rng.randrange(right.results))
    solve(question, wrong)
    if not wrong.steps[-1].text.endswith("no\n"):
        return tuple(right.steps)
    return (*wrong.steps, *right.steps)


def _chain_sum(question: ReasoningQuestion, scratch: Scratch) -> None:
    expression = question.text.rpartition(": ")[2].rstrip("= ")
    terms = [int(term.replace(" ", "")) for term in re.findall(r"[+-]? ?\d+", expression)]
    value = terms[0]
    for term in terms[1:]:
        value = scratch.combine(value, term)
    residue = terms[0] % 9
    folds = [f"{terms[0]}:{residue}"]
    for term in terms[1:]:
        folds.append(f"{term:+d}:{(residue + term) % 9}")
        residue = (residue + term) % 9
    _check(scratch, f"{' '.join(folds)}|{value}:{value % 9}", good=residue == value % 9)


def _letter_counting(question: ReasoningQuestion, scratch: Scratch) -> None:
    match = re.fullmatch(r'.*letter "(.)" appear in the text: "(.*)"\?', question.text, re.DOTALL)
    letter, words = match[1], match[2].split(" ")  # type: ignore[index]
    if scratch.brief:
        scratch.write(f"{_numbered(match[2], letter)}\n")  # type: ignore[index]
        return
    counts = [word.lower().count(letter) for word in words]
    total = 0
    for word, times in zip(words, counts, strict=True):
        _spelled(word, letter, scratch)
        scratch.write(f"{times}")
        total += times
        scratch.write(f">{total}", "total")
        scratch.write("\n", "spell")
    _check(scratch, "+".join(map(str, counts)) + f"={sum(counts)}", good=True)


def _numbered(text: str, letter: str) -> str:
    """Return a text with a number after each occurrence of a letter."""
    places = count(1)
    return "".join(f"{c}{next(places)}" if c.lower() == letter else c for c in text)


def _spelled(word: str, letter: str, scratch: Scratch) -> None:
    """Copy a word and number each occurrence of a letter."""
    number = 0
    for character in word:
        scratch.write(character, "spell")
        if character.lower() == letter:
            number += 1
            scratch.write(f"{number}", "marks")
    scratch.write(":", "spell")


def _spell_backward(question: ReasoningQuestion, scratch: Scratch) -> None:
    word = question.text.rpartition(": ")[2].strip()
    numbered = [(str(at % 10), letter) for at, letter in enumerate(word, 1)]
    scratch.write("".join(f"{letter}{at}" for at, letter in numbered) + "\n")
    scratch.write("".join(f"{at}{letter}" for at, letter in reversed(numbered)) + "\n", "reverse")
    _check(scratch, word, good=True)


def _number_sorting(question: ReasoningQuestion, scratch: Scratch) -> None:
    line = question.text.splitlines()[0]
    down = "descending" in line
    numbers = [round(float(number)) for number in line.rpartition(": ")[2].split(", ")]
    left, ordered = list(numbers), sorted(numbers, reverse=down)
    for number in ordered:
        left.remove(number)
        scratch.write(f"{number}|{' '.join(map(str, left))}\n", "select")
    scratch.write(f"{' '.join(map(str, ordered))}\n")
    rises = all((a >= b) if down else (a <= b) for a, b in pairwise(ordered))
    _check(scratch, f"{len(numbers)} {len(ordered)}", good=rises)


def _gcd(question: ReasoningQuestion, scratch: Scratch) -> None:
    first, second = (int(number) for number in re.findall(r"\d+", question.text)[:2])
    a, b = max(first, second), min(first, second)
    while b:
        a, b = b, scratch.rest(a, b)
    rests = [f"{n}={a}*{n // a}" + (f"+{n % a}" if n % a else "") for n in (first, second)]
    _check(scratch, " ".join(rests), good=first % a == 0 and second % a == 0)


def _simple_equations(question: ReasoningQuestion, scratch: Scratch) -> None:
    left, right = question.text.rpartition(": ")[2].split(" = ")
    factor, constant, name = _linear(left)
    rest = scratch.combine(int(right), -constant) if constant else int(right)
    prefix = {1: "", -1: "-"}.get(factor, f"{factor}*")
    scratch.write(f"{prefix}{name}={rest}\n", "restate")
    scratch.write(f"{rest}/{factor}")
    value = scratch.result(round(rest / factor))
    product = factor * value
    _check(
        scratch,
        f"{factor}*{value}={product} {product}{constant:+d}={product + constant}",
        good=product + constant == int(right),
    )


def _linear(text: str) -> tuple[int, int, str]:
    """Parse `a*x + b` in any order; raises InputError for anything else."""
    factor, constant, name = 0, 0, ""
    for sign, number, variable in re.findall(r"([+-]?) ?(\d*)\*?([a-z]?)", text):
        value = int(f"{sign}{number or 1}") if number or variable else 0
        if variable:
            factor, name = factor + value, variable
        else:
            constant += value
    if not factor:
        raise InputError(f"not a linear equation: {text}", hint="questions of simple_equations")
    return factor, constant, name


def _syllogism(question: ReasoningQuestion, scratch: Scratch) -> None:
    lines = question.text.splitlines()
    forms = [_form(text) for text in (lines[1][3:], lines[2][3:], lines[5].rstrip("?"))]
    names: dict[str, str] = {}
    for _, subject, predicate in forms:
        for term in (subject, predicate):
            names.setdefault(term, "abc"[min(len(names), 2)])
    relations = [(kind, names[subject], names[predicate]) for kind, subject, predicate in forms]
    for at, (kind, *terms) in enumerate(forms):
        scratch.write(f"{';' * (at > 0)} {kind}")
        for term in terms:
            scratch.write(f" {term}", "names")
            scratch.write(f" {names[term]}")
    scratch.write("\n")
    scratch.write(_verdicts(relations), "rules")


def _form(text: str) -> tuple[str, str, str]:
    kind, subject, predicate = re.fullmatch(  # type: ignore[union-attr]
        r"(All|No|Some) (.+?) are (.+)", text
    ).groups()
    denied = predicate.startswith("not ")
    return ("not" if denied else kind), subject, predicate.removeprefix("not ")


def _verdicts(relations: list[tuple[str, str, str]]) -> str:
    """State the form of the conclusion and what the rules of the syllogism depend on.

    The rules are the classical ones: no two negative premises, no two particular ones, nothing
    universal from a particular one, a negative conclusion just when a premise is, and no term
    distributed in the conclusion alone.
    """
    first, second, last = relations
    for place, premise in ((1, first), (2, second)):
        if {premise[1], premise[2]} == {last[1], last[2]}:
            return f"inverse {place} {premise[0]} {last[0]}\n"
    kinds = (first[0], second[0])
    negative = sum(kind in ("No", "not") for kind in kinds)
    particular = sum(kind in ("Some", "not") for kind in kinds)
    spread = [_distributed(form) for form in relations]
    premises = set().union(*spread[:2])
    both = spread[0] & spread[1]
    return (
        f"negative {negative} {int(last[0] in ('No', 'not'))}"
        f" some {particular} {int(last[0] in ('Some', 'not'))}"
        f" spread {''.join(sorted(premises)) or 0} {''.join(sorted(spread[2])) or 0}"
        f" middle {''.join(sorted(both)) or 0}\n"
    )


def _distributed(form: tuple[str, str, str]) -> set[str]:
    kind, subject, predicate = form
    return ({subject} if kind in ("All", "No") else set()) | (
        {predicate} if kind in ("No", "not") else set()
    )


def _intent(question: ReasoningQuestion, scratch: Scratch) -> None:
    scratch.write(f" {question.clue}\n")
    scratch.write(f"{question.label}\n", "check")


def _check(scratch: Scratch, text: str, *, good: bool) -> None:
    scratch.write(f"verify {text} {'ok' if good else 'no'}\n", "check")


SOLVERS: Mapping[str, Solve] = {
    "chain_sum": _chain_sum,
    "letter_counting": _letter_counting,
    "spell_backward": _spell_backward,
    "number_sorting": _number_sorting,
    "gcd": _gcd,
    "simple_equations": _simple_equations,
    "syllogism": _syllogism,
    **HARDER,
    "closed_set": _intent,
    "stream_state": _intent,
}
