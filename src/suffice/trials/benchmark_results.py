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
_UNKNOWN = ("", "n/a", "na", "nan", "none", "null", "-")


def read_live_code_bench(path: Path, rows: list[JSON]) -> Iterator[Trial]:
    """Read `..._eval_all.json`: each generation of a problem is a run; the rung is the folder.

    Where a problem has several tests of their own (`test_id`, or `id`), each is a request.
    """
    for row in rows:
        grades = row["graded_list"]
        if not isinstance(grades, list):
            raise InputError(
                f"{path}, {row['question_id']}: graded_list is {grades!r}",
                hint="it is a list with one grade a generation",
            )
        answers = row.get("output_list") or row.get("code_list") or row.get("pred_list") or []
        question = row.get("question_content") or row.get("code") or ""
        usage = Usage(input_tokens=estimated(question + (row.get("starter_code") or "")))
        problem, test = str(row["question_id"]), row.get("test_id", row.get("id"))
        for run, right in enumerate(grades):
            yield output_trial(
                right,
                at=f"{path}, {problem}",
                request_id=problem if test is None else f"{problem}/{test}",
                rung=path.parent.name or path.stem,
                run=str(run) if len(grades) > 1 else None,
                cluster=problem,
                group=row.get("difficulty"),
                text=question,
                answer=answers[run] if run < len(answers) else None,
                usage=usage if question else Usage(),
                scorer="tests",
            )


def read_aa_lcr(path: Path, rows: Iterable[Mapping[str, Any]]) -> Iterator[Trial]:
    """Read graded answers to AA-LCR: CORRECT or INCORRECT; questions on one set are a cluster.

    An answer without a grade is unscored, and one with an `error` has failed. The dataset states
    how many tokens each prompt has; a copy of it in the same folder is read.
    """
    dataset = path.with_name("AA-LCR_Dataset.csv")
    prompts = {}
    if dataset.is_file():
        prompts = {row["question_id"]: row.get("input_tokens") for row in read_csv(dataset)}
    for row in rows:
        at = f"{path}, question {row['question_id']}"
        grade = str(row["grade"] or "").strip().upper()
        if grade and grade not in _AA_GRADES:
            raise InputError(
                f"{at}: grade {row['grade']!r}",
                hint="the equality checker says CORRECT or INCORRECT",
            )
        counts = {
            name: _number(row.get(f"{name}_tokens"), at=at)
            for name in ("input", "output", "reasoning")
        }
        usage = stated_usage(**counts)
        listed = _number(prompts.get(str(row["question_id"])), at=str(dataset))
        if counts["input"] is None and listed is not None:
            usage = replace(usage, input_tokens=Count(int(listed), CountSource.ESTIMATED))
        model, effort = str(row.get("model") or path.stem), row.get("effort")
        yield output_trial(
            _AA_GRADES.get(grade),
            at=str(path),
            request_id=str(row["question_id"]),
            rung=f"{model}@{effort}" if effort else model,
            usage=usage,
            charge_usd=stated_usd(_number(row.get("cost"), at=at)),
            run=_first_of(row, "run", "repeat", "epoch"),
            cluster=_first_of(row, "document_set_id"),
            group=_first_of(row, "document_category"),
            text=str(row.get("question") or ""),
            answer=_first_of(row, "response", "candidate_answer"),
            error=_first_of(row, "error"),
            scorer="equality",
        )


def read_csv(path: Path) -> list[dict[str, Any]]:
    """Read a table with a header; a cell may hold a whole prompt."""
    csv.field_size_limit(2**31 - 1)  # its default is 131,072
    return list(csv.DictReader(io.StringIO(read_bytes(path).decode("utf-8-sig"))))


def _first_of(row: Mapping[str, Any], *columns: str) -> str | None:
    """Return the first of some columns that is filled, as text."""
    filled = (row.get(column) for column in columns)
    return next((text_of(value) for value in filled if value not in (None, "")), None)


def _number(value: Any, *, at: str) -> float | None:
    """Read a number, which a table holds as text; None where there is none."""
    if value is None or str(value).strip().lower() in _UNKNOWN:
        return None
    try:
        return float(value)
    except ValueError as error:
        raise InputError(
            f"{at}: {value!r} is no number", hint="leave empty what is not known"
        ) from error
