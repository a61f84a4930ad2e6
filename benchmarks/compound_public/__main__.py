"""What each factor of cost was worth on the records of others, one workload at a time.

A factor is what the reference costs over what its replacement costs. It is *certified* where a
policy or a setting holds a promise of quality on the same records, *measured* where the quality
is the same by construction (the same model on another chip, the same tokens from a cache), and
*unproven* where the records leave the quality undecided. An interval is the 95 % one of drawn
clusters, or, for chips, the range over three ways to price them.

Factors of one workload are multiplied only if one run measured them together; none of these
records holds two such factors, so each reduction is its workload's one largest factor that is not
unproven. What nobody has measured is listed.

- `factors`: workload, vector, baseline, replacement, value, interval, unit, grade, source;
- `reduction`: by workload, and how many times short of 10 and 20 it is;
- `unmeasured`: pairs of a workload and a vector without a measurement.

python -m benchmarks.compound_public --data DATA [--json]
"""

import json
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.compound_public.factors import VECTORS, QualityGrade, RecordedFactor
from benchmarks.compound_public.records import WORKLOADS, factors_of
from benchmarks.inputs import benchmark_parser

CLAIMED = (10.0, 20.0)  # times cheaper, an article of March 2026


def main() -> None:
    """Print the factors, the reductions and the gaps."""
    arguments = benchmark_parser(__package__, __doc__, data=True).parse_args()
    factors = [factor for name in WORKLOADS for factor in factors_of(name, arguments.data)]
    if arguments.json:
        document = {
            "factors": [msgspec.to_builtins(factor) for factor in factors],
            "reduction": reductions(factors),
            "unmeasured": unmeasured(factors),
        }
        print(json.dumps(document, indent=2))
    else:
        show(factors)


def reductions(factors: list[RecordedFactor]) -> dict[str, dict[str, Any]]:
    """Return the largest factor of each workload whose quality is not unproven."""
    largest: dict[str, RecordedFactor] = {}
    for factor in factors:
        known = largest.get(factor.workload)
        if factor.grade is not QualityGrade.UNPROVEN and (
            known is None or factor.value > known.value
        ):
            largest[factor.workload] = factor
    return {
        name: {"value": factor.value, "vector": factor.vector, "unit": factor.unit}
        | {f"short_of_{times:.0f}": times / factor.value for times in CLAIMED}
        for name, factor in largest.items()
    }


def unmeasured(factors: list[RecordedFactor]) -> list[tuple[str, str]]:
    """Name the workloads and vectors for which no record exists."""
    known = {(factor.workload, factor.vector) for factor in factors}
    return [(name, v) for name in WORKLOADS for v in VECTORS if (name, v) not in known]


def show(factors: list[RecordedFactor]) -> None:
    """Print one table of factors and one sentence on the gaps."""
    table = Table("workload", "vector", "from", "to", "times cheaper", "95 %", "in", "grade")
    for one in factors:
        low, high = one.interval
        table.add_row(
            *(one.workload, one.vector, one.baseline, one.replacement),
            *(f"{one.value:.2f}", f"{low:.2f} to {high:.2f}", one.unit, one.grade.value),
        )
    console = Console()
    console.print(table)
    best = max(row["value"] for row in reductions(factors).values())
    gaps = unmeasured(factors)
    console.print(
        f"The largest factor here is {best:.1f}, within one workload. {len(gaps)} of "
        f"{len(WORKLOADS) * len(VECTORS)} pairs of a workload and a vector were measured by nobody."
    )


if __name__ == "__main__":
    main()
