"""One suffice.toml at work: its engines, built and opened."""

import importlib.util
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from suffice.config import Config, EngineConfig
from suffice.engines.base import Engine
from suffice.engines.dialect import Dialect
from suffice.engines.dialects import check_rung, request_body
from suffice.engines.response_requests import check_params, response_body
from suffice.engines.servers import DIALECTS, vendor_at
from suffice.errors import ConfigError, MissingExtra
from suffice.ladder import build_ladder
from suffice.meter import charge, price_for
from suffice.scoring.checks import Checks
from suffice.scoring.scorers import check_scorer, find_scorer
from suffice.types import JSON, Charge, Completion, Request, Rung

_NOT_OF_A_RUNG = frozenset({"messages", "input", "stream"})


async def opened(stack: AsyncExitStack, config: Config) -> dict[str, Engine]:
    """Open every engine of a configuration until the stack unwinds."""
    engines = build_engines(config)
    for engine in engines.values():
        stack.push_async_callback(engine.close)
    return engines


def build_engines(config: Config) -> dict[str, Engine]:
    """Make every engine of a configuration, by name, without a call to any of them.

    Raises ConfigError for a rung that its engine cannot be asked for, a missing key or a bad url,
    MissingExtra where a model or an encoder is not installed, and CertificateError for a latent
    rung or an early stop whose certificate does not hold.
    """
    for rung in config.ladder:
        _check_on_engine(rung, config.engine[rung.engine])
    return {
        name: _stopping(config, name, open_engine(name, engine))
        for name, engine in config.engine.items()
    }


def build_checks(config: Config, engines: Mapping[str, Engine]) -> Checks | None:
    """Make the checks of a configuration; None where it has none.

    Raises InputError for a function that cannot be found, MissingExtra without a library for JSON
    schemas.
    """
    if not config.check:
        return None
    for name, check in config.check.items():
        if check.kind == "python":
            find_scorer(check.function or "", at=f"check.{name}.function")
        if check.kind == "json_schema":
            check_scorer("json_schema", target=check.schema, options={}, at=f"check.{name}")
    ladder = build_ladder(config)
    prices = {name: price_for(name, price) for name, price in config.price.items()}

    async def call(request: Request, rung: Rung) -> tuple[Completion, Charge]:
        completion = await engines[rung.engine].complete(request, rung)
        return completion, charge(completion.usage, prices.get(rung.price or ""))

    return Checks(
        config.check,
        below=tuple(rung.name for rung in ladder.below_reference),
        judges={rung.name: rung for rung in ladder},
        call=call,
    )


def open_engine(name: str, config: EngineConfig) -> Engine:
    """Make one engine; only the libraries of its kind are imported."""
    if config.kind == "replay":
        from suffice.engines.replay import ReplayEngine, read_trials

        if config.trials is None:
            raise ConfigError(
                f"engine {name!r} replays, but names no trials", hint='set trials = "trials.jsonl"'
            )
        return ReplayEngine(read_trials(config.trials))
    if config.kind == "embedded":
        from suffice.engines.embedded import EmbeddedEngine

        if importlib.util.find_spec("xllamacpp") is None:
            raise MissingExtra(
                f"engine {name!r} is embedded, and llama.cpp is not installed",
                hint="pip install 'suffice[embedded]'",
            )
        return EmbeddedEngine(config)
    if config.kind == "latent":
        from suffice.latent.rung_folder import load_rung

        if config.model_path is None:
            raise ConfigError(
                f"engine {name!r} is latent, but names no folder",
                hint='set model_path to the folder that "suffice latent fit" wrote',
            )
        return load_rung(Path(config.model_path))
    if config.kind == "anthropic":
        from suffice.engines.anthropic import AnthropicEngine

        return AnthropicEngine(config, api_key=_api_key(name, config))
    if config.kind == "responses":
        from suffice.engines.responses import ResponsesEngine

        return ResponsesEngine(config, api_key=_api_key(name, config))
    from suffice.engines.openai import OpenAIEngine

    return OpenAIEngine(config, api_key=_api_key(name, config))


def _stopping(config: Config, name: str, engine: Engine) -> Engine:
    rungs = [rung for rung in config.ladder if rung.engine == name and rung.early_stop is not None]
    if not rungs:
        return engine
    from suffice.early_stop.rules_folder import with_early_stop

    return with_early_stop(engine, rungs)


def _dialect_of(config: EngineConfig) -> Dialect | None:
    """Return the dialect that an engine speaks; None for one that sends nothing."""
    if config.kind in ("replay", "latent", "anthropic"):
        return None
    if config.kind == "embedded":
        return DIALECTS["llamacpp"]
    if config.kind == "responses":
        return DIALECTS["openai"]
    return vendor_at(config.first_url, dialect=DIALECTS[config.dialect])


def request_fields(rung: Rung, config: EngineConfig) -> JSON:
    """Return what a rung adds to every request; {} where the engine sends nothing anywhere.

    Raises ConfigError for a rung that its engine cannot be asked for.
    """
    _check_on_engine(rung, config)
    dialect = _dialect_of(config)
    if dialect is None:
        return {}
    nothing = Request(request_id="", messages=())
    if config.kind == "responses":
        body = response_body(nothing, rung, stream=False)
    else:
        body = request_body(nothing, rung, dialect=dialect, stream=False)
    return {field: value for field, value in body.items() if field not in _NOT_OF_A_RUNG}


def _check_on_engine(rung: Rung, config: EngineConfig) -> None:
    dialect = _dialect_of(config)
    if dialect is not None:
        check_rung(rung, dialect=dialect)
    elif rung.early_stop is not None:
        raise ConfigError(
            f"rung {rung.name!r}: a {config.kind} engine does not reason, so there is nothing to "
            "stop early",
            hint="remove early_stop",
        )
    if config.kind == "responses":
        check_params(rung)


def read_secret(path: str, *, at: str) -> str:
    """Read a secret from a file of one line; raises ConfigError, which does not show it."""
    try:
        secret = Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{at}: cannot read {path}: {type(error).__name__}", hint="is it there, and readable?"
        ) from error
    if not secret or not secret.isprintable():
        raise ConfigError(f"{at}: {path} holds no secret of one line", hint="write it there")
    return secret


def _api_key(name: str, config: EngineConfig) -> str | None:
    if config.api_key_file is not None:
        return read_secret(config.api_key_file, at=f"engine.{name}.api_key_file")
    if config.api_key_env is None:
        return None
    key = os.environ.get(config.api_key_env)
    if not key:
        raise ConfigError(
            f"engine {name!r} takes its key from {config.api_key_env}, which is not set",
            hint=f"export {config.api_key_env}=...",
        )
    return key
