"""Which price a model of a log has: the user's own, or the list price under one of its names."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from suffice.config import PriceConfig, check_unit
from suffice.errors import InputError, PriceError
from suffice.meter import Price, price_for

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, Provider

_REGION = re.compile(r"^(us|eu|apac|global|jp|au)\.")
_VERSION = re.compile(r"(-v\d+(:\d+)?|:\d+)$")
_SUFFIX = re.compile(r"(\[1m\]|@\d{8}|@default|-latest| \((minimal|low|medium|high|xhigh)\))$")
_VERSION_FIRST = re.compile(r"^claude-(\d)[.-](\d)-(opus|sonnet|haiku)")
_DATE = re.compile(r"-(20\d{2}-?\d{2}-?\d{2})$")
_BEDROCK = ("bedrock", "bedrock_converse", "amazon-bedrock", "aws.bedrock")
"""What gateways, agents and OpenTelemetry call Amazon, whose regions have prices of their own."""


def read_prices(path: Path) -> dict[str, Price]:
    """Read the `[price.NAME]` sections of a TOML file; each prices the model of its name.

    Raises InputError for a file that holds none, and ConfigError or PriceError for a wrong one.
    """
    try:
        sections = tomllib.loads(path.read_text("utf-8")).get("price", {})
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read prices of {path}: {error}", hint="write TOML") from error
    if not sections:
        raise InputError(f"{path} has no prices", hint='write sections such as [price."my-model"]')
    prices = {}
    for name, section in sections.items():
        try:
            config = msgspec.convert(section, PriceConfig, strict=False)
        except msgspec.ValidationError as error:
            raise InputError(f"{path}: price.{name}: {error}", hint="mend that key") from error
        check_unit(config, at=f"{path}: price.{name}")
        prices[name] = price_for(name, config)
    return prices


def find_price(model: str, provider: str | None, own: Mapping[str, Price]) -> Price | None:
    """Return the price of a model as a log names it, or None where no list has it.

    The user's `own` prices win, by the name in the log. Else the names under which gateways and
    clouds sell a model are tried, most exact first.
    """
    if model in own:
        return own[model]
    if provider in _BEDROCK or model.partition("/")[0] in _BEDROCK:
        provider = "aws"
    for name in _names(model):
        listed = _listed(name, provider)
        if listed is not None:
            owner, info = listed
            for known in (info.id, name):  # not every id of the list is found by itself
                try:
                    return price_for(model, PriceConfig(provider=owner.id, model=known))
                except PriceError:
                    continue
            return None  # priced by other things than tokens
    return None


def _names(model: str) -> Iterator[str]:
    """Yield the name as it is, without the gateway, the region, the version and the date."""
    name = model.strip().lower()
    yield name
    name = name.rpartition("/")[2]
    yield name
    name = _REGION.sub("", name)
    name = name.partition(".")[2] if re.match(r"^[a-z]+\.[a-z]", name) else name
    yield name
    for pattern in (_VERSION, _SUFFIX, _DATE):
        name = pattern.sub("", name)
        yield name
    yield _VERSION_FIRST.sub(r"claude-\3-\1-\2", name.replace(" ", "-"))  # claude-4.5-sonnet


def _listed(name: str, provider: str | None) -> "tuple[Provider, ModelInfo] | None":
    from genai_prices.data_snapshot import find_provider_by_id, get_snapshot

    snapshot = get_snapshot()
    owner = find_provider_by_id(snapshot.providers, provider) if provider else None
    for known in (owner, None):
        try:
            match: Any = snapshot.find_provider_model(name, known, None, None)
        except LookupError:
            continue
        return match  # type: ignore[no-any-return]
    return None


def cheaper_models(model: str, provider: str | None, own: Mapping[str, Price]) -> list[str]:
    """Name models of the same family and a lower price, the dearest first, to move to.

    Families are known by their names: Opus, Sonnet and Haiku; a GPT and its mini and nano; a
    Gemini's pro, flash and flash-lite.
    """
    name = next((n for n in _names(model) if _listed(n, provider)), None)
    candidates = [] if name is None else list(_siblings(_DATE.sub("", name)))
    here = find_price(model, provider, own)
    cheaper = []
    for candidate in dict.fromkeys(candidates):
        price = find_price(candidate, provider, own)
        if (
            here is not None
            and price is not None
            and price.rates[-1].output_usd_per_mtok < here.rates[-1].output_usd_per_mtok
        ):
            cheaper.append(candidate)
    return cheaper


def _siblings(name: str) -> Iterator[str]:
    if claude := re.match(r"claude-(?:opus|sonnet)-(\d+)(?:-(\d))?", name):
        major, minor = claude[1], claude[2] or "0"
        for kind in ("sonnet", "haiku"):
            yield f"claude-{kind}-{major}-{minor}"
            yield f"claude-{kind}-4-5"
    elif gpt := re.match(r"(gpt-\d+(?:\.\d+)?o?)(?:-codex|-chat)?$", name):
        yield from (f"{gpt[1]}-mini", f"{gpt[1]}-nano", "gpt-5-mini", "gpt-5-nano")
    elif gemini := re.match(r"(gemini-\d+(?:\.\d+)?)-(pro|flash)", name):
        yield from (f"{gemini[1]}-flash", f"{gemini[1]}-flash-lite")
