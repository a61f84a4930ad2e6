"""Checks of a `suffice.toml` whose keys are right: names that point nowhere, odd values."""

import difflib
import re
from decimal import Decimal
from math import isfinite

from suffice.config.sections import (
    POLICY_MODEL,
    CheckConfig,
    Config,
    EngineConfig,
    GatewayConfig,
    PriceConfig,
    Targets,
)
from suffice.errors import ConfigError
from suffice.types import Rung, Vector
from suffice.units import seconds

_LEAST_USD, _MOST_USD = Decimal("0.0005"), Decimal(10_000)
_LEAST_MEMORY = 64 * 1024 * 1024
_SHARES = {"audit_share": 0.02, "rollout": 0.05, "shadow_share": 0.05}
_MAY_BE_ZERO = frozenset(
    {"rung_queue", "conversations", "audit_share", "audit_seed", "assumed_usd", "drain_delay_s"}
)


def nearest(name: str, valid: tuple[str, ...]) -> str:
    """Say which valid name the user probably meant, or list them all."""
    if not valid:
        return "none is defined yet"
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"valid names: {', '.join(sorted(valid))}"


def check_references(config: Config, *, where: str) -> None:
    """Refuse names that point nowhere and promises that mean nothing."""
    names = tuple(rung.name for rung in config.ladder)
    embedding = tuple(rung.name for rung in config.embedding)
    twice = {name for name in names + embedding if (names + embedding).count(name) > 1}
    if twice:
        raise ConfigError(
            f"{where}: two rungs are named {twice.pop()!r}", hint="give each rung its own name"
        )
    if config.reference not in names:
        raise ConfigError(
            f"{where}: reference: no rung {config.reference!r}",
            hint=nearest(config.reference, names),
        )
    if _is_latent(config, next(r for r in config.ladder if r.name == config.reference)):
        raise ConfigError(
            f"{where}: reference: {config.reference!r} is a latent rung, which may abstain",
            hint="name the rung whose answers it predicts",
        )
    for i, rung in enumerate(config.ladder):
        _check_rung(rung, config, at=f"{where}: ladder[{i}]")
    for i, rung in enumerate(config.embedding):
        _check_embedding(rung, config, at=f"{where}: embedding[{i}]")
    for name, engine in config.engine.items():
        _check_engine(engine, at=f"{where}: engine.{name}")
    for name, price in config.price.items():
        _check_amounts(price, at=f"{where}: price.{name}")
        check_unit(price, at=f"{where}: price.{name}")
    for name, check in config.check.items():
        _check_check(check, config, at=f"{where}: check.{name}")
    _check_targets(config.targets, at=f"{where}: targets")
    _check_gateway(config.gateway, names=names + embedding, at=f"{where}: gateway")
    _check_shadow(config, names, at=f"{where}: gateway.shadow_rung")


def _check_rung(rung: Rung, config: Config, *, at: str) -> None:
    if rung.engine not in config.engine:
        raise ConfigError(
            f"{at}.engine: no engine {rung.engine!r}",
            hint=nearest(rung.engine, tuple(config.engine)),
        )
    if rung.price is not None and rung.price not in config.price:
        raise ConfigError(
            f"{at}.price: no price {rung.price!r}", hint=nearest(rung.price, tuple(config.price))
        )
    if _is_latent(config, rung) and rung.vector is not Vector.PARADIGM:
        raise ConfigError(
            f"{at}.vector: {rung.vector.value!r}, but a latent rung saves by not decoding",
            hint='write vector = "paradigm"',
        )


def _check_embedding(rung: Rung, config: Config, *, at: str) -> None:
    _check_rung(rung, config, at=at)
    kind = config.engine[rung.engine].kind
    if kind not in ("openai", "embedded"):
        raise ConfigError(
            f"{at}.engine: {rung.engine!r} is an engine of the kind {kind!r}, which makes no "
            "embeddings",
            hint="name an engine of the kind openai or embedded",
        )
    for key in ("effort", "max_output_tokens", "thinking_budget_tokens", "early_stop"):
        if getattr(rung, key) is not None:
            raise ConfigError(f"{at}.{key}: an embedding has no output", hint="leave it out")


_KEY_OF_KIND = {
    "json_schema": "schema",
    "regex": "pattern",
    "python": "function",
    "command": "command",
    "http": "url",
    "judge": "judge",
}
_KIND_OF_KEY = {
    **{key: kind for kind, key in _KEY_OF_KIND.items()},
    "folder": "command",
    "rubric": "judge",
}


def _check_check(check: CheckConfig, config: Config, *, at: str) -> None:
    wanted = _KEY_OF_KIND[check.kind]
    if not getattr(check, wanted):
        raise ConfigError(
            f"{at}.{wanted}: missing for a check of the kind {check.kind!r}", hint=f"add {wanted}"
        )
    for key, kind in _KIND_OF_KEY.items():
        if getattr(check, key) and kind != check.kind:
            raise ConfigError(
                f"{at}.{key}: not for a check of the kind {check.kind!r}", hint="leave it out"
            )
    _check_check_rungs(check, config, at=at)
    if not (isfinite(check.timeout_s) and check.timeout_s > 0):
        raise ConfigError(f"{at}.timeout_s: {check.timeout_s} is no time", hint="10 is usual")
    if check.memory_bytes < _LEAST_MEMORY:
        raise ConfigError(
            f"{at}.memory_bytes: {check.memory_bytes} is too small", hint="give 64 MiB or more"
        )
    if not (check.usd.is_finite() and check.usd >= 0):
        raise ConfigError(f"{at}.usd: {check.usd} is not an amount", hint="write 0 or more")
    try:
        re.compile(check.pattern or "")
    except re.error as error:
        raise ConfigError(f"{at}.pattern: {error}", hint="write a Python pattern") from error


def _check_check_rungs(check: CheckConfig, config: Config, *, at: str) -> None:
    names = tuple(rung.name for rung in config.ladder)
    for name in (*check.rungs, *([check.judge] if check.judge else [])):
        if name not in names:
            raise ConfigError(f"{at}: no rung {name!r}", hint=nearest(name, names))
    if config.reference in check.rungs:
        raise ConfigError(
            f"{at}.rungs: {config.reference!r} is the reference, whose answers always stay",
            hint="list rungs below it",
        )


def _is_latent(config: Config, rung: Rung) -> bool:
    engine = config.engine.get(rung.engine)
    return engine is not None and engine.kind == "latent"


def check_unit(price: PriceConfig, *, at: str) -> None:
    """Refuse rates that nobody takes for a million tokens; raises ConfigError.

    On the lists of 2026 a million tokens cost from half a cent to 600 dollars.
    """
    for key in price.__struct_fields__:
        amount = getattr(price, key)
        if key.endswith("_usd_per_mtok") and amount and not _LEAST_USD <= amount <= _MOST_USD:
            raise ConfigError(
                f"{at}.{key}: {amount} is no price of a million tokens",
                hint="is it of one token, or of a thousand? multiply it by 1000000 or by 1000",
            )


def _check_amounts(price: PriceConfig, *, at: str) -> None:
    for key in price.__struct_fields__:
        value = getattr(price, key)
        if isinstance(value, int | float | Decimal) and not (isfinite(value) and value >= 0):
            raise ConfigError(f"{at}.{key}: {value} is not an amount", hint="write 0 or more")


def _check_engine(engine: EngineConfig, *, at: str) -> None:
    if not (isfinite(engine.timeout_s) and engine.timeout_s > 0):
        raise ConfigError(f"{at}.timeout_s: {engine.timeout_s} is no time", hint="120 is usual")
    for key in ("context_tokens", "parallel"):
        if getattr(engine, key) < 1:
            raise ConfigError(f"{at}.{key}: {getattr(engine, key)} is too small", hint="write 1+")
    if isinstance(engine.url, tuple) and len({url.rstrip("/") for url in engine.url}) < max(
        1, len(engine.url)
    ):
        raise ConfigError(f"{at}.url: a list of different urls is needed", hint="or one url alone")
    if engine.api_key_env is not None and engine.api_key_file is not None:
        raise ConfigError(f"{at}.api_key_file: the key has two sources", hint="name one of them")
    if engine.max_retries < 0:
        raise ConfigError(f"{at}.max_retries: {engine.max_retries} is below 0", hint="0 for none")


def _check_targets(targets: Targets, *, at: str) -> None:
    for name in ("alpha", "delta"):
        if not 0 < getattr(targets, name) < 1:
            raise ConfigError(f"{at}.{name} must lie between 0 and 1", hint="0.05 is a usual value")
    _check_duration(targets.lapses_after, at=f"{at}.lapses_after")


def _check_duration(text: str, *, at: str) -> None:
    try:
        seconds(text)
    except ValueError as error:
        raise ConfigError(f"{at}: {error}", hint="`30d` is a usual value") from error


def _check_gateway(gateway: GatewayConfig, *, names: tuple[str, ...], at: str) -> None:
    for alias, rung in gateway.models.items():
        if rung not in (POLICY_MODEL, *names):
            raise ConfigError(
                f"{at}.models.{alias}: no rung {rung!r}", hint=nearest(rung, (POLICY_MODEL, *names))
            )
    if POLICY_MODEL in names:
        raise ConfigError(
            f"{at}: a rung is named {POLICY_MODEL!r}, which clients ask the policy by",
            hint="give that rung another name",
        )
    if gateway.responses_ttl is not None:
        _check_duration(gateway.responses_ttl, at=f"{at}.responses_ttl")
    _check_hedges(gateway.hedge_after_s, names=names, at=f"{at}.hedge_after_s")
    for key in gateway.__struct_fields__:
        value = getattr(gateway, key)
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            continue
        if not isfinite(value):
            raise ConfigError(f"{at}.{key}: {value} is no number", hint="leave it out if in doubt")
        if not (value >= 0 if key in _MAY_BE_ZERO else value > 0):
            raise ConfigError(f"{at}.{key}: {value} is too small", hint="leave it out if in doubt")
    _check_tag_budgets(gateway.tag_budget_usd_per_day, at=f"{at}.tag_budget_usd_per_day")
    over = [key for key in _SHARES if getattr(gateway, key) > 1]
    if over:
        raise ConfigError(
            f"{at}.{over[0]}: {getattr(gateway, over[0])} is over 1",
            hint=f"{_SHARES[over[0]]} is usual",
        )


def _check_shadow(config: Config, names: tuple[str, ...], *, at: str) -> None:
    rung = config.gateway.shadow_rung
    if rung is not None and rung not in names:
        raise ConfigError(f"{at}: no rung {rung!r}", hint=nearest(rung, names))
    if rung == config.reference:
        raise ConfigError(
            f"{at}: {rung!r} is the reference, which a shadow is compared with",
            hint="name the rung that you want to try",
        )


def _check_tag_budgets(budgets: dict[str, Decimal], *, at: str) -> None:
    for tag, usd in budgets.items():
        if not (usd.is_finite() and usd > 0):
            raise ConfigError(f"{at}.{tag}: {usd} is no budget", hint="write more than 0")


def _check_hedges(after_s: dict[str, float], *, names: tuple[str, ...], at: str) -> None:
    for rung, wait_s in after_s.items():
        if rung not in names:
            raise ConfigError(f"{at}: no rung {rung!r}", hint=nearest(rung, names))
        if not (isfinite(wait_s) and wait_s > 0):
            raise ConfigError(
                f"{at}.{rung}: {wait_s} is too small",
                hint="the time in which 19 of 20 answers begin is a usual value",
            )
