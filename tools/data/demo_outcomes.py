"""Write the outcomes that `suffice demo` certifies on: verdicts, lengths and labels, no texts.

Of an answer only a bare label stays ("(B)", "True", "yes", a number): a policy can look at it, and
it holds nothing of the question.

Source: suzgunmirac/BIG-Bench-Hard (MIT), one model answering directly and with chain of thought.
"""

import argparse
import gzip
import json
import re
from pathlib import Path
from typing import Any

from benchmarks.inputs import data_file

LABEL = re.compile(r"\([A-Z]\)|-?\d{1,6}|yes|no|true|false|valid|invalid", re.IGNORECASE)
OUT = Path(__file__).parents[2] / "src" / "suffice" / "data" / "bbh_outcomes.jsonl.gz"


def derive(line: str) -> str:
    """Return the outcome of one recorded request, without its text."""
    row = json.loads(line)
    rungs = {name: _outcome(rung) for name, rung in row["rungs"].items()}
    return json.dumps({"request_id": row["request_id"], "group": row["group"], "rungs": rungs})


def _outcome(rung: dict[str, Any]) -> dict[str, Any]:
    outcome = {"correct": rung["correct"], "output_words": rung["output_words"]}
    label = rung["answer"].strip()
    return outcome | {"answer": label} if LABEL.fullmatch(label) else outcome


def main() -> None:
    """Write the file from the outcomes in the data folder; the bytes are the same each time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    source = data_file(parser.parse_args().data, "outcomes/bbh_none_vs_cot.jsonl.gz")
    lines = gzip.decompress(source.read_bytes()).decode("utf-8").splitlines()
    text = "".join(derive(line) + "\n" for line in lines)
    OUT.write_bytes(gzip.compress(text.encode("utf-8"), compresslevel=9, mtime=0))
    print(f"wrote {len(lines)} rows, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
