"""Tasks from a JSONL file, or from a seeded generator of reasoning-gym."""

import os
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from msgspec.structs import replace

from suffice.bench.tasks import Task, read_tasks
from suffice.errors import InputError
from suffice.scoring.gym import GYM, GeneratorRecipe, gym_entries, visible
from suffice.trials.jsonl import PathLike
from suffice.types import JSON, Request

INSTRUCTION = "Give your final answer between <answer> and </answer>."


# These generators iterate over sets of strings, so their tasks change with Python's hash seed (in
# version 0.1.25; a test checks this). `gym_tasks` finds those that draw without their seed.
HASH_SEEDED = frozenset(
    {
        "intermediate_integration",
        "isomorphic_strings",
        "knight_swap",
        "polynomial_multiplication",
        "ransom_note",
        "word_ladder",
    }
)


def tasks_from_source(source: str) -> tuple[Task, ...]:
    """Generate the tasks of `NAME[,NAME...][?count=50&seed=0&level=2&FIELD=VALUE...]`.

    Each generator is a group. Raises InputError with the nearest valid name.
    """
    names, _, query = source.partition("?")
    settings = {key: _value(text) for key, text in parse_qsl(query, keep_blank_values=True)}
    fields: JSON = {"generator": "", "config": settings}
    fields |= {key: settings.pop(key) for key in ("count", "seed", "level") if key in settings}
    try:
        recipe = msgspec.convert(fields, GeneratorRecipe)
    except msgspec.ValidationError as error:
        raise InputError(
            f"reasoning-gym:{source}: {error}", hint="count, seed and level are whole numbers"
        ) from error
    recipes = [replace(recipe, generator=name.strip()) for name in names.split(",")]
    return tuple(task for one in recipes for task in gym_tasks(one))


def gym_tasks(recipe: GeneratorRecipe) -> tuple[Task, ...]:
    """Return one generator's tasks; raises InputError if a second draw gives other tasks."""
    if recipe.generator in HASH_SEEDED and os.environ.get("PYTHONHASHSEED", "random") == "random":
        raise InputError(
            f"reasoning-gym {recipe.generator!r} gives other tasks in each Python process",
            hint="set PYTHONHASHSEED=0, or take another generator",
        )
    first, second = gym_entries(recipe), gym_entries(recipe)
    if [visible(entry) for entry in first] != [visible(entry) for entry in second]:
        raise InputError(
            f"reasoning-gym {recipe.generator!r} ignores its seed: a second draw gave other tasks",
            hint="take another generator",
        )
    return tuple(_task(recipe, entry, index=index) for index, entry in enumerate(first))


def _task(recipe: GeneratorRecipe, entry: JSON, *, index: int) -> Task:
    prompt = f"{entry['question']}\n\n{INSTRUCTION}"
    return Task(
        request=Request(
            request_id=f"{recipe.generator}/{recipe.seed}/{index}",
            messages=({"role": "user", "content": prompt},),
            group=recipe.generator,
        ),
        target=visible(entry)["answer"],
        scorer=GYM,
        options={"recipe": msgspec.to_builtins(recipe), "index": index},
    )


def _value(text: str) -> Any:
    """Read a setting as JSON (3, true, [1, 2]) if possible, else as text."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


GYM_SOURCE = "reasoning-gym:"


def load_tasks(source: PathLike, *, allow_code: bool = False) -> tuple[Task, ...]:
    """Read tasks from a JSONL file (gzip too), or generate those of `reasoning-gym:...`.

    `exact` marks a line that has a target but names no scorer. `allow_code` is for scorers of the
    file's own. Raises InputError with the line and
    the field, and MissingExtra if reasoning-gym is not installed.
    """
    if str(source).startswith(GYM_SOURCE):
        return tasks_from_source(str(source).removeprefix(GYM_SOURCE))
    return read_tasks(source, allow_code=allow_code)
