"""A file that another one holds whole is read once, however it is packed."""

import gzip
import json
from pathlib import Path

import pytest
import zstandard

from suffice.logs.read import read_logs

ROWS = [
    json.dumps({"model": "gpt-5", "prompt_tokens": 100 + n, "completion_tokens": 7})
    for n in range(200)
]  # neither times nor ids: rows do not tell a copy


def prompts(*names: Path) -> tuple[int, dict[str, str]]:
    """Return the sum of all prompts, and why files were left out, by their names."""
    with read_logs([str(name) for name in names]) as logs:
        [(total,)] = logs.store.execute("SELECT sum(input_tokens) FROM records").fetchall()
        return int(total), {Path(one.path).name: one.reason for one in logs.skipped}


def write(path: Path, rows: list[str], end: str = "\n") -> Path:
    path.write_text("\n".join(rows) + end)
    return path


WHOLE = sum(100 + n for n in range(200))


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress, bytes])
def test_a_packed_copy_is_left_out(pack: object, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ROWS)
    copy = tmp_path / "b.jsonl.gz"
    assert callable(pack)
    copy.write_bytes(pack(path.read_bytes()))
    assert prompts(tmp_path) == (WHOLE, {"b.jsonl.gz": f"the same file as {path}"})
    assert prompts(path, path, tmp_path)[0] == WHOLE


@pytest.mark.parametrize("end", ["\n", ""])
def test_an_earlier_state_of_a_log_is_left_out(end: str, tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", ROWS)
    write(tmp_path / "backup.jsonl", ROWS[:150], end)
    (tmp_path / "old.jsonl.gz").write_bytes(gzip.compress("\n".join(ROWS[:120]).encode() + b"\n"))
    assert prompts(tmp_path) == (
        WHOLE,
        {"backup.jsonl": f"the beginning of {path}", "old.jsonl.gz": f"the beginning of {path}"},
    )


def test_files_that_only_begin_alike_are_all_read(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", ROWS)
    write(tmp_path / "b.jsonl", [*ROWS[:150], ROWS[0]])
    assert prompts(tmp_path) == (WHOLE + sum(100 + n for n in range(150)) + 100, {})
    members = gzip.compress("\n".join(ROWS).encode() + b"\n") * 2  # as rotation appends them
    (tmp_path / "b.jsonl").unlink()
    (tmp_path / "b.jsonl.gz").write_bytes(members)
    assert prompts(tmp_path) == (
        2 * WHOLE,
        {"a.jsonl": f"the beginning of {tmp_path / 'b.jsonl.gz'}"},
    )


def test_a_log_that_is_cut_within_a_line_is_no_earlier_state(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", ROWS)
    (tmp_path / "cut.jsonl").write_bytes(path.read_bytes()[:-10])
    assert prompts(path, tmp_path) == (2 * WHOLE - 299, {"cut.jsonl": "no JSON"})


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_a_damaged_file_is_no_copy_and_gives_the_rows_before_the_damage(
    pack: object, tmp_path: Path
) -> None:
    many = [row.replace("gpt-5", f"gpt-5-{n * 7919 % 9973}") for n, row in enumerate(ROWS * 40)]
    path = write(tmp_path / "a.jsonl", many)
    assert callable(pack)
    packed = pack(path.read_bytes())
    damaged = tmp_path / "b.jsonl.gz"
    damaged.write_bytes(packed[:-2000] + b"\xff" * 2000)
    whole = prompts(path)[0]
    total, skipped = prompts(damaged)
    assert 0 < total < whole
    assert skipped["b.jsonl.gz"]
