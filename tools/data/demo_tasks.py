"""Write the tasks that `suffice demo` asks live: held-out questions of every reasoning family.

They are those from number 400 on. The bytes are the same each time.

python -m tools.data.demo_tasks
"""

import gzip
import json
from itertools import chain
from pathlib import Path

from benchmarks.effort.__main__ import SPEC

from tools.reference_model.questions import OWN, ReasoningQuestion, held_out, read_spec

FIRST, COUNT = 400, 83
OUT = Path(__file__).parents[2] / "src" / "suffice" / "data" / "demo_tasks.jsonl.gz"


def main() -> None:
    """Write the families in turn, so that any part of the file is a uniform mix of them."""
    questions = held_out(read_spec(SPEC))
    families = [
        questions[family][FIRST : FIRST + COUNT] for family in questions if family not in OWN
    ]
    rows = [
        _row(question, number)
        for number, question in enumerate(chain(*zip(*families, strict=True)))
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    OUT.write_bytes(gzip.compress(text.encode("utf-8"), compresslevel=9, mtime=0))
    print(f"wrote {len(rows)} tasks, {OUT.stat().st_size} bytes")


def _row(question: ReasoningQuestion, number: int) -> dict[str, str]:
    return {
        "request_id": f"{question.family}-{number}",
        "group": question.family,
        "text": question.text,
        "target": question.answer,
        "scorer": "exact",
    }


if __name__ == "__main__":
    main()
