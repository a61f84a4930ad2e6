"""Model shapes by name, from a checkpoint's configuration, or from a file of one's own."""

import functools
import json
import tomllib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from suffice.config import nearest
from suffice.errors import ConfigError, InputError
from suffice.silicon.formats import NAMED_CACHES, Formats, named_format
from suffice.silicon.shapes import Shape

if TYPE_CHECKING:
    from suffice.silicon.checkpoint.quantisation import Neighbour

QUANTISATION = ("quantization_config", "compression_config", "quantization", "expert_dtype")
NEIGHBOURS = ("hf_quant_config.json", "quant_config.json", "quantize_config.json")
"""Files beside a `config.json` in which ModelOpt, AutoAWQ and GPTQ note the number formats."""


@functools.cache
def built_in_shapes() -> dict[str, Shape]:
    """Read the list of known models, keyed by its short name."""
    text = resources.files("suffice.silicon").joinpath("data/models.toml").read_text("utf-8")
    return _shapes(tomllib.loads(text), where="data/models.toml")


def load_shapes(path: Path) -> dict[str, Shape]:
    """Read models that the user describes, on top of the built-in ones; raises ConfigError."""
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"cannot read {path}: {error}", hint="docs/silicon.md shows a model entry"
        ) from error
    return built_in_shapes() | _shapes(tree, where=str(path))


def find_shape(name: str, shapes: dict[str, Shape] | None = None, *, formats: bool = True) -> Shape:
    """Look a model up by short name, alias, or path of a `config.json`; raises InputError.

    Where a name ends in a number format (`-fp8`, `-nvfp4`, `-awq`), all linear layers have it.
    Without `formats` a file's own are not read: the caller names them.
    """
    if name.endswith(".json") or Path(name).is_dir():
        return shape_from_file(Path(name), formats=formats)
    if Path(name).is_file():
        raise InputError(
            f"{name} is not a config.json",
            hint="a GGUF, safetensors or other file of weights is not read: give the config.json "
            "that it was made from, and its formats with --weights, --experts and --cache-format",
        )
    shapes = built_in_shapes() if shapes is None else shapes
    lowered = name.lower()
    for candidate in (lowered, lowered.rpartition("/")[2]):
        shape = _known(candidate, shapes)
        if shape is not None:
            return shape
    names = [alias for shape in shapes.values() for alias in (*shape.aliases, *shape.checkpoints)]
    raise InputError(
        f"no model {name!r} in the list",
        hint=f"{nearest(lowered, (*shapes, *names))}; or give the path of its config.json",
    )


def shape_from_file(path: Path, *, formats: bool = True) -> Shape:
    """Read a checkpoint's `config.json` and a quantisation file beside it; raises InputError.

    Without `formats` only the dimensions are read, so that a method that nobody knows can be used.
    """
    from suffice.silicon.checkpoint.reader import shape_from_config

    path = path / "config.json" if path.is_dir() else path
    config, neighbour = _json(path), _neighbour(path) if formats else None
    if not formats:
        config = _without_quantisation(config)
    if neighbour is not None and neighbour.name != NEIGHBOURS[0] and _quantised(config):
        neighbour = None
    name = path.parent.name if path.stem == "config" else path.stem.removesuffix(".config")
    return shape_from_config(config, name=name or path.stem, source=str(path), neighbour=neighbour)


def _known(name: str, shapes: dict[str, Shape]) -> Shape | None:
    """Find a name as it stands, else its base with the format that its ending states."""
    by_name = {alias.lower(): shape for shape in shapes.values() for alias in shape.aliases}
    by_name |= shapes
    if name in by_name:
        shape = by_name[name]
        longest = shape.contexts.get(name, shape.max_context_tokens)
        return msgspec.structs.replace(shape, max_context_tokens=longest)
    for shape in shapes.values():
        if name in shape.checkpoints:
            return _with_formats(shape, shape.checkpoints[name])
    stated = named_format(name)
    if stated is None or named_format(stated[0]):  # two endings may be two formats
        return None
    base, own = _known(stated[0], shapes), stated[1]
    if base is None:
        return None
    ending = name.removeprefix(f"{stated[0]}-")
    formats = Formats.uniform(own, origin=f"the name, which ends in {ending}")
    return _with_formats(base, msgspec.structs.replace(formats, cache=NAMED_CACHES.get(ending)))


def _with_formats(shape: Shape, formats: Formats) -> Shape:
    if formats.cache:
        formats = msgspec.structs.replace(formats, cache_origin=formats.origin)
    return msgspec.structs.replace(shape, formats=formats)


def _shapes(tree: dict[str, Any], *, where: str) -> dict[str, Shape]:
    try:
        tables = tree["model"]
        return {
            key.lower(): msgspec.convert({"name": key} | table, Shape)
            for key, table in tables.items()
        }
    except (KeyError, AttributeError, TypeError, msgspec.ValidationError) as error:
        raise ConfigError(
            f"{where}: {error}", hint="write [model.NAME] as docs/silicon.md shows"
        ) from error


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", hint="check the path") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}", hint="give a config.json") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no table", hint="give a checkpoint's config.json")
    return content


def _neighbour(path: Path) -> "Neighbour | None":
    """Return the quantisation file beside a configuration, None where there is none."""
    from suffice.silicon.checkpoint.quantisation import Neighbour

    stem = path.stem.removesuffix("config")
    for name in NEIGHBOURS:
        beside = path.with_name(f"{stem}{name}" if path.stem != "config" else name)
        if beside != path and beside.exists():
            return Neighbour(name=beside.name, content=_json(beside))
    return None


def _quantised(config: dict[str, Any]) -> bool:
    return _without_quantisation(config) != config


def _without_quantisation(config: dict[str, Any]) -> dict[str, Any]:
    """Leave out what a configuration says of number formats, in its text part too."""
    kept = {key: value for key, value in config.items() if key not in QUANTISATION}
    inner = kept.get("text_config")
    return kept | {"text_config": _without_quantisation(inner)} if isinstance(inner, dict) else kept
