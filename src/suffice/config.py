"""`suffice.toml`: the one strict file that names engines, rungs, prices and targets."""

import difflib
import os
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from suffice.errors import ConfigError
from suffice.types import Rung, Vector
from suffice.units import seconds

S = TypeVar("S", bound=Struct)
Table = dict[str, Any]
EngineKind = Literal["openai", "embedded", "replay", "latent"]
POLICY_MODEL = "suffice"  # the model by which clients of the gateway ask for the policy
_MAY_BE_ZERO = frozenset(
    {"rung_queue", "conversations", "audit_share", "audit_seed", "assumed_usd"}
)
DialectName = Literal["openai", "vllm", "sglang", "llamacpp", "mistral"]


class EngineConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where an engine runs and how to talk to it; `timeout_s` bounds silence, not the answer.

    An answer that is not streamed is one silence. `context_tokens` is shared out evenly among
    `parallel` requests.
    """

    kind: EngineKind
    url: str | None = None
    dialect: DialectName = "openai"
    api_key_env: str | None = None
    model_path: str | None = None
    packaged: str | None = None
    trials: str | None = None
    context_tokens: int = 8192
    parallel: int = 4
    timeout_s: float = 120.0
    max_retries: int = 2


class PriceConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way to price tokens: a hosted list price, stated rates, or chips and measured speed.

    Give exactly one of: `provider` and `model` (looked up in genai-prices); `input_usd_per_mtok`
    and `output_usd_per_mtok`, `usd_per_thousand_requests` on top; `chip_usd_per_hour` with
    `input_tokens_per_s` and `output_tokens_per_s` of the whole deployment. With `assumed`, every
    charge is an estimate.
    """

    provider: str | None = None
    model: str | None = None
    input_usd_per_mtok: Decimal | None = None
    cache_read_usd_per_mtok: Decimal | None = None
    cache_write_usd_per_mtok: Decimal | None = None
    output_usd_per_mtok: Decimal | None = None
    usd_per_thousand_requests: Decimal | None = None
    chip_usd_per_hour: Decimal | None = None
    chips: int = 1
    input_tokens_per_s: float | None = None
    output_tokens_per_s: float | None = None
    assumed: bool = False
    source: str | None = None
    date: str | None = None


class Targets(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The promise: risk at most `alpha`, except with probability `delta`, for `lapses_after`."""

    alpha: float = 0.05
    delta: float = 0.1
    lapses_after: str = "30d"


AuditLabel = Literal["target", "scorer", "judge", "agreement", "feedback"]


class GatewayConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How `suffice serve` behaves; limits hold for each worker process.

    `models` gives further names to rungs, or to the policy (`suffice`). Where the policy may look
    at an answer before it stays, streams are held back until then, or (`route`) go to the
    reference. `deadline_s` bounds a request from its last byte in to its last byte out. A rung in
    `hedge_after_s` that has begun no answer after so many seconds is asked once more. Audits are
    drawn by `audit_share`; a day's budget for them needs `audit_assumed_usd`. Without
    `audit_labels` the certificate decides what labels watch it.
    """

    ledger: str = "suffice.db"
    fsync: bool = False
    store_text: bool = False
    models: dict[str, str] = {}
    defer_streams: Literal["hold", "route"] = "hold"
    failover: bool = True
    deadline_s: float = 600.0
    write_timeout_s: float = 60.0
    rung_concurrency: int = 256
    rung_queue: int = 1024
    queue_timeout_s: float = 30.0
    hedge_after_s: dict[str, float] = {}
    breaker_failures: int = 5
    breaker_open_s: float = 10.0
    body_limit_bytes: int = 16 * 1024 * 1024
    conversations: int = 10_000
    keys: str | None = None
    assumed_usd: Decimal = Decimal("0.01")
    audit_share: float = 0.02
    audit_seed: int = 0
    audit_usd_per_day: Decimal | None = None
    audit_assumed_usd: Decimal | None = None
    audit_concurrency: int = 4
    audit_labels: tuple[AuditLabel, ...] = ()
    audit_scorer: str = "exact"


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file; `ladder` lists rungs cheapest first, `reference` names the promised one."""

    reference: str
    engine: dict[str, EngineConfig]
    ladder: tuple[Rung, ...]
    price: dict[str, PriceConfig] = {}
    targets: Targets = Targets()
    gateway: GatewayConfig = GatewayConfig()


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
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{where} is not TOML: {error}", hint="check quotes and brackets there"
        ) from error
    config = _convert(tree, where=where)
    _check_references(config, where=where)
    return config


def nearest(name: str, valid: tuple[str, ...]) -> str:
    """Say which valid name the user probably meant, or list them all."""
    if not valid:
        return "none is defined yet"
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"valid names: {', '.join(sorted(valid))}"


def _convert(tree: Table, *, where: str) -> Config:
    """Check the tables one by one, so that every complaint carries the path of its key."""
    _refuse_unknown(tree, Config, at=f"{where}:")
    rest = {key: tree[key] for key in ("reference",) if key in tree}
    tables = {
        "engine": named_structs(tree.get("engine", {}), EngineConfig, at=f"{where}: engine"),
        "price": named_structs(tree.get("price", {}), PriceConfig, at=f"{where}: price"),
        "targets": to_struct(tree.get("targets", {}), Targets, at=f"{where}: targets"),
        "gateway": to_struct(tree.get("gateway", {}), GatewayConfig, at=f"{where}: gateway"),
        "ladder": _listed(tree.get("ladder", []), Rung, at=f"{where}: ladder"),
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


def _check_references(config: Config, *, where: str) -> None:
    """Refuse names that point nowhere and promises that mean nothing."""
    names = tuple(rung.name for rung in config.ladder)
    twice = {name for name in names if names.count(name) > 1}
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
    for name, price in config.price.items():
        _check_amounts(price, at=f"{where}: price.{name}")
    _check_targets(config.targets, at=f"{where}: targets")
    _check_gateway(config.gateway, names=names, at=f"{where}: gateway")


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


def _is_latent(config: Config, rung: Rung) -> bool:
    engine = config.engine.get(rung.engine)
    return engine is not None and engine.kind == "latent"


def _check_amounts(price: PriceConfig, *, at: str) -> None:
    for key in price.__struct_fields__:
        value = getattr(price, key)
        if isinstance(value, int | float | Decimal) and not value >= 0:
            raise ConfigError(f"{at}.{key}: {value} is not an amount", hint="write 0 or more")


def _check_targets(targets: Targets, *, at: str) -> None:
    for name in ("alpha", "delta"):
        if not 0 < getattr(targets, name) < 1:
            raise ConfigError(f"{at}.{name} must lie between 0 and 1", hint="0.05 is a usual value")
    try:
        seconds(targets.lapses_after)
    except ValueError as error:
        raise ConfigError(f"{at}.lapses_after: {error}", hint="`30d` is a usual value") from error


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
    _check_hedges(gateway.hedge_after_s, names=names, at=f"{at}.hedge_after_s")
    for key in gateway.__struct_fields__:
        value = getattr(gateway, key)
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            continue
        if not (value >= 0 if key in _MAY_BE_ZERO else value > 0):
            raise ConfigError(f"{at}.{key}: {value} is too small", hint="leave it out if in doubt")
    if gateway.audit_share > 1:
        raise ConfigError(
            f"{at}.audit_share: {gateway.audit_share} is over 1", hint="0.02 is usual"
        )


def _check_hedges(after_s: dict[str, float], *, names: tuple[str, ...], at: str) -> None:
    for rung, wait_s in after_s.items():
        if rung not in names:
            raise ConfigError(f"{at}: no rung {rung!r}", hint=nearest(rung, names))
        if not wait_s > 0:
            raise ConfigError(
                f"{at}.{rung}: {wait_s} is too small",
                hint="the time in which 19 of 20 answers begin is a usual value",
            )
