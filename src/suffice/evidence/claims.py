"""Claims as data: each with its baseline, workload, range, grade, date, source and a command."""

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
    """One public claim and what is left of it.

    `low` and `high` are what the evidence supports, in `unit`; None where it supports no figure.
    `grade` is that of the evidence; `source` is what was read to check the claim, `date` its day;
    `where` is the command with which anybody can measure it on work of their own.
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
        between = f"{self.low:g}" if self.low == self.high else f"{self.low:g} to {self.high:g}"
        return f"{between} {self.unit}"


@functools.cache
def claims() -> tuple[Claim, ...]:
    """Read the built-in claims, in the order of the argument they belong to."""
    text = resources.files("suffice.evidence").joinpath("claims.toml").read_text("utf-8")
    return parse_claims(text)


def parse_claims(text: str) -> tuple[Claim, ...]:
    """Read claims from TOML; raises ConfigError for a missing field, a bad range or a twin."""
    try:
        found = msgspec.convert(tomllib.loads(text)["claim"], tuple[Claim, ...])
    except (KeyError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"claims: {error}", hint="docs/claims.md lists the fields") from error
    for claim in found:
        _check(claim)
    if len({claim.id for claim in found}) < len(found):
        raise ConfigError("claims: an id stands twice", hint="give every claim its own")
    return found


def find_claim(name: str) -> Claim:
    """Look a claim up by its id; raises InputError with the nearest one."""
    known = {claim.id: claim for claim in claims()}
    if name not in known:
        raise InputError(f"no claim {name!r}", hint=nearest(name, tuple(known)))
    return known[name]


def _check(claim: Claim) -> None:
    texts = ("id", "claim", "who", "baseline", "workload", "share_of_cost", "evidence", "where")
    empty = [name for name in texts if not getattr(claim, name).strip()]
    if empty or not claim.source:
        raise ConfigError(
            f"claim {claim.id!r} lacks {', '.join(empty) or 'a source'}", hint="say so in words"
        )
    known = [claim.low, claim.high, claim.unit]
    if len({value is None for value in known}) > 1:
        raise ConfigError(f"claim {claim.id!r}: half a range", hint="give low, high and unit")
    if claim.low is not None and claim.high is not None and claim.low > claim.high:
        raise ConfigError(f"claim {claim.id!r}: low is above high", hint="swap them")
