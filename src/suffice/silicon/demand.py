"""Traffic as operators have it: several workloads on one deployment, a day's curve, chips in stock.

All of it is worked out from an option of a plan: what a replica does when it only reads or writes.
"""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal

from msgspec import Struct

from suffice.errors import InputError
from suffice.silicon.option import Option
from suffice.silicon.question import Workload

HOURS = 24
FULLEST = 0.8
"""Share of a replica's rate that a day's curve may use, as `suffice plan consolidate` has it."""


class WorkloadCost(Struct, frozen=True, kw_only=True):
    """One workload of a mixture on the cheapest option: its share of time, dollars a request."""

    workload: Workload
    share_of_time: float
    usd_per_request: float | None


class DayOnChip(Struct, frozen=True, kw_only=True):
    """A day's curve on one chip: replicas in each interval, chip-hours and dollars a day.

    `fixed_*` are those of a fleet for the peak that runs all day, the others of one that follows.
    """

    chip: str
    replicas: tuple[int, ...]
    chip_hours: float
    fixed_chip_hours: float
    usd: Decimal | None
    fixed_usd: Decimal | None


class StockUse(Struct, frozen=True, kw_only=True):
    """Chips of one kind that are taken from the stock, and the requests a second they serve."""

    chip: str
    chips: int
    replicas: int
    requests_per_s: float


def mixture(workloads: Sequence[Workload], *, percentile: float | None) -> Workload:
    """Join workloads into one by their rates; raises InputError where a rate is missing.

    The cached share is that of all prompt tokens. With a percentile the lengths vary within and
    between workloads; the larger of both variations is taken.
    """
    if len(workloads) == 1:
        return workloads[0]
    rates = [work.requests_per_s for work in workloads]
    if any(rate is None for rate in rates):
        raise InputError("several workloads need a rate each", hint="add rps= to every --workload")
    total = math.fsum(rate or 0 for rate in rates)
    share = [(rate or 0) / total for rate in rates]

    def mean(values: Sequence[float]) -> float:
        return math.fsum(s * value for s, value in zip(share, values, strict=True))

    def variation(lengths: Sequence[float]) -> float:
        middle = mean(lengths)
        squares = [
            length**2 * (1 + work.variation**2)
            for length, work in zip(lengths, workloads, strict=True)
        ]
        return math.sqrt(max(mean(squares) / middle**2 - 1, 0))

    inputs, outputs = [w.input_tokens for w in workloads], [w.output_tokens for w in workloads]
    cached = mean([w.input_tokens * w.cache_hit for w in workloads])
    return Workload(
        input_tokens=mean(inputs),
        output_tokens=mean(outputs),
        requests_per_s=total,
        variation=0.0 if percentile is None else max(variation(inputs), variation(outputs)),
        cache_hit=cached / mean(inputs),
    )


def cost_by_workload(option: Option, workloads: Sequence[Workload]) -> tuple[WorkloadCost, ...]:
    """Split an option's time over its workloads: new input over one rate, output over the other."""
    new_rate = option.read_tokens_per_s
    seconds = [
        work.input_tokens * (1 - work.cache_hit) / new_rate
        + work.output_tokens / option.output_tokens_per_s
        for work in workloads
    ]
    taken = [s * (work.requests_per_s or 1.0) for s, work in zip(seconds, workloads, strict=True)]
    hourly = option.chip_usd_per_hour
    usd = None if hourly is None else float(hourly) * option.replica_chips / 3600
    return tuple(
        WorkloadCost(
            workload=work,
            share_of_time=own / math.fsum(taken),
            usd_per_request=None if usd is None else usd * s,
        )
        for work, own, s in zip(workloads, taken, seconds, strict=True)
    )


def day_on_chip(option: Option, requests_per_s: Sequence[float], *, redundancy: int) -> DayOnChip:
    """Size a fleet for every interval of a day; replicas start one interval before they are needed.

    A replica takes time to load its weights, so an interval has what it and the next one need. It
    is filled to FULLEST.
    """
    if len(requests_per_s) < 2 or min(requests_per_s) < 0 or max(requests_per_s) <= 0:
        raise InputError(
            "a day needs at least two rates, none negative and one above zero",
            hint="--day 5,5,8,20,40,30: requests a second in equal intervals",
        )
    need = [math.ceil(rate / (FULLEST * option.requests_per_s)) for rate in requests_per_s]
    ahead = [*need[1:], need[0]]
    replicas = [max(now, soon) + redundancy for now, soon in zip(need, ahead, strict=True)]
    hours = HOURS / len(replicas)
    chip_hours = hours * sum(math.ceil(n * option.replica_chips) for n in replicas)
    fixed = HOURS * math.ceil(max(replicas) * option.replica_chips)
    hourly = option.chip_usd_per_hour
    return DayOnChip(
        chip=option.chip,
        replicas=tuple(replicas),
        chip_hours=chip_hours,
        fixed_chip_hours=float(fixed),
        usd=None if hourly is None else hourly * Decimal(chip_hours),
        fixed_usd=None if hourly is None else hourly * fixed,
    )


def use_stock(
    ranking: Sequence[Option], stock: Mapping[str, int], *, requests_per_s: float
) -> tuple[StockUse, ...]:
    """Fill the demand from chips in stock, cheapest request first; InputError if they are too few.

    `ranking` is in that order. The last kind gives only as many replicas as are still needed.
    """
    left, taken = requests_per_s, []
    for option in ranking:
        most = int(stock.get(option.chip, 0) // option.replica_chips)
        replicas = min(most, math.ceil(left / option.requests_per_s - 1e-9))
        if replicas > 0:
            served = min(left, replicas * option.requests_per_s)
            chips = math.ceil(replicas * option.replica_chips)
            taken.append(
                StockUse(chip=option.chip, chips=chips, replicas=replicas, requests_per_s=served)
            )
            left -= served
        if left <= 1e-9:
            return tuple(taken)
    served_in_all = requests_per_s - left
    raise InputError(
        f"the chips in stock serve {served_in_all:.3g} of {requests_per_s:g} requests a second",
        hint="add chips to --stock, lower rps=, or relax --slo",
    )
