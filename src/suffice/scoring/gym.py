"""Tasks from the seeded generators of reasoning-gym, marked by the generators' own verifiers.

The only module that imports reasoning-gym. A task holds the recipe of its question, not the
question's hidden entry: the verifier makes the entry again, so it must come out the same.
"""

import contextlib
import dataclasses
import functools
import importlib
import io
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import msgspec
from msgspec import Struct

from suffice.config import nearest
from suffice.errors import InputError, MissingExtra
from suffice.types import JSON

GYM = "reasoning_gym"  # the name of its scorer


class GeneratorRecipe(Struct, frozen=True, kw_only=True):
    """What fixes a generator's tasks; `level` counts up its difficulties, `config` its fields."""

    generator: str
    count: int = 50
    seed: int = 0
    level: int | None = None
    config: JSON = {}


def verify_answer(answer: str, *, target: Any, options: JSON) -> float:
    """Let the generator's verifier mark an answer; raises ValueError if its task came out other."""
    recipe = msgspec.convert(options["recipe"], GeneratorRecipe)
    dataset, entry = _made(msgspec.json.encode(recipe), options["index"])
    if visible(entry)["answer"] != target:
        raise ValueError(f"reasoning-gym made another task {options['index']} than before")
    with _quiet():
        return float(dataset.score_answer(answer, entry))


@functools.lru_cache(maxsize=4096)
def _made(recipe: bytes, index: int) -> tuple[Any, JSON]:
    dataset = _dataset(msgspec.json.decode(recipe, type=GeneratorRecipe))
    return dataset, _entry(dataset, index)


def visible(entry: JSON) -> JSON:
    """Keep what a task shows: the question, and the answer as text (None where many are right)."""
    answer = entry["answer"]
    return {
        "question": entry["question"],
        "answer": None if answer is None else str(answer),
    }


def gym_entries(recipe: GeneratorRecipe) -> list[JSON]:
    """Make the entries of a recipe, in order."""
    dataset = _dataset(recipe)
    return [_entry(dataset, index) for index in range(recipe.count)]


def _entry(dataset: Any, index: int) -> JSON:
    with _quiet():
        entry: JSON = dataset[index]
    return entry


def _dataset(recipe: GeneratorRecipe) -> Any:
    """Build the generator at its level and fields; raises InputError."""
    factory = _factory()
    names = tuple(sorted(set(factory.DATASETS) - {"composite"}))
    at = f"reasoning-gym {recipe.generator!r}"
    if recipe.generator not in names:
        raise InputError(f"{at}: no such generator", hint=nearest(recipe.generator, names))
    if recipe.count < 1:
        raise InputError(f"{at}: count {recipe.count} makes no task", hint="ask for 1 or more")
    build, config_type = factory.DATASETS[recipe.generator]
    fields = tuple(field.name for field in dataclasses.fields(config_type))
    for key in recipe.config:
        if key not in fields:
            raise InputError(f"{at}: no setting {key!r}", hint=nearest(key, fields))
    try:
        config = config_type() if recipe.level is None else _at_level(factory, recipe)
        settings = {**recipe.config, "seed": recipe.seed, "size": recipe.count}
        return build(config=dataclasses.replace(config, **settings))
    except (AssertionError, TypeError, ValueError) as error:
        raise InputError(
            f"{at}: settings refused: {error}", hint="see its configuration in reasoning-gym"
        ) from error


def _at_level(factory: ModuleType, recipe: GeneratorRecipe) -> Any:
    if not factory.has_curriculum(recipe.generator):
        raise ValueError("it has no difficulty levels")
    curriculum = factory.create_curriculum(recipe.generator)
    curriculum.set_global_level(recipe.level)
    return curriculum.generate_configuration()


def _factory() -> ModuleType:
    try:
        with _quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # of a package compiled on its first use
            return importlib.import_module("reasoning_gym.factory")
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "tasks from generators need reasoning-gym", hint="pip install 'suffice[tasks]'"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Swallow what some generators print; standard output belongs to the caller."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
