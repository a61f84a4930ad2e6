"""Contract rules over real prices: on demand, reserved, the 2 - alpha rule, ours, and hindsight.

    python -m benchmarks.contracts --data DATA --json

Prices are real: the cheap end of the market for four chips (2022 to 2025; terms of a year), list
offers of 18 months or more that changed at all (a year), and the marketplace by chip and socket
(October and November 2025, day by day; terms of a week). Demand is made up, with fixed seeds: one
block of chips that is steady, grows, stops, comes in bursts, rests at weekends, or is cruel (stops
on the day that the 2 - alpha rule signs). No file follows prices of contracts, so a fee is a share
of what a term costs on demand that day: `shallow` 83 % (H100 in prices.toml) and `deep` 49 %
(B200), nothing more to pay, and `card` 30 %, with use at 40 % of its price. `mean_cost_ratio` is
cost over hindsight's, `worst_ratio` the largest of our rule.
`guaranteed_ratio` is proven for the prices of that worst case, and every case is held to its own.
The forecast knows nothing later than its day: market moves are fitted again every quarter.
"""

import datetime as dt
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from benchmarks.contracts.rules import (
    Market,
    Outlook,
    advised_theta,
    all_reserved,
    break_even,
    hindsight,
    largest_rise,
    total,
)
from benchmarks.forecast.fit import Series, daily, fit_process
from benchmarks.forecast.price_series import daily_series, list_series, market_series, until
from benchmarks.inputs import benchmark_parser
from suffice.errors import InputError
from suffice.forecast.contracts import TRUST, ContractTerms, guaranteed_ratio
from suffice.forecast.process import Array, Simulation, simulate

YEAR, WEEK = 365, 7
CONTRACTS = {
    "shallow": (0.83, 0.0),
    "deep": (0.49, 0.0),
    "card": (0.30, 0.40),
}  # fee over a term on demand, alpha
LONG_ENOUGH_DAYS = 540
SEEDS = range(5)
QUARTER_DAYS = 91
PATHS = 1_000


class Case(Struct, frozen=True, kw_only=True):
    """One history of prices and demand under one contract."""

    prices: str
    demand: str
    contract: str
    terms: ContractTerms
    market: Market
    outlook: tuple[Outlook, ...]


def main() -> None:
    parser = benchmark_parser(__package__, __doc__, data=True)
    parser.add_argument("--trust", type=float, default=TRUST)
    arguments = parser.parse_args()
    report = run(list(cases(arguments.data)), trust=arguments.trust)
    print(json.dumps(report, indent=2) if arguments.json else report_lines(report))


def run(case_list: Sequence[Case], *, trust: float = TRUST) -> dict[str, Any]:
    """Cost of every rule over hindsight's, in the mean and at worst."""
    rows = [(case, _ratios(case, trust)) for case in case_list]
    worst, ratios = max(rows, key=lambda row: row[1]["forecast"])
    return {
        "cases": len(rows),
        "trust": trust,
        "mean_cost_ratio": _means(rows),
        "worst_ratio": ratios["forecast"],
        "guaranteed_ratio": _guarantee(worst, trust),
        "worst_case": f"{worst.prices}, {worst.demand}, {worst.contract}",
        "closest_to_guarantee": max(r["forecast"] / _guarantee(c, trust) for c, r in rows),
        "worst_ratio_by_rule": {rule: max(r[rule] for _, r in rows) for rule in ratios},
        "two_minus_alpha_guarantee": _guarantee(worst, 1.0),
        "by_contract": _grouped(rows, "contract"),
        "by_demand": _grouped(rows, "demand"),
        "by_prices": _grouped(rows, "prices"),
    }


def cases(data: Path) -> Iterator[Case]:
    """Cross every price series with every demand and contract."""
    market = market_series(data)
    offers = [history for history in list_series(data) if _changed(history)]
    for kind, series, days in (
        ("market", market, YEAR),
        ("list", offers, YEAR),
        ("marketplace", daily_series(data), WEEK),
    ):
        for history in series:
            price = daily(history)
            outlook = (
                _outlooks(history, market, days=days) if days == YEAR else (Outlook(prior_days=14),)
            )
            outlook = outlook * (len(price) // len(outlook))
            for contract, (share, rate) in CONTRACTS.items():
                terms = ContractTerms(days=days, usage_rate=rate)
                fee = share * days * price
                for name, demand in demands(price, fee, terms):
                    yield Case(
                        prices=kind,
                        demand=name,
                        contract=contract,
                        terms=terms,
                        market=Market(spend=demand * price, fee=fee),
                        outlook=outlook,
                    )


def demands(price: Array, fee: Array, terms: ContractTerms) -> Iterator[tuple[str, Array]]:
    """Shares of each day that the block is used."""
    days = len(price)
    day = np.arange(days)
    yield "steady", np.ones(days)
    yield "growing", np.linspace(0.1, 1.0, days)
    yield "weekdays", (day % 7 < 5).astype(float)
    steady = Market(spend=price, fee=fee)
    yield "cruel", (day <= next(iter(break_even(steady, terms)), days)).astype(float)
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        yield "stops", (day < rng.uniform(0.1, 1.0) * days).astype(float)
        yield "bursts", _bursts(days, rng, mean_days=terms.days / 12)


def _bursts(days: int, rng: np.random.Generator, *, mean_days: float) -> Array:
    """On and off, each for as long as a geometric draw says."""
    flips = rng.random(days) < min(1.0, 1.0 / mean_days)
    return ((np.cumsum(flips) + rng.integers(2)) % 2).astype(float)


def _outlooks(series: Series, market: Sequence[Series], *, days: int) -> tuple[Outlook, ...]:
    """Expect prices day by day: the market's process as fitted at the start of the quarter."""
    length = (series.dates[-1] - series.dates[0]).days + 1
    outlooks: list[Outlook] = []
    for start in range(0, length, QUARTER_DAYS):
        price = _expected(market, series.dates[0] + dt.timedelta(days=start), days=days)
        outlooks += [Outlook(price=price)] * min(QUARTER_DAYS, length - start)
    return tuple(outlooks)


def _expected(market: Sequence[Series], day: dt.date, *, days: int) -> float:
    """Mean price of the coming term over today's; 1 where too little is known."""
    try:
        process = fit_process(until(market, day), source="", date="", command="")
    except InputError:
        return 1.0
    run = Simulation(months=round(days / 30.4), paths=PATHS)
    process = msgspec.structs.replace(process, drift=0.0)
    return float(np.exp(simulate(process, run, rng=np.random.default_rng(0))).mean())


def _changed(series: Series) -> bool:
    days = (series.dates[-1] - series.dates[0]).days
    return days >= LONG_ENOUGH_DAYS and len(set(series.usd)) > 1


def _ratios(case: Case, trust: float) -> dict[str, float]:
    market, terms = case.market, case.terms
    theta = advised_theta(market, terms, outlook=case.outlook, trust=trust)
    signed = {
        "on_demand": [],
        "reserved": all_reserved(market, terms),
        "two_minus_alpha": break_even(market, terms),
        "forecast": break_even(market, terms, theta),
    }
    best = total(market, terms, hindsight(market, terms))
    return {rule: total(market, terms, days) / best for rule, days in signed.items()}


def _guarantee(case: Case, trust: float) -> float:
    rise = largest_rise(case.market.fee, case.terms)
    return guaranteed_ratio(case.terms, trust=trust, rise=rise)


def _means(rows: Sequence[tuple[Case, dict[str, float]]]) -> dict[str, float]:
    means = {rule: float(np.mean([ratios[rule] for _, ratios in rows])) for rule in rows[0][1]}
    return means | {"hindsight": 1.0}


def _grouped(rows: Sequence[tuple[Case, dict[str, float]]], name: str) -> dict[str, Any]:
    groups = defaultdict(list)
    for case, ratios in rows:
        groups[getattr(case, name)].append((case, ratios))
    return {key: _means(group) | {"cases": len(group)} for key, group in groups.items()}


def report_lines(report: dict[str, Any]) -> str:
    means = ", ".join(f"{rule} {ratio:.3f}" for rule, ratio in report["mean_cost_ratio"].items())
    return (
        f"cost over hindsight's, mean of {report['cases']:,} cases: {means}\n"
        f"ours at worst {report['worst_ratio']:.3f}, where {report['guaranteed_ratio']:.3f} is "
        f"guaranteed ({report['worst_case']})"
    )


if __name__ == "__main__":
    main()
