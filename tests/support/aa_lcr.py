"""The table of AA-LCR with the columns of its dataset's card."""

import csv
from collections.abc import Iterable
from pathlib import Path

_COLUMNS = (
    "document_category",
    "document_set_id",
    "question_id",
    "question",
    "answer",
    "data_source_filenames",
    "data_source_urls",
    "input_tokens",
)


def write_aa_lcr(folder: Path, rows: Iterable[tuple[object, ...]]) -> Path:
    """Write `AA-LCR_Dataset.csv` with a row for each question, in the order of its columns."""
    path = folder / "AA-LCR_Dataset.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([_COLUMNS, *rows])
    return path
