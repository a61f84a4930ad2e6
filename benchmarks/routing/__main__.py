"""What certified policies save on recorded requests, and how often their promises break.

For each set of outcomes, at alpha 0.05 and delta 0.1:
- `share`, `risk`, `saving`: mean over 20 seeds of the share that cheaper rungs answer at the
  certified point, of its loss against the reference, and of the part of the reference's cost that
  is not spent, all on split C, which nothing was chosen on;
- `saving_random`, `saving_best_fixed`, `saving_route_only`: the same for routing at random to one
  rung, for the cheapest fixed rung, and for the best policy that decides before any attempt, each
  certified at the same alpha on the same splits; 0 where it is not certified;
- `random_share`: the share that routing at random certifies;
- `share_without_group`: the share when no group is declared;
- `violations`: the part of 200 seeds whose true risk exceeds alpha. True risk is that over splits B
  and C together: the finite population that B was drawn from, so it is known exactly.
Figures of a random part of the requests are expectations over its draw. Split A fits the policy,
split B certifies its point. Requests are turned into numbers once; every seed splits, fits and
certifies anew. `--soak` takes 1000 seeds for the violations.

RouteLLM's files hold no tokens: a call of theirs costs 1 or 24.5, the price ratio published for
that pair of models (arXiv 2406.18665). BIG-Bench-Hard is counted in output words, CRUXEval in
dollars. Rows count as independent draws.

python -m benchmarks.routing --data DATA [--json] [--soak] [--sets NAME ...] [--seeds N]
"""

import json

from rich.console import Console
from rich.table import Table

from benchmarks.inputs import OUTCOME_SETS, benchmark_parser, data_file
from benchmarks.routing.measure import (
    ALPHA,
    DELTA,
    SHARE_SEEDS,
    SetFigures,
    measure,
)
from benchmarks.workers import rounded

VIOLATION_SEEDS, SOAK_SEEDS = 200, 1000


def main() -> None:
    """Print the figures of all sets, as one JSON object with `--json`."""
    parser = benchmark_parser(__package__, __doc__, data=True)
    parser.add_argument("--soak", action="store_true", help=f"{SOAK_SEEDS} seeds for violations")
    parser.add_argument("--sets", nargs="+", choices=list(OUTCOME_SETS), default=list(OUTCOME_SETS))
    parser.add_argument("--seeds", type=int, help=f"seeds for violations, {VIOLATION_SEEDS}")
    arguments = parser.parse_args()
    files = {name: data_file(arguments.data, OUTCOME_SETS[name][0]) for name in arguments.sets}
    seeds = arguments.seeds or (SOAK_SEEDS if arguments.soak else VIOLATION_SEEDS)
    by_set = measure(files, seeds=seeds)
    if arguments.json:
        print(json.dumps({name: rounded(figures) for name, figures in by_set.items()}, indent=2))
    else:
        _show(by_set, seeds=seeds)


def _show(by_set: dict[str, SetFigures], *, seeds: int) -> None:
    table = Table(
        title=f"alpha {ALPHA}, delta {DELTA}, {SHARE_SEEDS} seeds ({seeds} for violations)"
    )
    for name in ("set", *SetFigures.__struct_fields__):
        table.add_column(name.replace("_", " "))
    for name, figures in by_set.items():
        values = rounded(figures).values()
        table.add_row(name, *(v if isinstance(v, str) else f"{v:.3f}" for v in values))
    Console().print(table)


if __name__ == "__main__":
    main()
