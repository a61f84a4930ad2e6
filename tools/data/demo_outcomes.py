"""Write the figures that `suffice demo` certifies on: outcomes, lengths, labels; no texts.

Of an answer only a bare label stays ("(B)", "True", "yes", a number): enough for a policy to look
at the answer, and nothing of the question.

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
    """Keep of one recorded request what a certificate needs, and none of its text."""
    row = json.loads(line)
    rungs = {name: _outcome(rung) for name, rung in row["rungs"].items()}
    return json.dumps({"request_id": row["request_id"], "group": row["group"], "rungs": rungs})


def _outcome(rung: dict[str, Any]) -> dict[str, Any]:
    kept = {"correct": rung["correct"], "output_words": rung["output_words"]}
    label = rung["answer"].strip()
    return kept | {"answer": label} if LABEL.fullmatch(label) else kept


def main() -> None:
    """Read the outcomes in the data folder and write the file; the same bytes each time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    source = data_file(parser.parse_args().data, "outcomes/bbh_none_vs_cot.jsonl.gz")
    lines = gzip.decompress(source.read_bytes()).decode("utf-8").splitlines()
    text = "".join(derive(line) + "\n" for line in lines)
    OUT.write_bytes(gzip.compress(text.encode("utf-8"), compresslevel=9, mtime=0))
    print(f"wrote {len(lines)} rows, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
