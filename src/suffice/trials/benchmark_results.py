"""Results of AA-LCR and LiveCodeBench as trials.

LiveCodeBench writes `..._eval_all.json` (lcb_runner, `insert_output_evaluation`). AA-LCR has no
format of its own: graded answers are rows with the columns of its dataset and a `grade`.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from suffice.errors import InputError
from suffice.trials.jsonl import read_bytes
from suffice.trials.output_trial import output_trial, stated_usage, stated_usd, text_of
from suffice.types import JSON, Count, CountSource, Trial, Usage, estimated

AA_LCR_COLUMNS = {"question_id", "document_set_id", "grade"}
_AA_GRADES = {"CORRECT": 1.0, "INCORRECT": 0.0}


def read_live_code_bench(path: Path, rows: list[JSON]) -> Iterator[Trial]:
    """Read `..._eval_all.json`: each generation of a problem is a run; the rung is the folder."""
    for row in rows:
        answers = row.get("output_list") or row.get("code_list") or []
        question = row.get("question_content", "")
        usage = Usage(input_tokens=estimated(question + row.get("starter_code", "")))
        for run, right in enumerate(row["graded_list"]):
            yield output_trial(
                right,
                at=f"{path}, {row['question_id']}",
                request_id=str(row["question_id"]),
                rung=path.parent.name or path.stem,
                run=str(run) if len(row["graded_list"]) > 1 else None,
                group=row.get("difficulty"),
                text=question,
                answer=answers[run] if run < len(answers) else None,
                usage=usage if question else Usage(),
                scorer="tests",
            )


def read_aa_lcr(path: Path, rows: Iterable[Mapping[str, Any]]) -> Iterator[Trial]:
    """Read graded answers to AA-LCR: CORRECT or INCORRECT; questions on one set are a cluster.

    The dataset states how many tokens each prompt has; a copy of it in the same folder is read.
    """
    dataset = path.with_name("AA-LCR_Dataset.csv")
    prompts = {}
    if dataset.is_file():
        table = csv.DictReader(io.StringIO(read_bytes(dataset).decode()))
        prompts = {row["question_id"]: row.get("input_tokens") for row in table}
    for row in rows:
        grade = str(row["grade"]).strip().upper()
        if grade not in _AA_GRADES:
            raise InputError(
                f"{path}, question {row['question_id']}: grade {row['grade']!r}",
                hint="the equality checker says CORRECT or INCORRECT",
            )
        counts = {
            name: _tokens(row.get(f"{name}_tokens")) for name in ("input", "output", "reasoning")
        }
        usage = stated_usage(**counts)
        listed = _tokens(prompts.get(str(row["question_id"])))
        if counts["input"] is None and listed is not None:
            usage = replace(usage, input_tokens=Count(listed, CountSource.ESTIMATED))
        model, effort = str(row.get("model") or path.stem), row.get("effort")
        yield output_trial(
            _AA_GRADES[grade],
            at=str(path),
            request_id=str(row["question_id"]),
            rung=f"{model}@{effort}" if effort else model,
            usage=usage,
            charge_usd=stated_usd(row.get("cost")),
            run=text_of(row.get("run") or row.get("repeat") or None),
            cluster=str(row["document_set_id"]),
            group=text_of(row.get("document_category") or None),
            text=str(row.get("question") or ""),
            answer=text_of(row.get("response") or row.get("candidate_answer") or None),
            scorer="equality",
        )


def _tokens(value: Any) -> int | None:
    """Read a count, which a table holds as text; None where there is none."""
    return None if value in (None, "") else int(float(value))
