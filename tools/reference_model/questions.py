"""Questions of every family by seed, and the split into training and held-out questions."""

import hashlib
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from suffice.errors import InputError, MissingExtra
from tools.reference_model import intents

OWN = {"closed_set": intents.closed_set, "stream_state": intents.stream_state}


class ReasoningQuestion(Struct, frozen=True, kw_only=True):
    """A question and its answer; `clue` and `label` explain it in the families defined here."""

    family: str
    text: str
    answer: str
    clue: str = ""
    label: str = ""

    @property
    def hash(self) -> str:
        """The SHA-256 of the text, by which training questions are kept from held-out ones."""
        return hashlib.sha256(self.text.encode()).hexdigest()


class Seeds(Struct, frozen=True, forbid_unknown_fields=True):
    """The first seed of each split; reasoning-gym adds the number of the question."""

    train: int
    held_out: int


class Sizes(Struct, frozen=True, forbid_unknown_fields=True):
    """The number of held-out questions of a family."""

    held_out: int


class Spec(Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `benchmarks/effort/effort.toml`: families with their ranges, seeds, sizes.

    `harder` names the families whose main steps are hard to say without the work inside them;
    `shares` how often a training draws a family, 1 for one that is not named.
    """

    seeds: Seeds
    sizes: Sizes
    families: dict[str, dict[str, Any]]
    harder: tuple[str, ...] = ()
    shares: dict[str, float] = {}


def read_spec(path: Path) -> Spec:
    """Read a specification of families; raises InputError with the fault."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), Spec)
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror}", hint="give another file"
        ) from error
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise InputError(f"{path}: {error}", hint="see benchmarks/effort/effort.toml") from error


def held_out(spec: Spec) -> dict[str, tuple[ReasoningQuestion, ...]]:
    """Return the held-out questions of every family, without duplicates."""
    return {
        family: tuple(_distinct(questions(spec, family, seed=spec.seeds.held_out), spec))
        for family in spec.families
    }


def questions(spec: Spec, family: str, *, seed: int) -> Iterator[ReasoningQuestion]:
    """Yield questions of a family without end, from a seed on."""
    return (question_at(spec, family, seed=seed + number) for number in count())


def question_at(spec: Spec, family: str, *, seed: int) -> ReasoningQuestion:
    """Return the question of a family that belongs to a seed."""
    if family in OWN:
        return ReasoningQuestion(family=family, **OWN[family](seed))
    item = _generator(family, msgspec.json.encode(spec.families[family]))(seed)
    return ReasoningQuestion(family=family, text=item["question"].strip(), answer=item["answer"])


@cache
def _generator(family: str, ranges: bytes) -> Callable[[int], dict[str, Any]]:
    try:
        import reasoning_gym
    except ImportError as error:
        raise MissingExtra(
            "reasoning-gym is not installed", hint="pip install 'suffice[tasks]'"
        ) from error
    dataset = reasoning_gym.create_dataset(
        family, seed=0, size=sys.maxsize, **msgspec.json.decode(ranges)
    )
    # It seeds its generator with the seed above plus the index.
    item: Callable[[int], dict[str, Any]] = dataset.__getitem__
    return item


def _distinct(questions: Iterator[ReasoningQuestion], spec: Spec) -> Iterator[ReasoningQuestion]:
    texts: set[str] = set()
    for question in questions:
        if len(texts) == spec.sizes.held_out:
            return
        if question.text not in texts:
            texts.add(question.text)
            yield question
