"""AA-LCR and LiveCodeBench from a user's copy of the data, in the shapes that are published."""

import base64
import csv
import json
import pickle
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from suffice.bench import code_runner
from suffice.bench.outside_tasks import extract_code, read_code_problems, read_document_questions
from suffice.errors import InputError
from suffice.trials.economy import economy
from suffice.trials.importers import read_trials

PASS = "\n            pass\n        "
ADD = "class Solution:\n    def add(self, a: List[int], b: int):\n        return sum(a) + b\n"


def aa_lcr_copy(folder: Path) -> Path:
    """Lay the dataset out as on its card: a table, and an archive of texts by set."""
    (folder / "extracted_text").mkdir(parents=True)
    with (folder / "AA-LCR_Dataset.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            (
                "document_category",
                "document_set_id",
                "question_id",
                "question",
                "answer",
                "data_source_filenames",
                "data_source_urls",
                "input_tokens",
            )
        )
        writer.writerow(("Legal", "law", 1, "Which rule?", "Rule 7", "b.txt;á b.txt", "", 12))
    with zipfile.ZipFile(folder / "extracted_text" / "AA-LCR_extracted-text.zip", "w") as pack:
        pack.writestr("lcr/Legal/law/á b.txt", "first text")
        pack.writestr("lcr/Legal/law/b.txt", "second text")
    return folder


def problem(**changes: Any) -> dict[str, Any]:
    """Make a line of code_generation_lite; private tests are packed as they are there."""
    private = [{"input": "[1, 2]\n3", "output": "6", "testtype": "functional"}]
    packed = base64.b64encode(zlib.compress(pickle.dumps(json.dumps(private)))).decode()
    return {
        "question_title": "Add",
        "question_content": "Add them.",
        "platform": "leetcode",
        "question_id": "1",
        "contest_id": "c",
        "contest_date": "2024-08-01T00:00:00",
        "starter_code": "class Solution:\n    def add(self, a, b):",
        "difficulty": "easy",
        "public_test_cases": json.dumps(
            [{"input": "[1]\n1", "output": "2", "testtype": "functional"}]
        ),
        "private_test_cases": packed,
        "metadata": json.dumps({"func_name": "add"}),
    } | changes


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_documents_come_in_the_order_that_the_question_names(tmp_path: Path) -> None:
    (question,) = read_document_questions(aa_lcr_copy(tmp_path / "lcr"))
    prompt = question.prompt
    assert prompt.index("BEGIN DOCUMENT 1:\nsecond") < prompt.index("BEGIN DOCUMENT 2:\nfirst")
    assert prompt.endswith("START QUESTION\n\nWhich rule?\n\nEND QUESTION\n")
    archive = tmp_path / "lcr" / "extracted_text" / "AA-LCR_extracted-text.zip"
    with zipfile.ZipFile(archive) as pack:
        pack.extractall(archive.parent)
    archive.unlink()
    assert read_document_questions(tmp_path / "lcr") == (question,)
    (archive.parent / "lcr" / "Legal" / "law" / "b.txt").unlink()
    with pytest.raises(InputError, match="no document"):
        read_document_questions(tmp_path / "lcr")


def test_problems_have_their_public_and_private_tests(tmp_path: Path) -> None:
    (one,) = read_code_problems(write(tmp_path / "test.jsonl", problem()))
    assert [test.output for test in one.tests] == ["2", "6"]
    assert one.function == "add"
    assert "class Solution" in one.prompt


def test_a_pickle_that_names_code_is_refused(tmp_path: Path) -> None:
    evil = base64.b64encode(zlib.compress(b"cos\nsystem\n(S'true'\ntR.")).decode()
    path = write(tmp_path / "test.jsonl", problem(private_test_cases=evil))
    with pytest.raises(InputError, match=r"os\.system"):
        read_code_problems(path)


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (ADD, "all passed"),
        (ADD.replace("+ b", "- b"), "test 0: wrong answer"),
        ("class Solution: pass", "test 0"),
        (
            ADD.replace("return", "while True:\n            pass\n        return"),
            "test 0: too slow",
        ),
    ],
)
def test_programs_are_run_on_functional_tests(tmp_path: Path, code: str, verdict: str) -> None:
    (one,) = read_code_problems(write(tmp_path / "test.jsonl", problem()))
    (tmp_path / "job.json").write_bytes(one.job(code, test_s=1.0 if "while" in code else 30.0))
    assert run(tmp_path).startswith(verdict)


def test_programs_are_run_on_input_and_output(tmp_path: Path) -> None:
    tests = [{"input": "1 2\n", "output": "3.0\ndone", "testtype": "stdin"}]
    row = problem(
        public_test_cases=json.dumps(tests), private_test_cases="[]", starter_code="", metadata="{}"
    )
    (one,) = read_code_problems(write(tmp_path / "test.jsonl", row))
    code = "print(sum(map(int, input().split())))\nprint('done ')"
    (tmp_path / "job.json").write_bytes(one.job(code, test_s=30.0))
    assert run(tmp_path) == "all passed"


def run(folder: Path) -> str:
    command = [sys.executable, str(Path(code_runner.__file__)), str(folder / "job.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    return done.stdout.strip()


def test_the_last_fenced_block_is_the_code() -> None:
    assert extract_code("```\nold\n```\ntext\n```python\nnew\n```") == "new"
    assert extract_code("no code") == ""


RUN_TASKS = """
import sys
from inspect_ai import eval as run_tasks
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from suffice.bench.inspect_tasks import aa_lcr, livecodebench

def mock(answer):
    output = ModelOutput.from_content("mockllm/model", answer)
    # without usage, Inspect would download a tokenizer
    output.usage = ModelUsage(input_tokens=50, output_tokens=7, total_tokens=57)
    return get_model("mockllm/model", custom_outputs=[output])

settings = {"log_dir": "logs", "log_format": "json", "display": "none"}
grader = {"grader": mock("CORRECT")}
run_tasks(aa_lcr("lcr"), model=mock("Rule 7."), model_roles=grader, **settings)
run_tasks(livecodebench("t.jsonl", sandbox="local"), model=mock(sys.argv[1]), **settings)
"""


@pytest.mark.slow
def test_the_tasks_run_in_inspect_and_their_logs_compare(tmp_path: Path) -> None:
    pytest.importorskip("inspect_ai")
    aa_lcr_copy(tmp_path / "lcr")
    write(tmp_path / "t.jsonl", problem())
    command = [sys.executable, "-c", RUN_TASKS, f"```python\n{ADD}```"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    trials = read_trials(tmp_path / "logs")
    assert sorted((trial.group, trial.quality, trial.cluster) for trial in trials) == [
        ("suffice/aa_lcr", 1.0, "law"),
        ("suffice/livecodebench", 1.0, None),
    ]
    (rung,) = economy(trials, prices={}).rungs
    assert (rung.score.value, rung.output_tokens and rung.output_tokens.value) == (1.0, 7.0)
