"""Questions of every family, the same for the same seed, and the split that keeps them apart."""

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
    """A question and its answer; `clue` and `label` say why, in the families made here."""

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
    """Where the questions of a split start; reasoning-gym adds the number of the question."""

    train: int
    held_out: int


class Sizes(Struct, frozen=True, forbid_unknown_fields=True):
    """How many held-out questions a family has."""

    held_out: int


class Spec(Struct, frozen=True, forbid_unknown_fields=True):
    """What `benchmarks/effort/effort.toml` fixes: families with their ranges, seeds and sizes."""

    seeds: Seeds
    sizes: Sizes
    families: dict[str, dict[str, Any]]


def read_spec(path: Path) -> Spec:
    """Read a specification of families; raises InputError naming what is wrong in it."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), Spec)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", hint="name another") from error
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise InputError(f"{path}: {error}", hint="see benchmarks/effort/effort.toml") from error


def held_out(spec: Spec) -> dict[str, tuple[ReasoningQuestion, ...]]:
    """Make the held-out questions of every family, no text twice."""
    return {
        family: tuple(_distinct(questions(spec, family, seed=spec.seeds.held_out), spec))
        for family in spec.families
    }


def questions(spec: Spec, family: str, *, seed: int) -> Iterator[ReasoningQuestion]:
    """Make questions of a family without end, from a seed on."""
    return (question_at(spec, family, seed=seed + number) for number in count())


def question_at(spec: Spec, family: str, *, seed: int) -> ReasoningQuestion:
    """Make the one question of a family that a seed stands for."""
    if family in OWN:
        return ReasoningQuestion(family=family, **OWN[family](seed))
    entry = _generator(family, msgspec.json.encode(spec.families[family]))(seed)
    return ReasoningQuestion(family=family, text=entry["question"].strip(), answer=entry["answer"])


@cache
def _generator(family: str, ranges: bytes) -> Callable[[int], dict[str, Any]]:
    try:
        import reasoning_gym
    except ImportError as error:
        raise MissingExtra(
            "reasoning-gym is not installed", hint="pip install 'suffice[tasks]'"
        ) from error
    made = reasoning_gym.create_dataset(
        family, seed=0, size=sys.maxsize, **msgspec.json.decode(ranges)
    )
    # It seeds its generator with the seed above plus the index.
    entry: Callable[[int], dict[str, Any]] = made.__getitem__
    return entry


def _distinct(made: Iterator[ReasoningQuestion], spec: Spec) -> Iterator[ReasoningQuestion]:
    seen: set[str] = set()
    for question in made:
        if len(seen) == spec.sizes.held_out:
            return
        if question.text not in seen:
            seen.add(question.text)
            yield question
