"""The options that every benchmark takes, and what it says when its data is missing."""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

DATA = Path("../shared/data")
OUTCOME_SETS = {  # recorded outcomes with their reference rung
    "mmlu": ("outcomes/routellm_mmlu.jsonl.gz", "gpt4_1106"),
    "gsm8k": ("outcomes/routellm_gsm8k.jsonl.gz", "gpt4_1106"),
    "bbh": ("outcomes/bbh_none_vs_cot.jsonl.gz", "cot"),
    "crux": ("outcomes/crux_llama8_70.jsonl.gz", "Meta-Llama-3.1-70B-Instruct"),
}


def benchmark_parser(
    package: str | None, purpose: str | None, *, data: bool
) -> argparse.ArgumentParser:
    """Return the parser of a benchmark, with `--data` and `--json`."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {package}", description=(purpose or "").partition("\n\n")[0]
    )
    reads = "folder with the measurements of others" if data else "not used"
    parser.add_argument("--data", type=Path, default=DATA, metavar="FOLDER", help=reads)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def print_figures(figures: Mapping[str, float], *, as_json: bool) -> None:
    """Print figures, a line each or as one JSON object."""
    if as_json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:16} {value:.3g}")


def data_file(folder: Path, name: str) -> Path:
    """Return the path of a file in the data folder, or stop with exit status 2 and say which."""
    path = folder / name
    if not path.is_file():
        print(
            f"missing data: {path}\nhint: --data names the folder that holds {name}",
            file=sys.stderr,
        )
        raise SystemExit(2)
    return path
