"""How long the commands take that people wait for: importing, and certifying 14,042 rows."""

import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.inputs import benchmark_parser, data_file, print_figures

RUNS = 7
CERTIFY = ["-m", "suffice", "certify"]


def import_ms() -> float:
    """Return the median milliseconds that `import suffice` adds to starting Python."""
    added = []
    for _ in range(RUNS):
        bare, ours = (_seconds(["-c", code]) for code in ("pass", "import suffice"))
        added.append(1000 * (ours - bare))
    return statistics.median(added)


def certify_mmlu(path: Path) -> dict[str, float]:
    """Run `suffice certify` on the MMLU rows as a user would; seconds, and peak memory in GB."""
    took_s = _seconds([*CERTIFY, str(path), "--reference", "gpt4_1106", "--json"])
    peak_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"certify_s": took_s, "certify_peak_gb": peak_kib * 1024 / 1e9}


def _seconds(arguments: list[str]) -> float:
    start_s = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start_s


def main() -> None:
    """Print the figures, as lines or as one JSON object."""
    parser = benchmark_parser(__package__, __doc__, data=True)
    options = parser.parse_args()
    path = data_file(options.data, "outcomes/routellm_mmlu.jsonl.gz")
    figures = {"import_ms": import_ms(), **certify_mmlu(path)}
    print_figures(figures, as_json=options.json)


if __name__ == "__main__":
    main()
