"""Everything that one configuration makes of the gateway; a reload puts a new one in its place."""

import hashlib
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from msgspec import Struct

from suffice.certify.bundle import Bundle, load_bundle
from suffice.config import POLICY_MODEL, Config, GatewayConfig, load_config
from suffice.deployment import build_engines, read_secret
from suffice.engines.dialect import Dialect
from suffice.engines.dialects import dropped_fields
from suffice.engines.messages import left_out
from suffice.engines.response_requests import left_out as left_out_of_responses
from suffice.engines.servers import DIALECTS, at_url
from suffice.errors import ConfigError
from suffice.gateway.concurrency import Places
from suffice.gateway.keys import Key
from suffice.gateway.metrics.engine_spans import traced
from suffice.guarantee.clusters import Per
from suffice.ledger import Label, Ledger
from suffice.pipeline import Pipeline, build_pipeline
from suffice.scoring.audit_rule import AuditRule
from suffice.scoring.guard import Guard
from suffice.sessions.identity import LEAST_KEY_BYTES, MOST_KEY_BYTES
from suffice.sessions.rollout import RollOut
from suffice.types import JSON, Request, Rung


class Settings(Struct, frozen=True, kw_only=True):
    """What `suffice serve` was told; `observe` answers as asked and only reports savings.

    Where public keys are given to `trust`, one of them must have signed the certificate. In the
    folder `shared` the workers publish their metrics; None for a single worker.
    """

    ladder: Path
    policy: Path | None = None
    trust: tuple[Path, ...] = ()
    observe: bool = False
    workers: int = 1
    shared: Path | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Serving:
    """One configuration at work; `places` bound what its engines are given.

    The engines of `native_rungs` speak Anthropic's API; the names in `native_models` lead to such
    rungs alone, those in `caching_models` to engines that heed `cache_control` in chat requests.
    `dialects` are those of rungs, by name.
    """

    config: Config
    settings: Settings
    pipeline: Pipeline
    places: Places
    models: Mapping[str, Rung | None]
    embeddings: Mapping[str, Rung]
    native_rungs: frozenset[str]
    native_models: frozenset[str]
    caching_models: frozenset[str]
    dialects: Mapping[str, Dialect]
    guard: Guard
    rollout: RollOut
    id_key: bytes | None = None

    def dropped(self, request: Request, rung: Rung) -> tuple[str, ...]:
        """Name the fields of a chat request that do not reach the engine of a rung as they are."""
        if rung.name in self.native_rungs:
            return left_out(request.params, rung)
        if self.config.engine[rung.engine].kind == "responses":
            return left_out_of_responses(request.params, rung)
        dialect = self.dialects.get(rung.name)
        return () if dialect is None else dropped_fields(request, rung, dialect=dialect)

    async def close(self) -> None:
        """Close the engines and checks."""
        async with AsyncExitStack() as stack:
            for engine in self.pipeline.engines.values():
                stack.push_async_callback(engine.close)
            if self.pipeline.checks is not None:
                stack.push_async_callback(self.pipeline.checks.close)


def read_settings(settings: Settings) -> tuple[Config, Bundle | None]:
    """Read the files that settings name; raises ConfigError, InputError or CertificateError."""
    bundle = None if settings.policy is None else load_bundle(settings.policy, trust=settings.trust)
    return load_config(settings.ladder), bundle


def build_serving(
    settings: Settings, config: Config, bundle: Bundle | None, *, ledger: Ledger
) -> Serving:
    """Join the parts without a call to any engine; raises ConfigError where they do not fit."""
    _check_unit(config.gateway, bundle)
    rungs = (*config.ladder, *config.embedding)
    native_rungs, dialects = _native_rungs(config), _dialects(config)
    caching = frozenset(name for name, dialect in dialects.items() if dialect.caches)
    places = Places((rung.name for rung in rungs), config.gateway)
    engines = traced(build_engines(config), config)
    pipeline = build_pipeline(config, engines=engines, ledger=ledger, bundle=bundle)
    pipeline = replace(
        pipeline,
        failover=config.gateway.failover,
        place=places.place,
        hedge_after_s=config.gateway.hedge_after_s,
        spare=places.spare,
    )
    return Serving(
        config=config,
        settings=settings,
        pipeline=pipeline,
        places=places,
        models=_models(config, pipeline),
        embeddings=_embeddings(config),
        native_rungs=native_rungs,
        native_models=_models_of(native_rungs, config, pipeline),
        caching_models=_models_of(caching, config, pipeline),
        dialects=dialects,
        id_key=_id_key(config.gateway),
        guard=Guard(
            ledger,
            bundle.certificate if bundle else None,
            rule=_audit_rule(config.gateway, watching=bundle is not None or settings.observe),
        ),
        rollout=RollOut(config.gateway.rollout),
    )


def _check_unit(gateway: GatewayConfig, bundle: Bundle | None) -> None:
    per = None if bundle is None else bundle.certificate.per
    if gateway.route_by == "session" and per not in (None, Per.SESSION):
        raise ConfigError(
            'gateway.route_by is "session", and the certificate promises per request',
            hint="certify trials of whole sessions with --per session, or route by request",
        )


def _id_key(gateway: GatewayConfig) -> bytes | None:
    """Read the secret of ids; raises ConfigError for one that is too short to be one."""
    if gateway.id_key_file is None:
        return None
    secret = read_secret(gateway.id_key_file, at="gateway.id_key_file").encode()
    if not LEAST_KEY_BYTES <= len(secret) <= MOST_KEY_BYTES:
        raise ConfigError(
            f"gateway.id_key_file: {len(secret)} bytes are no secret for ids",
            hint=f"write {LEAST_KEY_BYTES} to {MOST_KEY_BYTES}, as `openssl rand -hex 32` does",
        )
    return secret


def states_of(serving: Serving, keys: Mapping[str, Key]) -> dict[str, JSON]:
    """Say what the log of changes keeps of keys, configuration and certificate; no secret."""
    bundle = serving.pipeline.bundle
    config = msgspec.json.encode(serving.config, order="sorted")
    states: dict[str, JSON] = {
        "configuration": {"sha256": hashlib.sha256(config).hexdigest()},
        "certificate": {
            "certificate_id": bundle.certificate.certificate_id if bundle else None,
            "trusted": [path.name for path in serving.settings.trust],
        },
    }
    for name, key in keys.items():
        state = {k: v for k, v in msgspec.to_builtins(key).items() if k not in ("name", "former")}
        states[f"key {name}"] = state | {"digest": key.digest[:8]}
    return states


def _audit_rule(config: GatewayConfig, *, watching: bool) -> AuditRule:
    """Audit what a certificate is watched by, or what `observe` learns from; nothing else."""
    return AuditRule(
        share=config.audit_share if watching else 0.0,
        seed=config.audit_seed,
        usd_per_day=config.audit_usd_per_day,
        assumed_usd=config.audit_assumed_usd,
        labels=tuple(map(Label, config.audit_labels)),
    )


def _models(config: Config, pipeline: Pipeline) -> dict[str, Rung | None]:
    """Map every name that clients may ask for to its rung, or to None for the policy."""
    models: dict[str, Rung | None] = {POLICY_MODEL: None}
    models |= {rung.name: rung for rung in pipeline.ladder}
    aliases = config.gateway.models.items()
    return models | {alias: models[rung] for alias, rung in aliases if rung in models}


def _embeddings(config: Config) -> dict[str, Rung]:
    """Map every name that embeddings may be asked for by to its rung."""
    rungs = {rung.name: rung for rung in config.embedding}
    aliases = config.gateway.models.items()
    return rungs | {alias: rungs[rung] for alias, rung in aliases if rung in rungs}


def _native_rungs(config: Config) -> frozenset[str]:
    kinds = {name: engine.kind for name, engine in config.engine.items()}
    return frozenset(rung.name for rung in config.ladder if kinds[rung.engine] == "anthropic")


def _dialects(config: Config) -> dict[str, Dialect]:
    """Map every rung whose engine speaks OpenAI's chat API to its dialect."""
    engines = {rung.name: config.engine[rung.engine] for rung in config.ladder}
    dialects = {
        name: at_url(DIALECTS[engine.dialect], engine.first_url)
        for name, engine in engines.items()
        if engine.kind == "openai"
    }
    embedded = [name for name, engine in engines.items() if engine.kind == "embedded"]
    return dialects | dict.fromkeys(embedded, DIALECTS["llamacpp"])


def _models_of(kind: frozenset[str], config: Config, pipeline: Pipeline) -> frozenset[str]:
    """Name the models whose requests only such rungs answer, also when one stands in for another.

    A request of the policy may go to any rung, and without one to the reference and above.
    """
    rungs = list(pipeline.ladder)
    names = set()
    for name, rung in _models(config, pipeline).items():
        start = rung or (pipeline.ladder.reference if pipeline.bundle is None else rungs[0])
        first = rungs.index(start)
        above = rungs[first:] if config.gateway.failover or rung is None else [start]
        if all(other.name in kind for other in above):
            names.add(name)
    return frozenset(names)
