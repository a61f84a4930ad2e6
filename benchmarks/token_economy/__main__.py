"""Tokens and dollars per correct answer of 23 reasoning models, beside what was published.

Data: cpldcpu/LRMTokenEconomy (Apache-2.0), 19 prompts, 5 runs each. Published figures: its table
`recent_figures/eco_all/knowledge_logic_puzzle_math_analysis_summary.csv` (commit 1b40589) gives the
mean completion tokens and the success rate of each model on each prompt with their numbers of runs;
`published.csv` holds their sums by model. Its costs are published as pictures only,
so dollars are compared with a second calculation in exact fractions. Dollars are completion tokens
at the lowest list price in its price table, unknown for a model that is not in it; the prompts' own
tokens are not in the data. The front is that of accuracy and tokens, which every model has.

python -m benchmarks.token_economy --data DATA [--json]
"""

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.inputs import benchmark_parser, data_file
from suffice.config import PriceConfig
from suffice.meter import Price, charge, price_for
from suffice.trials.frontier import Frontier, RungPoint, frontier
from suffice.types import Count, CountSource, Trial, TrialStatus, Usage

STATS = "outcomes/lrm_token_economy_evaluation_stats.csv"
PRICES = "outcomes/lrm_token_economy_model_prices.csv"
PUBLISHED = Path(__file__).with_name("published.csv")

Row = dict[str, str]


def main() -> None:
    parser = benchmark_parser(__package__, __doc__, data=True)
    arguments = parser.parse_args()
    stats = _rows(data_file(arguments.data, STATS))
    prices = _rows(data_file(arguments.data, PRICES))
    comparison = compare(stats, prices)
    if arguments.json:
        print(json.dumps(comparison, indent=2))
    else:
        _show(comparison)


def compare(stats: list[Row], prices: list[Row]) -> dict[str, Any]:
    """Work every figure out twice and put ours beside the published or the recomputed one."""
    usd_per_mtok = {row["model_name"]: row["completion_min"] for row in prices}
    result = frontier(tuple(_trials(stats, usd_per_mtok)))
    published = {row["model"]: row for row in _rows(PUBLISHED)}
    dollars = _second_calculation(stats, usd_per_mtok)
    models = [_model(p, published[p.rung], dollars.get(p.rung)) for p in result.rungs]
    return {
        "models": models,
        "largest_relative_difference": {
            name: max(abs(m[name]["relative_difference"]) for m in models if m[name])
            for name in ("accuracy", "tokens_per_correct", "usd_per_correct")
        },
        "on_front": [model["model"] for model in models if model["on_front"]],
        "clusters": _clusters(result),
        "notes": result.notes,
    }


def _trials(stats: Iterable[Row], usd_per_mtok: dict[str, str]) -> Iterator[Trial]:
    """Turn each recorded run into a trial; the runs of a prompt share a group."""
    prices = {model: _price(model, usd) for model, usd in usd_per_mtok.items()}
    runs: Counter[tuple[str, str]] = Counter()
    for row in stats:
        model, prompt = row["model_name"], row["prompt_id"]
        runs[model, prompt] += 1
        usage = Usage(
            input_tokens=Count(0, CountSource.REPORTED),
            output_tokens=Count(int(row["tokens_completion"]), CountSource.REPORTED),
        )
        yield Trial(
            request_id=f"{prompt}/{runs[model, prompt]}",
            rung=model,
            status=TrialStatus.SCORED,
            text=row["title"],
            group=prompt,
            quality=float(row["success_rate"]),
            usage=usage,
            charge_usd=charge(usage, prices.get(model)).usd,
        )


def _price(model: str, usd_per_mtok: str) -> Price:
    return price_for(
        model,
        PriceConfig(input_usd_per_mtok=Decimal(0), output_usd_per_mtok=Decimal(usd_per_mtok)),
    )


def _second_calculation(stats: Iterable[Row], usd_per_mtok: dict[str, str]) -> dict[str, float]:
    """Divide all dollars by all correct answers of each model, in exact fractions."""
    tokens: defaultdict[str, int] = defaultdict(int)
    correct: defaultdict[str, Fraction] = defaultdict(Fraction)
    for row in stats:
        tokens[row["model_name"]] += int(row["tokens_completion"])
        correct[row["model_name"]] += Fraction(row["success_rate"])
    return {
        model: float(tokens[model] * Fraction(usd_per_mtok[model]) / 10**6 / correct[model])
        for model in tokens
        if model in usd_per_mtok
    }


def _model(point: RungPoint, published: Row, usd_per_correct: float | None) -> dict[str, Any]:
    tokens, correct = int(published["completion_tokens"]), int(published["correct"])
    return {
        "model": point.rung,
        "responses": point.scored,
        "published_responses": int(published["responses"]),
        "accuracy": _beside(point.accuracy, published=correct / int(published["responses"])),
        "tokens_per_correct": _beside(point.tokens_per_correct, published=tokens / correct),
        "usd_per_correct": _beside(point.usd_per_correct, recomputed=usd_per_correct),
        "on_front": point.on_front,
        "front_share": point.front_share,
    }


def _beside(estimate: Any, **other: float | None) -> dict[str, float | None] | None:
    """Put our figure beside the other one; None where the data have no price for ours."""
    if estimate is None:
        return None
    low, high = estimate.interval
    (theirs,) = other.values()
    figures = {"ours": estimate.value, "low": low, "high": high, **other}
    return {**figures, "relative_difference": estimate.value / theirs - 1}


def _clusters(result: Frontier) -> str:
    return f"{result.clusters} prompts, {result.resamples} resamples, {result.confidence:.0%}"


def _show(comparison: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("model", "runs", "accuracy", "published", "tokens/correct", "published"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for name in ("$/correct", "recomputed", "on front"):
        table.add_column(name, justify="right")
    for model in sorted(comparison["models"], key=lambda m: m["tokens_per_correct"]["ours"]):
        accuracy, tokens, usd = (
            model[name] for name in ("accuracy", "tokens_per_correct", "usd_per_correct")
        )
        table.add_row(
            model["model"],
            str(model["responses"]),
            f"{accuracy['ours']:.3f}",
            f"{accuracy['published']:.3f}",
            f"{tokens['ours']:,.0f} [{tokens['low']:,.0f}, {tokens['high']:,.0f}]",
            f"{tokens['published']:,.0f}",
            f"{usd['ours']:.5f}" if usd else "unknown",
            f"{usd['recomputed']:.5f}" if usd else "unknown",
            f"{model['front_share']:.0%}" + (" *" if model["on_front"] else ""),
        )
    console = Console(width=140)
    console.print(table)
    console.print(f"intervals: {comparison['clusters']}; * on the front of accuracy and tokens")
    console.print("largest relative differences:", comparison["largest_relative_difference"])
    for note in comparison["notes"]:
        console.print(note)


def _rows(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
