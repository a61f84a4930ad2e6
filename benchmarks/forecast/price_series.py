"""Read the shared price files into series: offers on lists, the market by chip, hosted models."""

import csv
import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from benchmarks.forecast.fit import Series
from benchmarks.inputs import data_file

LISTS = "silicon/prices/gpu_cloud_pricelist_2022_2025.csv"
MARKET = "silicon/prices/gpu_marketplace_2025_oct_nov.csv"
HOSTED = "silicon/prices/llm_api_openrouter_monthly_2023_2026.csv"
SHORTEST_DAYS = 90
CHIPS = {  # as the list spells a chip: as the marketplace does
    "A100 (80 GB)": ("A100_80GB", "SXM4"),
    "H100 (80 GB)": ("H100_80GB", "SXM5"),
    "A100 (40 GB)": None,
    "V100 (16 GB)": None,
}
CONTRACT = (  # one year; newsletter.semianalysis.com/p/the-great-gpu-shortage-rental-capacity
    (dt.date(2025, 10, 15), dt.date(2026, 3, 15), dt.date(2026, 6, 26)),
    (1.70, 2.35, 2.65),  # the last from theinformationmachine.fyi/threads/gpu-spot-contract-pricing
)
INPUT_SHARE = 0.75  # of a hosted model's tokens, where one price stands for two
Quotes = Mapping[tuple[str, ...], Mapping[dt.date, float]]


def list_series(data: Path) -> list[Series]:
    """Every on-demand offer of the list: one provider, chip, count and instance name."""
    quotes: dict[tuple[str, ...], dict[dt.date, float]] = defaultdict(dict)
    for row in _offers(data):
        key = (row["provider"], row["GPU Type"], row["GPUs"], row["Name"])
        quotes[key].setdefault(dt.date.fromisoformat(row["date"]), float(row["per_gpu"]))
    return _series(quotes)


def market_series(data: Path) -> list[Series]:
    """Follow the cheap end by chip: the lower quartile over providers, then the marketplace.

    From October 2025 on it is the lower quartile of the marketplace's offers, if it has the chip.
    """
    cheapest: dict[tuple[str, dt.date], dict[str, float]] = defaultdict(dict)
    for row in _offers(data):
        day, usd = dt.date.fromisoformat(row["date"]), float(row["per_gpu"])
        by_provider = cheapest[row["GPU Type"], day]
        by_provider[row["provider"]] = min(usd, by_provider.get(row["provider"], usd))
    quotes: dict[tuple[str, ...], dict[dt.date, float]] = defaultdict(dict)
    for (chip, day), offers in sorted(cheapest.items()):
        if chip in CHIPS and len(offers) >= 3:
            quotes[chip,][day] = float(np.quantile(list(offers.values()), 0.25))
    names = {spelling: chip for chip, spelling in CHIPS.items() if spelling}
    for row in _rows(data, MARKET):
        if known := names.get((row["gpu"], row["socket"])):
            quotes[known,][dt.date.fromisoformat(row["date"])] = float(row["p25"])
    return [replace(prices, quoted=False) for prices in _series(quotes)]


def contract_series() -> list[Series]:
    """Follow the one-year H100 contract as published; no file of rents reaches into 2026."""
    return [Series(group="H100 contract", dates=CONTRACT[0], usd=CONTRACT[1], quoted=False)]


def daily_series(data: Path) -> list[Series]:
    """Follow the marketplace's median by chip and socket, a few weeks of it day by day."""
    quotes: dict[tuple[str, ...], dict[dt.date, float]] = defaultdict(dict)
    for row in _rows(data, MARKET):
        quotes[row["gpu"], row["socket"]][dt.date.fromisoformat(row["date"])] = float(row["median"])
    return _series(quotes, shortest_days=20)


def hosted_series(data: Path) -> list[Series]:
    """Blend each hosted model's list price over input and output tokens; free models left out."""
    quotes: dict[tuple[str, ...], dict[dt.date, float]] = defaultdict(dict)
    for row in _rows(data, HOSTED):
        read, written = float(row["input_usd_per_mtok"]), float(row["output_usd_per_mtok"])
        usd = INPUT_SHARE * read + (1 - INPUT_SHARE) * written
        vendor, _, model = row["model"].partition("/")
        if usd > 0:
            quotes[vendor, model][dt.date.fromisoformat(row["date"])] = usd
    return _series(quotes)


def until(series: Iterable[Series], day: dt.date) -> list[Series]:
    """Cut every series at a day, as if nothing later were known; drop what is then too short."""
    series_list = []
    for prices in series:
        known = sum(at <= day for at in prices.dates)
        if known and (prices.dates[known - 1] - prices.dates[0]).days >= SHORTEST_DAYS:
            series_list.append(replace(prices, dates=prices.dates[:known], usd=prices.usd[:known]))
    return series_list


def _offers(data: Path) -> list[dict[str, str]]:
    return [
        row
        for row in _rows(data, LISTS)
        if row["source_path"].endswith("/cloud-gpus.csv")
        and row["per_gpu"]
        and float(row["per_gpu"]) > 0
    ]


def _series(quotes: Quotes, *, shortest_days: int = SHORTEST_DAYS) -> list[Series]:
    series_list = []
    for key, prices in sorted(quotes.items()):
        days = sorted(prices)
        if days and (days[-1] - days[0]).days >= shortest_days:
            usd = tuple(prices[day] for day in days)
            series_list.append(Series(group=key[0], dates=tuple(days), usd=usd))
    return series_list


def _rows(data: Path, name: str) -> list[dict[str, str]]:
    with data_file(data, name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
