"""From one replica to a fleet: chips for a demand curve, and several deployments against one."""

import math
from collections.abc import Sequence
from decimal import Decimal
from statistics import fmean

from msgspec import Struct

from suffice.errors import InputError
from suffice.silicon.option import Option


class Deployment(Struct, frozen=True, kw_only=True):
    """One model's traffic and the option that serves it; `requests_per_s` is one value an interval.

    All curves of a comparison have the same number of intervals (a day by hours, say).
    """

    name: str
    option: Option
    requests_per_s: tuple[float, ...]


class Fleet(Struct, frozen=True, kw_only=True):
    """What deployments take: chips, whole replicas, dollars an hour (None without a price).

    `busy` is the share of the fleet's capacity that the mean demand uses.
    """

    deployments: int
    replicas: int
    chips: int
    usd_per_hour: Decimal | None
    busy: float


class Consolidation(Struct, frozen=True, kw_only=True):
    """Several deployments against one: both fleets, and the shares saved (may be negative)."""

    apart: Fleet
    together: Fleet

    @property
    def deployments_saved(self) -> float:
        """Share of deployments that no longer need running."""
        return 1 - self.together.deployments / self.apart.deployments

    @property
    def chips_saved(self) -> float:
        """Share of chips saved by shared peaks and shared spares."""
        return 1 - self.together.chips / self.apart.chips

    @property
    def usd_saved(self) -> float | None:
        """Share of dollars saved, None where a price is unknown."""
        before, after = self.apart.usd_per_hour, self.together.usd_per_hour
        return None if before is None or after is None else float(1 - after / before)


def size_fleet(
    deployments: Sequence[Deployment], *, redundancy: int = 1, headroom: float = 0.8
) -> Fleet:
    """Size every deployment for its own peak at `headroom` of capacity, plus spare replicas."""
    if not deployments:
        raise InputError("no deployment to size", hint="name at least one")
    if not 0 < headroom <= 1 or redundancy < 0:
        raise InputError(
            "headroom lies in (0, 1], redundancy is not negative", hint="0.8 and 1 are usual"
        )
    sizes = [_replicas(d, redundancy=redundancy, headroom=headroom) for d in deployments]
    chips = [math.ceil(n * d.option.replica_chips) for n, d in zip(sizes, deployments, strict=True)]
    prices = [d.option.chip_usd_per_hour for d in deployments]
    known = [p * n for p, n in zip(prices, chips, strict=True) if p is not None]
    usd = sum(known, Decimal(0)) if len(known) == len(prices) else None
    used = sum(
        fmean(d.requests_per_s) / d.option.requests_per_s * d.option.replica_chips
        for d in deployments
    )
    return Fleet(
        deployments=len(deployments),
        replicas=sum(sizes),
        chips=sum(chips),
        usd_per_hour=usd,
        busy=used / sum(chips),
    )


def consolidate(
    apart: Sequence[Deployment], *, together: Option, redundancy: int = 1, headroom: float = 0.8
) -> Consolidation:
    """Compare separate deployments with one that takes all their requests, interval by interval.

    What is saved comes from peaks that do not coincide, from spares held once, and from the cost of
    the one option; whether its answers are good enough is for the certificate to say.
    """
    lengths = {len(d.requests_per_s) for d in apart}
    if len(lengths) != 1 or 0 in lengths:
        raise InputError(
            "demand curves have different lengths", hint="give every deployment the same hours"
        )
    summed = tuple(sum(values) for values in zip(*(d.requests_per_s for d in apart), strict=True))
    one = Deployment(name="one", option=together, requests_per_s=summed)
    return Consolidation(
        apart=size_fleet(apart, redundancy=redundancy, headroom=headroom),
        together=size_fleet([one], redundancy=redundancy, headroom=headroom),
    )


def _replicas(deployment: Deployment, *, redundancy: int, headroom: float) -> int:
    peak = max(deployment.requests_per_s, default=0.0)
    if peak <= 0 or min(deployment.requests_per_s) < 0:
        raise InputError(f"{deployment.name}: no demand", hint="give positive requests per second")
    return math.ceil(peak / (headroom * deployment.option.requests_per_s)) + redundancy
