"""Training examples: a question answered at one effort, as tokens with a weight for each.

Example `i` is the same in every run, so an interrupted training resumes with the next example.
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
HARDER_SHARES = {Effort.NONE: 0.08, Effort.LOW: 0.22, Effort.HIGH: 0.7}  # of the harder families
POOL = 4096  # examples that are sorted by length before they are cut into batches


class TrainingExample(Struct, frozen=True, kw_only=True):
    """Tokens, and how much each counts in the loss: 0 for the prompt and for slips."""

    tokens: list[int]
    weights: list[float]


class TokenBatch(Struct, frozen=True, kw_only=True):
    """Rows of equal length, int64 and float32; short rows are filled with tokens of weight 0."""

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
        families = held_out(self._spec).values()
        return frozenset(question.hash for questions in families for question in questions)

    def family(self, number: int) -> str:
        """Return the family of an example, drawn by its number."""
        shares = [self._spec.shares.get(name, 1.0) for name in self._families]
        return Random(f"family {number}").choices(self._families, shares)[0]

    def question(self, number: int, *, family: str | None = None) -> ReasoningQuestion:
        """Return the question of an example; a held-out question is replaced by the next one.

        Its family is the one drawn for the number, unless `family` names another.
        """
        family = family or self.family(number)
        while True:
            question = question_at(self._spec, family, seed=self._spec.seeds.train + number)
            if question.hash not in self._held_out:
                return question
            number += 1 << 30

    def example(self, number: int) -> TrainingExample:
        """Return an example: its question, and a solution at an effort drawn by its number."""
        rng = Random(f"example {number}")
        question = self.question(number)
        shares = HARDER_SHARES if question.family in self._spec.harder else EFFORT_SHARES
        effort = rng.choices(tuple(shares), tuple(shares.values()))[0]
        return encode(self._tokenizer, question, effort=effort, rng=rng, without=self._without)

    def batches(self, pool: int, *, tokens: int) -> list[TokenBatch]:
        """Cut a pool of examples into batches of at most so many tokens, in random order."""
        first = pool * POOL
        examples = sorted(
            (self.example(number) for number in range(first, first + POOL)),
            key=lambda example: len(example.tokens),
        )
        batches = [_stacked(part) for part in _parts(examples, tokens=tokens)]
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
    """Encode a question and its solution; the tokens of a long solution weigh less each."""
    steps = solution(question, effort, rng, without=without)
    parts = [(step.text, step.learned) for step in steps]
    if effort is not Effort.NONE:
        parts = [(THINK, True), *parts, (THOUGHT, True)]
    parts += [(question.answer + END, True)]
    prompt_ids = tokenizer.encode(prompt(question.text, effort)).ids
    encoded = tokenizer.encode("".join(text for text, _ in parts))
    unlearned = _spans(parts)
    counts = [
        not any(a < end and b > start for start, end in unlearned) for a, b in encoded.offsets
    ]
    weight = max(1, sum(counts)) ** -0.5
    return TrainingExample(
        tokens=prompt_ids + encoded.ids,
        weights=[0.0] * len(prompt_ids) + [weight if count else 0.0 for count in counts],
    )


def _spans(parts: Sequence[tuple[str, bool]]) -> list[tuple[int, int]]:
    """Return start and end, in characters, of the parts that are not trained."""
    spans, at = [], 0
    for text, learned in parts:
        if not learned:
            spans.append((at, at + len(text)))
        at += len(text)
    return spans


def _parts(examples: list[TrainingExample], *, tokens: int) -> Iterator[list[TrainingExample]]:
    part: list[TrainingExample] = []
    for example in examples:
        if part and (len(part) + 1) * len(example.tokens) > tokens:
            yield part
            part = []
        part.append(example)
    yield part


def _stacked(part: list[TrainingExample]) -> TokenBatch:
    """Fill short rows with their own first tokens: one padding token would flood a few experts."""
    length = max(len(example.tokens) for example in part)
    tokens = np.stack([np.resize(np.array(example.tokens), length) for example in part])
    weights = np.zeros((len(part), length), np.float32)
    for row, example in zip(weights, part, strict=True):
        row[: len(example.weights)] = example.weights
    return TokenBatch(tokens=tokens, weights=weights)
