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
EngineKind = Literal["openai", "anthropic", "embedded", "replay", "latent"]
POLICY_MODEL = "suffice"  # the model by which clients of the gateway ask for the policy
_MAY_BE_ZERO = frozenset(
    {"rung_queue", "conversations", "audit_share", "audit_seed", "assumed_usd"}
)
DialectName = Literal["openai", "vllm", "sglang", "llamacpp", "mistral"]


class EngineConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where an engine runs and how to talk to it.

    kind: `openai` (any OpenAI-compatible server), `anthropic` ([the Messages
      API](engines.md)), `embedded` (llama.cpp in this process),
      `replay` (recorded trials), `latent` (a certified [prediction](latent.md))
    url: base URL of an `openai` engine, with its `/v1`; keys never stand in it
    dialect: how this server takes effort and counts tokens: `openai`, `vllm`, `sglang`,
      `llamacpp`, `mistral`
    api_key_env: environment variable that holds the key
    model_path: GGUF file of an `embedded` engine, or the folder of a `latent` one
    packaged: packaged model of an `embedded` engine: `suffice-moe-13m` (the default) or
      `SmolLM2-135M-Instruct`
    trials: trials file of a `replay` engine
    context_tokens: context of an `embedded` engine, shared by its parallel slots
    parallel: how many requests an engine is given at once
    timeout_s: longest silence before the call is given up; an answer that is not streamed is
      one silence
    max_retries: how often a call is tried again when the error says that a retry can help
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
    """One way to price tokens: hosted, stated rates, or chips and measured speed; give exactly one.

    provider: hosted: whose price list `genai-prices` looks up
    model: hosted: the model on that list
    input_usd_per_mtok: stated: dollars per million input tokens
    cache_read_usd_per_mtok: stated: dollars per million tokens read from a cache; the input price
      where absent
    cache_write_usd_per_mtok: stated: dollars per million tokens written to a cache; the input price
      where absent
    output_usd_per_mtok: stated: dollars per million output tokens
    usd_per_thousand_requests: stated: dollars per thousand calls, on top of their tokens
    chip_usd_per_hour: self-hosted: rent of one chip
    chips: self-hosted: how many chips the deployment has
    input_tokens_per_s: self-hosted: measured speed of the whole deployment when it only reads
      prompts
    output_tokens_per_s: self-hosted: measured speed of the whole deployment when it only decodes
    assumed: whether the numbers are a guess: every charge made with them is then an estimate
    source: where the numbers come from
    date: when they were read
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
    """The promise.

    alpha: largest risk allowed
    delta: largest probability that the promise fails
    lapses_after: how long a certificate holds
    """

    alpha: float = 0.05
    delta: float = 0.1
    lapses_after: str = "30d"


AuditLabel = Literal["target", "scorer", "judge", "agreement", "feedback"]


class GatewayConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How `suffice serve` behaves; limits hold for each worker process.

    ledger: file of the books, or `postgresql://` URL
    fsync: have rows survive a power cut too (SQLite)
    store_text: keep prompts, answers and the reasoning shown, as `recertify` needs
    models: further names that clients may use: `{"gpt-4o" = "suffice", "mini" = "small"}`
    effort: what an effort asked of the policy is: `limit`, `refuse` or `ignore`
      ([effort](apis.md#effort))
    defer_streams: streams that the policy may look at first: `hold` them back, or `route` them
      to the reference
    failover: let the next rung up stand in for one that fails, where the reference does not
    deadline_s: longest time for a request, standing in line included
    write_timeout_s: how long a client may not read before it counts as gone
    rung_concurrency: calls to a rung at once
    rung_queue: calls to a rung that may wait in line
    queue_timeout_s: longest wait in that line
    hedge_after_s: seconds after which a rung that has begun no answer is asked
      [once more](gateway.md#hedging): `{big = 5}`
    breaker_failures: failures in a row after which a rung is left alone
    breaker_open_s: how long it is left alone
    body_limit_bytes: largest body of a request
    conversations: how many conversations are remembered
    keys: file of API keys ([keys](keys.md)); without it everybody is let in
    assumed_usd: what a request of unknown cost counts as in a key's budget
    audit_share: share of requests that are audited, with `--certificate` or `--observe`
    audit_seed: draws them; keep it from whoever may choose request ids
    audit_usd_per_day: what audits may cost a day; fewer are drawn so that it lasts
    audit_assumed_usd: what an audit of unknown cost counts as; a budget needs it
    audit_concurrency: audits under way at once
    audit_labels: labels that watch it, of `target`, `scorer`, `judge`, `agreement`, `feedback`
      ([gateway](gateway.md#what-watches-a-certificate))
    audit_scorer: how audits mark answers: `exact`, `choice` or `numeric` agreement with the
      reference, or a `package.module:function` of your own
      ([gateway](gateway.md#what-watches-a-certificate))
    """

    ledger: str = "suffice.db"
    fsync: bool = False
    store_text: bool = False
    models: dict[str, str] = {}
    effort: Literal["limit", "refuse", "ignore"] = "limit"
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
    """The whole file.

    reference: name of the rung whose quality is promised against
    engine: sections `[engine.NAME]`, see below
    ladder: sections `[[ladder]]`, one a rung, cheapest first
    price: sections `[price.NAME]`, which rungs refer to
    targets: section `[targets]`
    gateway: section `[gateway]`, for `suffice serve`
    """

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
