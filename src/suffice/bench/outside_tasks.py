"""Questions of AA-LCR and problems of LiveCodeBench, read from a user's copy of their data."""

import base64
import csv
import io
import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from suffice.errors import InputError
from suffice.trials.jsonl import convert_row, decode_object, read_bytes, read_lines

QUESTIONS = "AA-LCR_Dataset.csv"
DOCUMENTS = "extracted_text/AA-LCR_extracted-text.zip"

# The prompts below are those of the benchmarks word for word: other words give other scores.
_DOCUMENT_PROMPT = """BEGIN INPUT DOCUMENTS

{documents}

END INPUT DOCUMENTS

Answer the following question using the input documents provided above.

START QUESTION

{question}

END QUESTION
"""
_GRADING_PROMPT = """Assess whether the following CANDIDATE ANSWER is CORRECT or INCORRECT.
For the CANDIDATE ANSWER to be correct, it must be consistent with the OFFICIAL ANSWER.

The question, for reference only: {question}
The OFFICIAL ANSWER: {official}
CANDIDATE ANSWER TO ASSESS: {candidate}

Reply only with CORRECT or INCORRECT.
"""
CODE_INSTRUCTION = (
    "You are an expert Python programmer. You will be given a question (problem specification) and "
    "will generate a correct Python program that matches the specification and passes all tests."
)
_WITH_STARTER = (
    "You will use the following starter code to write the solution to the problem and enclose your "
    "code within delimiters."
)
_WITHOUT_STARTER = (
    "Read the inputs from stdin solve the problem and write the answer to stdout (do not directly "
    "test on the sample inputs). Enclose your code within delimiters as follows."
)


class DocumentQuestion(Struct, frozen=True, kw_only=True):
    """One question of AA-LCR, with the whole prompt over its documents."""

    id: str
    document_set: str
    question: str
    answer: str
    prompt: str


class CodeTest(Struct, frozen=True, kw_only=True):
    """Input and expected output; `stdin`, or `functional` with a JSON argument a line."""

    input: str
    output: str
    testtype: str


class _ProblemRow(Struct, frozen=True, kw_only=True):
    """A line of `livecodebench/code_generation_lite`; the tests are JSON in text."""

    question_id: str
    question_content: str
    difficulty: str
    starter_code: str = ""
    public_test_cases: str = "[]"
    private_test_cases: str = "[]"
    metadata: str = "{}"


class CodeProblem(Struct, frozen=True, kw_only=True):
    """One problem of LiveCodeBench with all its tests; `function` is for functional ones."""

    question_id: str
    prompt: str
    difficulty: str
    tests: tuple[CodeTest, ...]
    function: str | None

    def job(self, code: str, *, test_s: float) -> bytes:
        """Return what `code_runner` reads."""
        job = {"code": code, "tests": self.tests, "function": self.function, "test_s": test_s}
        return msgspec.json.encode(job)


def read_document_questions(folder: str | Path) -> tuple[DocumentQuestion, ...]:
    """Read the dataset of AA-LCR; documents come in the order that each question names.

    Raises InputError for a missing file or document: a shorter prompt would be another benchmark.
    """
    folder = Path(folder)
    rows = csv.DictReader(io.StringIO(read_bytes(folder / QUESTIONS).decode()))
    documents = _documents(folder)
    return tuple(_document_question(row, documents, at=str(folder / QUESTIONS)) for row in rows)


def grading_prompt(question: str, *, official: str, candidate: str) -> str:
    """Return the question to the model that grades."""
    return _GRADING_PROMPT.format(question=question, official=official, candidate=candidate)


def read_code_problems(path: str | Path) -> tuple[CodeProblem, ...]:
    """Read problems of LiveCodeBench, JSONL; raises InputError."""
    problems = []
    for number, line in read_lines(path):
        at = f"{path}, line {number}"
        row = convert_row(decode_object(line, at=at), _ProblemRow, at=at)
        public, private = (
            _tests(text, at=at) for text in (row.public_test_cases, row.private_test_cases)
        )
        problems.append(
            CodeProblem(
                question_id=row.question_id,
                prompt=_code_prompt(row),
                difficulty=row.difficulty,
                tests=public + private,
                function=msgspec.json.decode(row.metadata).get("func_name"),
            )
        )
    return tuple(problems)


def extract_code(answer: str) -> str:
    """Return the last block between fences, as lcb_runner does; empty without one."""
    lines = answer.split("\n")
    fences = [number for number, line in enumerate(lines) if "```" in line]
    return "" if len(fences) < 2 else "\n".join(lines[fences[-2] + 1 : fences[-1]])


def _documents(folder: Path) -> dict[str, str]:
    """Return the texts by `SET/FILE`, from the archive or from the unpacked folder beside it."""
    texts = {}
    archive = folder / DOCUMENTS
    if archive.is_file():
        with zipfile.ZipFile(archive) as pack:
            for entry in pack.infolist():
                if entry.filename.endswith(".txt"):
                    name = entry.filename
                    if not entry.flag_bits & 0x800:  # names without this flag read as code page 437
                        name = name.encode("cp437").decode("utf-8", "replace")
                    text = pack.read(entry).decode("utf-8", "replace")
                    texts["/".join(name.split("/")[-2:])] = text
        return texts
    for path in archive.parent.rglob("*.txt"):
        texts[f"{path.parent.name}/{path.name}"] = path.read_text("utf-8", "replace")
    if not texts:
        raise InputError(
            f"{folder} holds no documents", hint=f"keep {DOCUMENTS} as the dataset lays it out"
        )
    return texts


def _document_question(row: dict[str, str], documents: dict[str, str], *, at: str) -> Any:
    names = [name.strip() for name in row["data_source_filenames"].split(";") if name.strip()]
    keys = [f"{row['document_set_id']}/{name}" for name in names]
    missing = [key for key in keys if key not in documents]
    if missing:
        raise InputError(
            f"{at}, question {row['question_id']}: no document {missing[0]}",
            hint="unpack the archive of the dataset again",
        )
    texts = "\n\n".join(
        f"BEGIN DOCUMENT {n}:\n{documents[key]}\nEND DOCUMENT {n}" for n, key in enumerate(keys, 1)
    )
    return DocumentQuestion(
        id=row["question_id"],
        document_set=row["document_set_id"],
        question=row["question"],
        answer=row["answer"],
        prompt=_DOCUMENT_PROMPT.format(documents=texts, question=row["question"]),
    )


def _code_prompt(row: _ProblemRow) -> str:
    format_note = _WITH_STARTER if row.starter_code else _WITHOUT_STARTER
    return (
        f"### Question:\n{row.question_content}\n\n### Format: {format_note}\n"
        f"```python\n{row.starter_code or '# YOUR CODE HERE'}\n```\n\n"
        "### Answer: (use the provided format with backticks)\n\n"
    )


def _tests(text: str, *, at: str) -> tuple[CodeTest, ...]:
    """Read tests: JSON, or JSON that is pickled, packed and written in base 64 (private ones)."""
    try:
        if not text.lstrip().startswith("["):
            packed = zlib.decompress(base64.b64decode(text))
            text = _TextUnpickler(io.BytesIO(packed)).load()
        return msgspec.json.decode(text, type=tuple[CodeTest, ...])
    except (ValueError, zlib.error, pickle.UnpicklingError, msgspec.MsgspecError) as error:
        raise InputError(f"{at}: its tests cannot be read: {error}") from error


class _TextUnpickler(pickle.Unpickler):
    """Unpickles text only: a pickle that names a class is refused, so that it runs no code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"a pickle of tests names {module}.{name}")
