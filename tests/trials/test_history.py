"""Quality per generated token over checkpoints: a plain function, a callback and a command."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_support import run

from suffice.errors import InputError
from suffice.trials.frontier import frontier
from suffice.trials.history import history, log_checkpoint
from suffice.trials.importers import read_trials


def train(path: Path) -> None:
    for step, (right, tokens) in {1000: (9, 30), 100: (4, 20), 500: (6, 90)}.items():
        log_checkpoint(
            path,
            step=step,
            qualities=[float(n < right) for n in range(12)],
            output_tokens=[tokens] * 12,
            run="a",
        )


def test_checkpoints_come_in_the_order_of_training(tmp_path: Path) -> None:
    train(tmp_path / "h.jsonl")
    result = history(frontier(read_trials(tmp_path / "h.jsonl")))
    assert [one.step for one in result.checkpoints] == [100, 500, 1000]
    assert [one.on_front for one in result.checkpoints] == [True, False, True]
    last = result.checkpoints[-1]
    assert last.tokens_per_correct is not None
    assert last.accuracy_per_1000_tokens is not None
    assert last.tokens_per_correct.value == pytest.approx(40)
    assert last.accuracy_per_1000_tokens.value == pytest.approx(25)
    tokens, per_1000 = last.tokens_per_correct.interval, last.accuracy_per_1000_tokens.interval
    assert tokens is not None
    assert per_1000 is not None
    assert per_1000[0] == pytest.approx(1000 / (tokens[1] or 0))


def test_no_right_answer_is_nothing_for_the_tokens(tmp_path: Path) -> None:
    trials = log_checkpoint(tmp_path / "h", step=1, qualities=[0, 0], output_tokens=[5, 5])
    (one,) = history(frontier(trials)).checkpoints
    assert one.tokens_per_correct is not None
    assert one.tokens_per_correct.value is None
    assert one.accuracy_per_1000_tokens is not None
    assert one.accuracy_per_1000_tokens.value == 0.0


def test_half_a_checkpoint_is_refused_and_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="token counts"):
        log_checkpoint(tmp_path / "h", step=1, qualities=[1.0], output_tokens=[5, 5])
    with pytest.raises(InputError, match="outside"):
        log_checkpoint(tmp_path / "h", step=1, qualities=[2.0], output_tokens=[5])
    assert not (tmp_path / "h").exists()
    with pytest.raises(InputError, match="no checkpoint"):
        history(frontier(read_trials(_other(tmp_path / "other.jsonl"))))


def _other(path: Path) -> Path:
    path.write_text(json.dumps({"request_id": "a", "rung": "big", "quality": 1.0}))
    return path


def test_the_command_prints_draws_and_gives_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path / "h.jsonl")
    figure = tmp_path / "h.svg"
    words = [str(tmp_path / "h.jsonl"), "--history"]
    shown = run(capsys, "frontier", *words, "--figure", str(figure))
    assert shown.status == 0, shown.err
    assert "1,000" in shown.out
    assert figure.read_text().lstrip().startswith("<svg")
    checkpoints = run(capsys, "frontier", *words, "--json").json["checkpoints"]
    assert [one["step"] for one in checkpoints] == [100, 500, 1000]
    refused = run(capsys, "frontier", words[0], "--figure", str(figure))
    assert refused.status == 2


@pytest.mark.torch
def test_the_callback_logs_with_the_real_trainer(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from suffice.bench.checkpoints import FrontierCallback

    mark: Callable[[str, str], float] = lambda target, answer: float(target in answer)  # noqa: E731

    class Bytes:
        """A tokenizer of bytes, as far as the callback uses one."""

        def __call__(self, text: str, return_tensors: str) -> object:
            ids = torch.tensor([list(text.encode())])
            return transformers.BatchEncoding({"input_ids": ids})

        def decode(self, tokens: object, skip_special_tokens: bool) -> str:
            return bytes(tokens.tolist()).decode("utf-8", "replace")

    config = transformers.LlamaConfig(
        vocab_size=256,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        eos_token_id=None,
        bos_token_id=None,
        pad_token_id=0,
    )
    rows = [{"input_ids": list(b"abcd"), "labels": list(b"abcd")}] * 4
    path = tmp_path / "history.jsonl"
    questions = [("a", ""), ("b", "")]
    callback = FrontierCallback(path, questions, mark, tokenizer=Bytes(), max_new_tokens=3)
    trainer = transformers.Trainer(
        transformers.LlamaForCausalLM(config),
        transformers.TrainingArguments(
            str(tmp_path / "out"),
            max_steps=2,
            eval_strategy="steps",
            eval_steps=1,
            report_to=[],
            use_cpu=True,
            save_strategy="no",
        ),
        train_dataset=rows,
        eval_dataset=rows,
        callbacks=[callback],
    )
    trainer.train()
    result = history(frontier(read_trials(path)))
    assert [(one.step, one.answers) for one in result.checkpoints] == [(1, 2), (2, 2)]
    assert result.checkpoints[0].tokens_per_correct is not None
    assert result.checkpoints[0].tokens_per_correct.value == 3
    logged = [row for row in trainer.state.log_history if "eval_accuracy_per_1000_tokens" in row]
    assert len(logged) == 2
    assert trainer.evaluate()["eval_tokens_per_right_answer"] == 3
