"""Whether the factors multiply: the compound workload that ships, live on the embedded model.

`src/suffice/data/compound.toml` fixed the workload before it was measured: thirds of the baseline's
cost each of closed-set requests (some out of scope), reasoning questions and labelled streams.
- `reduction`: cost of the naive baseline (highest effort, every event decoded, the dense model on
  the chip before) over that of suffice, at alpha 0.02 and delta 0.1; `interval` is its 95 % one;
- `reduction_competent`: the same against the competent baseline (docs/compound.md);
- `factors`: what the lever of each vector is worth alone; `product_of_factors` multiplies them,
  and `interaction` is `reduction` over it;
- `certified`, `quality`, `reference_quality`: whether the promise holds with every lever on, and
  the share of right answers then and before; `grade` is that of the worst price behind it all;
- `decision_s`: the median time that the latent rung and the gate took, which `ask_usd` prices.
A figure whose quality is not certified is null. What prices rest on stands in the workload file.
How the requests are dealt into splits decides much, above all whether the latent rung can be
certified. So they are dealt five times: the figures are those of the deal of median reduction, and
`deals` holds the reductions of all.

python -m benchmarks.compound [--json] [--model GGUF] [--trials FILE] [--page FILE.html]
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.effort.__main__ import ladder
from benchmarks.inputs import benchmark_parser
from suffice.bench.shipped import LATENT, CompoundMeasurement, measure_compound, replay_deal
from suffice.cli.output import print_compound
from suffice.report.compound import compound_page
from suffice.trials.resample import Estimate

DEALS = 5


def _silent(_stage: str) -> None: ...


def main() -> None:
    """Ask, guess, replay, and print."""
    parser = benchmark_parser(__package__, __doc__, data=False)
    parser.add_argument("--model", type=Path, help="another GGUF than the one that ships")
    parser.add_argument("--trials", type=Path, help="keep the trials here, and take up from there")
    parser.add_argument("--page", type=Path, help="write the report here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out = arguments.trials or Path(scratch) / "compound-trials.jsonl"
        first = measure_compound(ladder(arguments.model), out=out, say=_silent)
        others = [
            replay_deal(
                first.benched, out=out.with_name(f"{out.stem}-{seed}.jsonl"), seed=seed, say=_silent
            )
            for seed in range(1, DEALS)
        ]
    deals = sorted([first, *others], key=lambda deal: _value(deal.compound.reduction) or 0.0)
    measured = deals[DEALS // 2]
    compound = measured.compound
    if arguments.page:
        arguments.page.write_text(compound_page(compound), "utf-8")
    if arguments.json:
        print(json.dumps(figures(measured) | {"deals": [_deal(deal) for deal in deals]}, indent=2))
    else:
        print_compound(compound)


def _deal(measured: CompoundMeasurement) -> dict[str, Any]:
    """Pick what differs from deal to deal; without a time no latent rung was certified."""
    compound = measured.compound
    return {
        "reduction": _value(compound.reduction),
        "reduction_competent": _value(compound.reduction_competent),
        "factors": {factor.vector: _value(factor.alone) for factor in compound.factors},
        "certified": compound.certified,
        "latent_rung": LATENT.rung in measured.decision_s,
    }


def figures(measured: CompoundMeasurement) -> dict[str, Any]:
    """Pick what is published."""
    compound = measured.compound
    return {
        "reduction": _value(compound.reduction),
        "reduction_competent": _value(compound.reduction_competent),
        "interval": _interval(compound.reduction),
        "product_of_factors": _value(compound.product_of_factors),
        "factors": {factor.vector: _value(factor.alone) for factor in compound.factors},
        "interaction": _value(compound.interaction),
        "certified": compound.certified,
        "quality": round(compound.quality, 4),
        "reference_quality": round(compound.reference_quality, 4),
        "interval_competent": _interval(compound.reduction_competent),
        "factors_interval": {factor.vector: _interval(factor.alone) for factor in compound.factors},
        "factors_last": {factor.vector: _value(factor.last) for factor in compound.factors},
        "factors_share": {factor.vector: _value(factor.share) for factor in compound.factors},
        "parts": {part.name: round(part.share, 4) for part in compound.parts},
        "requests": compound.requests,
        "clusters": compound.clusters,
        "alpha": compound.alpha,
        "delta": compound.delta,
        "grade": compound.grade,
        "decision_s": measured.decision_s,
        "notes": compound.notes,
    }


def _value(estimate: Estimate | None) -> float | None:
    return None if estimate is None or estimate.value is None else round(estimate.value, 3)


def _interval(estimate: Estimate | None) -> list[float | None] | None:
    if estimate is None or estimate.interval is None:
        return None
    return [None if end is None else round(end, 3) for end in estimate.interval]


if __name__ == "__main__":
    main()
