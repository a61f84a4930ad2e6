"""Fit the price processes of `suffice forecast`, and hold their fans against what came.

    python -m benchmarks.forecast --data DATA --json

Back-test: at the last quoted day of every month the process is fitted to what was known by then,
and predicts the price 90 and 180 days on; `coverage` is the share of later quotes inside the 80 %
fan, each group of prices that move together counting once a day. Horizons past the end of a series
are not scored.
The market is scored on chips of lists and marketplace; the published contract prices of 2026 are
too few to score, and are only in the shipped fit. `--write` prints the tables for
forecast.toml, those of earlier days too.
"""

import datetime as dt
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.forecast.fit import DAYS_PER_MONTH, Series, fit_process, monthly, regimes
from benchmarks.forecast.price_series import (
    contract_series,
    hosted_series,
    list_series,
    market_series,
    until,
)
from benchmarks.inputs import benchmark_parser
from suffice.errors import InputError
from suffice.forecast.process import Array, Process, Simulation, simulate

COMMAND = "python -m benchmarks.forecast --data PATH"
HORIZONS_DAYS = (90, 180)
NEAR_DAYS = 20  # a quote this near to the horizon is scored
FAN = (0.1, 0.9)
AS_OF = (dt.date(2024, 12, 31), dt.date(2025, 6, 30), dt.date(2025, 11, 30))
"""Days whose knowledge is kept, for `suffice forecast --as-of`."""
PATHS = 1_000
FIRST_YEAR_DAYS = 365  # nothing is predicted from less
SOURCES = {
    "market": "lower quartile of list offers by chip, 2022 to 2025 (the-full-stack/website "
    "cloud-gpus.csv), of marketplace offers, October and November 2025 "
    "(tugot17/gpu-price-tracker), and one-year H100 contracts to June 2026 "
    "(SemiAnalysis, as published)",
    "hosted": "monthly list prices of hosted models, 2023 to 2026 (OpenRouter, "
    "PyPI model-price-radar-mcp)",
}


def main() -> None:
    parser = benchmark_parser(__package__, __doc__, data=True)
    parser.add_argument("--write", action="store_true", help="print the [price] tables")
    arguments = parser.parse_args()
    series = {"market": market_series(arguments.data), "hosted": hosted_series(arguments.data)}
    if arguments.write:
        extended = series | {"market": series["market"] + contract_series()}
        for kind, rows in extended.items():
            print(_table(f"[price.{kind}]", _fitted(kind, rows)))
        for kind, rows in extended.items():
            for day in AS_OF:
                fitted = msgspec.structs.replace(
                    _fitted(kind, until(rows, day)), date=day.isoformat()
                )
                print(_table(f"[[earlier.{kind}]]", fitted))
        return
    lists = list_series(arguments.data)
    report: dict[str, Any] = {kind: back_test(rows) for kind, rows in series.items()}
    report["list"] = {"offers": len(lists), "months_unchanged": _still(lists)}
    print(json.dumps(report, indent=2) if arguments.json else report_lines(report))


def back_test(series: Sequence[Series]) -> dict[str, Any]:
    """Predict from the last quoted day of every month, and count what fell inside the fan."""
    first = min(prices.dates[0] for prices in series) + dt.timedelta(days=FIRST_YEAR_DAYS)
    quoted = sorted({day for prices in series for day in prices.dates if day >= first})
    origins = {(day.year, day.month): day for day in quoted}.values()  # the last of each month
    scored: dict[int, list[tuple[float, float, float, float]]] = {h: [] for h in HORIZONS_DAYS}
    for origin in origins:
        try:
            process = fit_process(until(series, origin), source="", date="", command="")
        except InputError:
            continue
        fans = _fans(process)
        for days, rows in _outcomes(series, origin):
            scored[days] += [(*fans[days, regime], move, weight) for regime, move, weight in rows]
    return {f"days_{days}": _summary(rows) for days, rows in scored.items()}


def _fans(process: Process) -> dict[tuple[int, int], tuple[float, float]]:
    """Low and high log move by horizon and by the regime one starts in."""
    fans = {}
    for regime in range(3):
        run = Simulation(months=6, paths=PATHS, regime=regime)
        paths = simulate(process, run, rng=np.random.default_rng(regime))
        for days in HORIZONS_DAYS:
            low, high = np.quantile(paths[:, round(days / DAYS_PER_MONTH)], FAN)
            fans[days, regime] = (float(low), float(high))
    return fans


def _outcomes(
    series: Sequence[Series], origin: dt.date
) -> Iterator[tuple[int, list[tuple[int, float, float]]]]:
    """For each horizon: the regime seen at the origin, the move that came, and its weight."""
    for days in HORIZONS_DAYS:
        rows = defaultdict(list)
        for prices in series:
            known = until([prices], origin)
            late = _near(prices, origin + dt.timedelta(days=days))
            if known and late is not None and (origin - known[0].dates[-1]).days <= NEAR_DAYS:
                steps = np.diff(np.log(monthly(known[0])))
                regime = int(regimes(steps[-1:])[0])
                rows[prices.group].append((regime, float(np.log(late / known[0].usd[-1]))))
        yield days, [(r, move, 1 / len(many)) for many in rows.values() for r, move in many]


def _near(series: Series, day: dt.date) -> float | None:
    """Return the quote nearest to a day, None where none is near enough."""
    apart, usd = min(
        (abs((at - day).days), usd) for at, usd in zip(series.dates, series.usd, strict=True)
    )
    return usd if apart <= NEAR_DAYS else None


def _summary(rows: Sequence[tuple[float, float, float, float]]) -> dict[str, float]:
    if not rows:
        return {"n": 0}
    low, high, move, weight = (np.array(column) for column in zip(*rows, strict=True))
    inside = (low - 1e-9 <= move) & (move <= high + 1e-9)

    def mean(values: Array | NDArray[np.bool_]) -> float:
        return round(float(np.average(values, weights=weight)), 3)

    return {
        "n": len(rows),
        "weight": round(float(weight.sum()), 1),
        "coverage": mean(inside),
        "below": mean(move < low - 1e-9),
        "above": mean(move > high + 1e-9),
        "unchanged": mean(np.abs(move) < 0.01),
        "mean_width": mean(np.exp(high - low)),
    }


def _still(series: Sequence[Series]) -> float:
    steps = np.concatenate([np.diff(np.log(monthly(prices))) for prices in series])
    return round(float((regimes(steps) == 0).mean()), 4)


def _fitted(kind: str, series: Sequence[Series]) -> Process:
    last = max(prices.dates[-1] for prices in series)
    return fit_process(series, source=SOURCES[kind], date=last.isoformat(), command=COMMAND)


def _table(head: str, process: Process) -> str:
    """Write a fitted process as TOML; JSON's arrays and strings are TOML's."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in msgspec.to_builtins(process).items()]
    return "\n".join([head, *lines, ""])


def report_lines(report: dict[str, Any]) -> str:
    lines = [
        f"{kind}, {name.removeprefix('days_')} days: {row['coverage']:.0%} of {row['n']:,} quotes "
        f"inside the 80 % fan ({row['below']:.0%} below, {row['above']:.0%} above; "
        f"{row['unchanged']:.0%} had not moved; "
        f"the fan's ends lie {row['mean_width']:.2f} times apart)"
        for kind in ("market", "hosted")
        for name, row in report[kind].items()
        if row["n"]
    ]
    still = report["list"]
    return "\n".join(
        [
            *lines,
            f"lists: {still['months_unchanged']:.1%} of months of "
            f"{still['offers']} offers unchanged",
        ]
    )


if __name__ == "__main__":
    main()
