"""Reading `suffice.toml`; every complaint carries the path of its key."""

import os
import tomllib
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from suffice.config.checks import check_references, nearest
from suffice.config.sections import (
    CheckConfig,
    Config,
    EngineConfig,
    GatewayConfig,
    PriceConfig,
    Targets,
)
from suffice.errors import ConfigError
from suffice.types import Rung

S = TypeVar("S", bound=Struct)
Table = dict[str, Any]


def load_config(path: str | os.PathLike[str]) -> Config:
    """Read a `suffice.toml`; raises ConfigError naming the key and the nearest valid one."""
    try:
        text = Path(path).read_text("utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}",
            hint="`suffice init` writes an example to start from",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not text: {error.reason}", hint="write it as UTF-8"
        ) from error
    return parse_config(text, where=str(path))


def parse_config(text: str, *, where: str = "suffice.toml") -> Config:
    """Turn TOML text into a checked Config; raises ConfigError."""
    try:
        tree = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(
            f"{where} is not TOML: {error}", hint="check quotes and brackets there"
        ) from error
    config = _convert(tree, where=where)
    check_references(config, where=where)
    return config


def _convert(tree: Table, *, where: str) -> Config:
    """Check the tables one by one, so that every complaint carries the path of its key."""
    _refuse_unknown(tree, Config, at=f"{where}:")
    rest = {key: tree[key] for key in ("reference",) if key in tree}
    tables = {
        "engine": named_structs(tree.get("engine", {}), EngineConfig, at=f"{where}: engine"),
        "price": named_structs(tree.get("price", {}), PriceConfig, at=f"{where}: price"),
        "check": named_structs(tree.get("check", {}), CheckConfig, at=f"{where}: check"),
        "targets": to_struct(tree.get("targets", {}), Targets, at=f"{where}: targets"),
        "gateway": to_struct(tree.get("gateway", {}), GatewayConfig, at=f"{where}: gateway"),
        "ladder": _listed(tree.get("ladder", []), Rung, at=f"{where}: ladder"),
        "embedding": _listed(tree.get("embedding", []), Rung, at=f"{where}: embedding"),
    }
    return to_struct(rest | tables, Config, at=f"{where}:")


def named_structs(tables: object, struct: type[S], *, at: str) -> dict[str, S]:
    """Turn a table of named tables into structs; raises ConfigError that starts with `at`."""
    if not isinstance(tables, dict):
        raise ConfigError(
            f"{at} is not a table", hint=f"write [{at.rsplit(' ', 1)[-1]}.NAME] sections"
        )
    return {name: to_struct(table, struct, at=f"{at}.{name}") for name, table in tables.items()}


def _listed(tables: object, struct: type[S], *, at: str) -> tuple[S, ...]:
    if not isinstance(tables, list):
        raise ConfigError(
            f"{at} is not a list of tables", hint=f"write [[{at.rsplit(' ', 1)[-1]}]] sections"
        )
    return tuple(to_struct(table, struct, at=f"{at}[{i}]") for i, table in enumerate(tables))


def to_struct(table: object, struct: type[S], *, at: str) -> S:
    """Turn a TOML table into a struct; raises ConfigError that starts with `at` and the key."""
    if not isinstance(table, dict):
        raise ConfigError(
            f"{at} is not a table", hint="write it as a section with `key = value` lines"
        )
    _refuse_unknown(table, struct, at=at)
    try:
        return msgspec.convert(table, struct)
    except msgspec.ValidationError as error:
        message, _, key = str(error).partition(" - at `$.")
        place = _join(at, key.rstrip("`")) if key else at.rstrip(":")
        raise ConfigError(
            f"{place}: {message}", hint="docs/configuration.md lists every key"
        ) from error


def _join(at: str, key: str) -> str:
    return f"{at} {key}" if at.endswith(":") else f"{at}.{key}"


def _refuse_unknown(table: Table, struct: type[Struct], *, at: str) -> None:
    for key in table:
        if key not in struct.__struct_fields__:
            raise ConfigError(
                f"{_join(at, key)}: unknown key", hint=nearest(key, struct.__struct_fields__)
            )
