"""Read a consolidation from TOML: deployments with their demand, and the one that replaces them."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from suffice.errors import ConfigError
from suffice.silicon.fleet import Consolidation, Deployment, consolidate
from suffice.silicon.models import find_shape
from suffice.silicon.plan import make_plan
from suffice.silicon.question import PlanRequest, Slo, Workload


class _Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table: a model on a chip, its lengths, and (not in `together`) its demand."""

    model: str
    chip: str
    input_tokens: float
    output_tokens: float
    name: str = "together"
    engine: str = "vllm"
    ttft_s: float | None = None
    tpot_s: float | None = None
    requests_per_s: tuple[float, ...] = ()


class _FleetFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    together: _Part
    deployment: tuple[_Part, ...]
    redundancy: int = 1
    headroom: float = 0.8


def compare(path: Path) -> Consolidation:
    """Plan every deployment and the one, then size both fleets; raises ConfigError."""
    try:
        tree: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
        file = msgspec.convert(tree, _FleetFile)
    except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(
            f"cannot use {path}: {error}", hint="docs/silicon.md shows such a file"
        ) from error
    apart = [
        Deployment(name=part.name, option=_option(part), requests_per_s=part.requests_per_s)
        for part in file.deployment
    ]
    return consolidate(
        apart, together=_option(file.together), redundancy=file.redundancy, headroom=file.headroom
    )


def _option(part: _Part) -> Any:
    request = PlanRequest(
        model=find_shape(part.model),
        chips=(part.chip,),
        engine=part.engine,
        workload=Workload(input_tokens=part.input_tokens, output_tokens=part.output_tokens),
        slo=Slo(ttft_s=part.ttft_s, tpot_s=part.tpot_s),
    )
    return make_plan(request, with_frontier=False).ranking[0]
