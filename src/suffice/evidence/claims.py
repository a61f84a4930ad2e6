"""The built-in claims, read from `claims.toml`."""

import datetime as dt
import functools
import tomllib
from importlib import resources
from typing import Literal, get_args

import msgspec
from msgspec import Struct

from suffice.config import nearest
from suffice.errors import ConfigError, InputError

Grade = Literal["measured here", "measured by others", "vendor's claim", "no source"]
GRADES: tuple[Grade, ...] = get_args(Grade)
Verdict = Literal["holds", "holds in part", "corrected", "not shown"]


class Claim(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One public claim and what the evidence supports.

    `low` and `high` are the supported range in `unit`; None if the evidence supports no figure.
    `grade` rates the evidence. `source` lists what was read to check the claim, on day `date`.
    `where` is the command that measures the claim on the reader's own work.
    """

    id: str
    claim: str
    who: str
    baseline: str
    workload: str
    share_of_cost: str
    grade: Grade
    verdict: Verdict
    date: dt.date
    source: tuple[str, ...]
    evidence: str
    where: str
    low: float | None = None
    high: float | None = None
    unit: str | None = None

    @property
    def range(self) -> str:
        """The supported range in words."""
        if self.low is None or self.high is None:
            return "no figure is supported"
        figure = f"{self.low:g}" if self.low == self.high else f"{self.low:g} to {self.high:g}"
        return f"{figure} {self.unit}"


@functools.cache
def claims() -> tuple[Claim, ...]:
    """Read the built-in claims, in the order of their file."""
    text = resources.files("suffice.evidence").joinpath("claims.toml").read_text("utf-8")
    return parse_claims(text)


def parse_claims(text: str) -> tuple[Claim, ...]:
    """Read claims from TOML; raises ConfigError for a missing field, a bad range or a shared id."""
    try:
        parsed = msgspec.convert(tomllib.loads(text)["claim"], tuple[Claim, ...])
    except (KeyError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"claims: {error}", hint="docs/claims.md lists the fields") from error
    for claim in parsed:
        _check(claim)
    if len({claim.id for claim in parsed}) < len(parsed):
        raise ConfigError("claims: an id is used twice", hint="give every claim its own")
    return parsed


def find_claim(name: str) -> Claim:
    """Return the claim with an id; raises InputError naming the nearest id."""
    known = {claim.id: claim for claim in claims()}
    if name not in known:
        raise InputError(f"no claim {name!r}", hint=nearest(name, tuple(known)))
    return known[name]


def _check(claim: Claim) -> None:
    texts = ("id", "claim", "who", "baseline", "workload", "share_of_cost", "evidence", "where")
    empty = [name for name in texts if not getattr(claim, name).strip()]
    if empty or not claim.source:
        raise ConfigError(
            f"claim {claim.id!r} lacks {', '.join(empty) or 'a source'}",
            hint="fill it in; write in words what is unknown",
        )
    ends = [claim.low, claim.high, claim.unit]
    if len({value is None for value in ends}) > 1:
        raise ConfigError(f"claim {claim.id!r}: half a range", hint="give low, high and unit")
    if claim.low is not None and claim.high is not None and claim.low > claim.high:
        raise ConfigError(f"claim {claim.id!r}: low is above high", hint="swap them")
