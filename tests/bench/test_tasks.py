"""Tasks from JSONL and from reasoning-gym: what is read, and how each mistake is refused."""

import dataclasses
import gzip
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from suffice.bench import sources
from suffice.bench.sources import load_tasks
from suffice.errors import InputError
from suffice.scoring.scorers import mark


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


def row(**fields: Any) -> dict[str, Any]:
    return {"request_id": "a", "text": "1+1?", "target": "2"} | fields


def refusal(tmp_path: Path, *rows: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        load_tasks(write(tmp_path / "tasks.jsonl", *rows), allow_code=True)
    return caught.value


def test_a_row_becomes_a_task(tmp_path: Path) -> None:
    path = write(
        tmp_path / "tasks.jsonl",
        row(group="sums", scorer="numeric", options={"abs_tol": 0.5}, params={"seed": 1}),
        "",
        row(request_id="b", text=None, messages=[{"role": "user", "content": "hi"}], target=None),
    )
    first, second = load_tasks(path)
    assert first.request.text == "1+1?"
    assert first.request.group == "sums"
    assert first.request.params == {"seed": 1}
    assert (first.target, first.scorer, first.options) == ("2", "numeric", {"abs_tol": 0.5})
    assert second.request.messages == ({"role": "user", "content": "hi"},)


def test_a_target_without_a_scorer_is_marked_exactly_and_no_target_not_at_all(
    tmp_path: Path,
) -> None:
    tasks = load_tasks(write(tmp_path / "t.jsonl", row(), row(request_id="b", target=None)))
    assert [task.scorer for task in tasks] == ["exact", None]


def test_gzip_is_read_whatever_the_name(tmp_path: Path) -> None:
    path = tmp_path / "tasks.dat"
    path.write_bytes(gzip.compress(json.dumps(row()).encode()))
    assert load_tasks(path)[0].request.request_id == "a"


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(row()).encode())
    assert len(load_tasks(path)) == 1


@pytest.mark.parametrize(
    ("bad", "says", "hint"),
    [
        ("{", "line 2: ", "one JSON object"),
        ("[1]", "line 2: a list", "one JSON object"),
        ('{"request_id": "b", "text": "x", "target": NaN}', "field 'target' is nan", ""),
        (row(request_id=7), "line 2: field 'request_id': Expected `str`, got `int`", ""),
        ({"text": "x"}, "line 2: Object missing required field `request_id`", ""),
        (row(request_id="b", grop="x"), "unknown field 'grop'", "'group'"),
        (row(), "request_id 'a' is that of line 1", "own id"),
        (row(request_id="b", messages=[]), "both given", ""),
        (row(request_id="b", text=None), "neither given", ""),
        (row(request_id="b", text=None, messages=[{}]), "a message without a role", ""),
        (row(request_id="b", scorer="exakt"), "unknown scorer 'exakt'", "'exact'"),
        (row(request_id="b", scorer="numeric", target="two"), "'two' is not a number", ""),
        (row(request_id="b", scorer="numeric", target=None), "is not a number", ""),
        (row(request_id="b", scorer="numeric", options={"abs_tool": 1}), "'abs_tool'", "abs_tol"),
        (row(request_id="b", scorer="numeric", options={"abs_tol": -1}), "from 0 on", ""),
        (row(request_id="b", scorer="regex", target="("), "not a regular expression", ""),
        (row(request_id="b", scorer="choice", target="BB"), "not one of the choices", ""),
        (row(request_id="b", scorer="json_schema", target={"type": 3}), "not a JSON schema", ""),
        (row(request_id="b", scorer="json_schema", target="x"), "schema object", ""),
        (row(request_id="b", scorer="exact", target={"a": 1}), "exact needs", ""),
        (row(request_id="b", scorer="rubric", target=3), "model answer", ""),
        (row(request_id="b", scorer="no_such.module:f"), "cannot import", "module:function"),
        (row(request_id="b", scorer="os:name"), "not callable", ""),
    ],
)
def test_a_bad_row_is_refused_with_its_line_and_field(
    tmp_path: Path, bad: Any, says: str, hint: str
) -> None:
    error = refusal(tmp_path, row(), bad)
    assert "tasks.jsonl, line 2" in error.message
    assert says in error.message
    assert hint in (error.hint or "")


@pytest.mark.parametrize("scorer", ["builtins:exec", "os:system", "no_such.module:f"])
def test_a_scorer_of_the_file_is_not_imported_unless_code_is_allowed(
    tmp_path: Path, scorer: str
) -> None:
    path = write(tmp_path / "tasks.jsonl", row(scorer=scorer))
    with pytest.raises(InputError, match="is code") as refused:
        load_tasks(path)
    assert "--allow-code" in refused.value.hint


def test_an_empty_missing_or_broken_file_is_refused(tmp_path: Path) -> None:
    assert "is empty" in refusal(tmp_path).message
    with pytest.raises(InputError, match="No such file"):
        load_tasks(tmp_path / "none.jsonl")
    broken = tmp_path / "broken.gz"
    broken.write_bytes(gzip.compress(b"x" * 1000)[:20])
    with pytest.raises(InputError, match="broken gzip"):
        load_tasks(broken)


@pytest.mark.slow
def test_a_generator_gives_the_same_tasks_again_and_its_own_answers_are_right() -> None:
    source = "reasoning-gym:chain_sum,gcd?count=4&seed=7&level=1"
    tasks = load_tasks(source)
    assert tasks == load_tasks(source)
    assert [task.request.group for task in tasks] == ["chain_sum"] * 4 + ["gcd"] * 4
    assert len({task.request.request_id for task in tasks}) == 8
    for task in tasks:
        for text, quality in ((f"so <answer>{task.target}</answer>", 1.0), ("no idea", 0.0)):
            verdict = mark(text, scorer=task.scorer, target=task.target, options=task.options)
            assert verdict.quality == quality


def test_seed_level_and_settings_change_the_tasks() -> None:
    plain = load_tasks("reasoning-gym:chain_sum?count=3")
    for query in ("seed=1", "level=5", "min_terms=9&max_terms=9"):
        assert load_tasks(f"reasoning-gym:chain_sum?count=3&{query}") != plain


@pytest.mark.parametrize(
    ("source", "says", "hint"),
    [
        ("chain_sums", "no such generator", "'chain_sum'"),
        ("chain_sum?cout=3", "no setting 'cout'", "valid names"),
        ("chain_sum?count=x", "Expected `int`", "whole numbers"),
        ("chain_sum?count=0", "makes no task", "1 or more"),
        ("chain_sum?min_terms=0", "must be positive", "configuration"),
        ("gsm_symbolic?level=1&count=1", "no difficulty levels", ""),
    ],
)
def test_a_wrong_source_is_refused(source: str, says: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        load_tasks(f"reasoning-gym:{source}")
    assert says in caught.value.message
    assert hint in (caught.value.hint or "")


def test_a_generator_that_depends_on_the_hash_seed_needs_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "random")
    with pytest.raises(InputError, match="each Python process"):
        load_tasks("reasoning-gym:word_ladder?count=1")
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    assert len(load_tasks("reasoning-gym:ransom_note?count=1")) == 1


def test_a_generator_that_ignores_its_seed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from reasoning_gym import factory

    @dataclasses.dataclass
    class Settings:
        seed: int = 0
        size: int = 1

    class Unseeded:
        def __init__(self, config: Settings) -> None:
            self.config = config

        def __getitem__(self, index: int) -> dict[str, Any]:
            return {"question": str(random.random()), "answer": "1"}

    monkeypatch.setitem(factory.DATASETS, "unseeded", (Unseeded, Settings))
    with pytest.raises(InputError, match="ignores its seed"):
        load_tasks("reasoning-gym:unseeded?count=3")


def test_an_answer_to_a_changed_task_is_unscored_not_wrong() -> None:
    task = load_tasks("reasoning-gym:gcd?count=1")[0]
    verdict = mark("1", scorer=task.scorer, target="-1", options=task.options)
    assert verdict.quality is None
    assert "another task" in (verdict.reason or "")


FINGERPRINTS = """
import contextlib, hashlib, io, json, sys
with contextlib.redirect_stdout(io.StringIO()):
    from reasoning_gym import create_dataset, factory
    found = {}
    for name in sorted(set(factory.DATASETS) - {"composite", "codeio", "list_functions"}):
        count = {"intermediate_integration": 40, "sokoban": 1, "zebra_puzzles": 1}.get(name, 3)
        made = create_dataset(name, seed=5, size=count)
        shown = [(made[i]["question"], str(made[i]["answer"])) for i in range(count)]
        found[name] = hashlib.sha256(repr(shown).encode()).hexdigest()
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_list_of_generators_that_depend_on_the_hash_seed_is_right() -> None:
    found = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", FINGERPRINTS],
                env=os.environ | {"PYTHONHASHSEED": seed},
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for seed in ("1", "2", "3")
    ]
    differ = {name for name in found[0] if len({each[name] for each in found}) > 1}
    assert differ == sources.HASH_SEEDED
