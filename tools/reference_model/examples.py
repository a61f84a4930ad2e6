"""Training examples: a question answered at one effort, as tokens with a weight for each.

Example `i` is the same in every run, so a training that was cut off goes on with the very next one.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from random import Random
from typing import Any

import numpy as np
from msgspec import Struct

from suffice.types import Effort
from tools.reference_model.questions import ReasoningQuestion, Spec, held_out, question_at
from tools.reference_model.solutions import solution
from tools.reference_model.tokenizer import END, THINK, THOUGHT, prompt

EFFORT_SHARES = {Effort.NONE: 0.1, Effort.LOW: 0.6, Effort.HIGH: 0.3}
# What is learned soon needs few examples, so that what is hard gets more; 1 for a family not named.
FAMILY_SHARES = {
    "chain_sum": 3.0,
    "letter_counting": 3.0,
    "gcd": 3.0,
    "number_sorting": 1.5,
    "spell_backward": 0.4,
    "closed_set": 0.2,
    "stream_state": 0.2,
}
POOL = 4096  # examples that are sorted by length before they are cut into batches


class TrainingExample(Struct, frozen=True, kw_only=True):
    """Tokens, and how much each counts in the loss: 0 for the prompt and for slips."""

    tokens: list[int]
    weights: list[float]


class TokenBatch(Struct, frozen=True, kw_only=True):
    """Rows of equal length, int64 and float32; short ones are filled with tokens of weight 0."""

    tokens: Any
    weights: Any


class Examples:
    """All the training examples of a specification, by number."""

    def __init__(
        self, spec: Spec, tokenizer: Any, *, without: frozenset[str] = frozenset()
    ) -> None:
        self._spec, self._tokenizer, self._without = spec, tokenizer, without
        self._families = tuple(spec.families)

    @cached_property
    def _held_out(self) -> frozenset[str]:
        made = held_out(self._spec).values()
        return frozenset(question.hash for each in made for question in each)

    def family(self, number: int) -> str:
        """Draw the family of an example."""
        shares = [FAMILY_SHARES.get(each, 1.0) for each in self._families]
        return Random(f"family {number}").choices(self._families, shares)[0]

    def question(self, number: int, *, family: str | None = None) -> ReasoningQuestion:
        """Return the question of an example; one that is held out gives way to the next.

        It is of the family drawn for that number unless another is named.
        """
        family = family or self.family(number)
        while True:
            found = question_at(self._spec, family, seed=self._spec.seeds.train + number)
            if found.hash not in self._held_out:
                return found
            number += 1 << 30

    def example(self, number: int) -> TrainingExample:
        """Write an example: its question, and a solution at an effort drawn by its number."""
        rng = Random(f"example {number}")
        effort = rng.choices(tuple(EFFORT_SHARES), tuple(EFFORT_SHARES.values()))[0]
        question = self.question(number)
        return encode(self._tokenizer, question, effort=effort, rng=rng, without=self._without)

    def batches(self, pool: int, *, tokens: int) -> list[TokenBatch]:
        """Cut a pool of examples into batches of at most so many tokens, in random order."""
        first = pool * POOL
        made = sorted(
            (self.example(number) for number in range(first, first + POOL)),
            key=lambda example: len(example.tokens),
        )
        batches = [_stacked(part) for part in _parts(made, tokens=tokens)]
        Random(f"pool {pool}").shuffle(batches)
        return batches


def encode(
    tokenizer: Any,
    question: ReasoningQuestion,
    *,
    effort: Effort,
    rng: Random,
    without: frozenset[str] = frozenset(),
) -> TrainingExample:
    """Turn a question and its solution into tokens; long solutions count less for each token."""
    steps = solution(question, effort, rng, without=without)
    pieces = [(step.text, step.learned) for step in steps]
    if effort is not Effort.NONE:
        pieces = [(THINK, True), *pieces, (THOUGHT, True)]
    pieces += [(question.answer + END, True)]
    asked = tokenizer.encode(prompt(question.text, effort)).ids
    told = tokenizer.encode("".join(text for text, _ in pieces))
    unlearned = _spans(pieces)
    kept = [not any(a < end and b > start for start, end in unlearned) for a, b in told.offsets]
    weight = max(1, sum(kept)) ** -0.5
    return TrainingExample(
        tokens=asked + told.ids,
        weights=[0.0] * len(asked) + [weight if each else 0.0 for each in kept],
    )


def _spans(pieces: Sequence[tuple[str, bool]]) -> list[tuple[int, int]]:
    """Find where in the text the pieces stand that are not to be learned."""
    spans, at = [], 0
    for text, learned in pieces:
        if not learned:
            spans.append((at, at + len(text)))
        at += len(text)
    return spans


def _parts(made: list[TrainingExample], *, tokens: int) -> Iterator[list[TrainingExample]]:
    part: list[TrainingExample] = []
    for example in made:
        if part and (len(part) + 1) * len(example.tokens) > tokens:
            yield part
            part = []
        part.append(example)
    yield part


def _stacked(part: list[TrainingExample]) -> TokenBatch:
    """Fill rows up with their own first tokens: padding of one kind would flood a few experts."""
    length = max(len(example.tokens) for example in part)
    tokens = np.stack([np.resize(np.array(each.tokens), length) for each in part])
    weights = np.zeros((len(part), length), np.float32)
    for row, example in zip(weights, part, strict=True):
        row[: len(example.weights)] = example.weights
    return TokenBatch(tokens=tokens, weights=weights)
