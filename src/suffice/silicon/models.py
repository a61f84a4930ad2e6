"""Model shapes by name or from a file."""

import functools
import json
import tomllib
from importlib import resources
from pathlib import Path

import msgspec

from suffice.config import nearest
from suffice.errors import InputError
from suffice.silicon.shapes import Shape


@functools.cache
def built_in_shapes() -> dict[str, Shape]:
    """Read the list of known models, keyed by its short name."""
    text = resources.files("suffice.silicon").joinpath("data/models.toml").read_text("utf-8")
    tables = tomllib.loads(text)["model"]
    return {key: msgspec.convert({"name": key} | table, Shape) for key, table in tables.items()}


def find_shape(name: str) -> Shape:
    """Look a model up by short name, alias, or path of a `config.json`; raises InputError."""
    if name.endswith(".json"):
        return shape_from_file(Path(name))
    shapes = built_in_shapes()
    names = {alias.lower(): shape for shape in shapes.values() for alias in shape.aliases} | shapes
    wanted = name.lower()
    shape = names.get(wanted) or names.get(wanted.rpartition("/")[2])
    if shape is None:
        raise InputError(
            f"no model {name!r} in the built-in list",
            hint=f"{nearest(wanted, tuple(names))}; or give the path of its config.json",
        )
    return shape


def shape_from_file(path: Path) -> Shape:
    """Read a Hugging Face `config.json`; raises InputError where it cannot be trusted."""
    from suffice.silicon.hf_config import shape_from_config

    try:
        config = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", hint="check the path") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}", hint="give a config.json") from error
    return shape_from_config(config, name=path.parent.name or path.stem, source=str(path))
