import gzip
import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from benchmarks.jepa import table as tables  # noqa: E402
from benchmarks.jepa.table import Setting, Size, table  # noqa: E402
from msgspec import structs  # noqa: E402
from tiny_llama import PAIRS, conversation, llama, tokenizer  # noqa: E402

from suffice.jepa.settings import Labels, Precision  # noqa: E402

SIZE = Size(
    sets=("synth",),
    rows=(1, 3),
    labels=(Labels.ANSWER,),
    methods=("start", "sft", "jepa", "tube"),
    seeds=(0, 1),
    eval_rows=2,
    epochs=2,
    batch_examples=2,
    learning_rate=1e-2,
    precision=Precision.FLOAT32,
    max_new_tokens=4,
)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    (tmp_path / "text").mkdir()
    lines = [json.dumps({"messages": list(conversation(q, a).messages)}) for q, a in PAIRS]
    for split in ("train", "test"):
        path = tmp_path / "text" / f"nl_rx_synth_{split}.jsonl.gz"
        path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return Setting(
        model=llama(), tokenizer=tokenizer(), data=tmp_path, folder=tmp_path / "runs", size=SIZE
    )


def test_every_method_is_compared_with_plain_training_on_the_same_rows_and_seeds(
    setting: Setting,
) -> None:
    result = table(setting)
    cells = {(c["method"], c["rows"]): c for c in result["cells"]}
    trained = {(m, n) for m in ("sft", "jepa", "tube") for n in (1, 3)}
    assert set(cells) == {("start", 0)} | trained
    assert all(cells[key]["seeds"] == 2 for key in trained)
    assert cells["tube", 3]["test_loss"]["mean"] < cells["start", 0]["test_loss"]["mean"]
    gains = {(g["method"], g["rows"]): g for g in result["gains"]}
    assert set(gains) == {(m, n) for m in ("jepa", "tube") for n in (1, 3)}
    for (method, rows), gain in gains.items():
        both = cells[method, rows]["test_loss"]["mean"], cells["sft", rows]["test_loss"]["mean"]
        assert gain["test_loss"]["mean"] == pytest.approx(both[0] - both[1])
        low, high = gain["test_loss"]["interval"]
        assert low < gain["test_loss"]["mean"] < high


def test_a_table_goes_on_where_it_stopped_and_takes_only_runs_of_its_recipe(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[Any] = []
    honest = tables._run

    def counted(arm: Any, setting: Setting) -> Any:
        runs.append(arm)
        return honest(arm, setting)

    monkeypatch.setattr(tables, "_run", counted)
    small = structs.replace(SIZE, methods=("sft",), seeds=(0,), rows=(1,))
    for size, number in ((small, 1), (structs.replace(small, rows=(1, 3)), 2)):
        table(tables.Setting(**{**vars(setting), "size": size}))
        assert len(runs) == number
    other = structs.replace(small, learning_rate=1e-3)
    table(tables.Setting(**{**vars(setting), "size": other}))
    assert len(runs) == 3
