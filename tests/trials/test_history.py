"""Quality per generated token over checkpoints: a plain function, a callback and a command."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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


def test_a_resumed_training_replaces_the_checkpoints_that_it_comes_to_again(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    for run_name in ("a", "b"):
        for step in (100, 200, 1000):
            log_checkpoint(path, step=step, qualities=[0, 0], output_tokens=[5, 5], run=run_name)
    log_checkpoint(path, step=200, qualities=[1, 1], output_tokens=[4, 4], run="a")
    result = history(frontier(read_trials(path)))
    assert [
        (one.run, one.step, one.accuracy and one.accuracy.value) for one in result.checkpoints
    ] == [
        ("a", 100, 0.0),
        ("a", 200, 1.0),
        ("a", 1000, 0.0),
        ("b", 100, 0.0),
        ("b", 200, 0.0),
        ("b", 1000, 0.0),
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"step": -1}, "no checkpoint"),
        ({"step": 1.5}, "no checkpoint"),
        ({"run": ""}, "no checkpoint"),
        ({"qualities": [float("nan"), 0]}, "outside"),
        ({"qualities": [None, 0]}, "outside"),
        ({"output_tokens": [-1, 4]}, "below 0"),
        ({"output_tokens": [float("nan"), 4]}, "below 0"),
        ({"requests": ["a", "a"]}, "twice"),
        ({"qualities": [], "output_tokens": []}, "no answer"),
    ],
)
def test_answers_that_no_training_can_have_are_refused_and_not_written(
    change: dict[str, Any], says: str, tmp_path: Path
) -> None:
    good: dict[str, Any] = {"step": 1, "qualities": [1, 0], "output_tokens": [3, 4]}
    with pytest.raises(InputError, match=says):
        log_checkpoint(tmp_path / "h", **good | change)
    assert not (tmp_path / "h").exists()


class Bytes:
    """A tokenizer of bytes, as far as the callback uses one."""

    def __call__(self, text: str, return_tensors: str) -> Any:
        import torch
        import transformers

        ids = torch.tensor([list(text.encode())])
        return transformers.BatchEncoding({"input_ids": ids})

    def decode(self, tokens: Any, skip_special_tokens: bool) -> str:
        return bytes(tokens.tolist()).decode("utf-8", "replace")


def trainer_of(folder: Path, *, eval_sets: int = 1, log: bool = False, **settings: Any) -> Any:
    """Make a Trainer of a tiny model whose callback writes `history.jsonl`."""
    import transformers

    from suffice.bench.checkpoints import FrontierCallback, Questions

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
    usual = {"max_steps": 2, "eval_steps": 1, "save_strategy": "no"}
    trainer = transformers.Trainer(
        transformers.LlamaForCausalLM(config),
        transformers.TrainingArguments(
            str(folder / "out"),
            eval_strategy="steps",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            **usual | settings,
        ),
        train_dataset=rows,
        eval_dataset=rows if eval_sets == 1 else {str(n): rows for n in range(eval_sets)},
    )
    trainer.add_callback(
        FrontierCallback(
            folder / "history.jsonl",
            Questions(
                pairs=[("a", ""), ("b", "")],
                mark=lambda target, answer: float(target in answer),
                max_new_tokens=3,
            ),
            tokenizer=Bytes(),
            log=trainer.log if log else None,
        )
    )
    return trainer


def steps_of(folder: Path) -> list[int]:
    return [
        one.step
        for one in history(frontier(read_trials(folder / "history.jsonl"))).checkpoints
        if one.answers == 2
    ]


@pytest.mark.torch
def test_the_callback_logs_with_the_real_trainer(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    trainer = trainer_of(tmp_path)
    trainer.train()
    assert steps_of(tmp_path) == [1, 2]
    result = history(frontier(read_trials(tmp_path / "history.jsonl")))
    assert result.checkpoints[0].tokens_per_correct is not None
    assert result.checkpoints[0].tokens_per_correct.value == 3
    logged = [row for row in trainer.state.log_history if "eval_accuracy_per_1000_tokens" in row]
    assert len(logged) == 2
    assert trainer.evaluate()["eval_tokens_per_right_answer"] == 3


@pytest.mark.torch
def test_the_callback_reaches_the_loggers_of_the_trainer(tmp_path: Path) -> None:
    """Transformers 30219: what a callback adds to the metrics of an evaluation is not logged."""
    transformers = pytest.importorskip("transformers")
    heard = []

    class Logger(transformers.TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            heard.append((state.global_step, dict(logs)))

    trainer = trainer_of(tmp_path, log=True)
    trainer.add_callback(Logger())
    trainer.train()
    figures = [(step, row) for step, row in heard if "eval_tokens_per_right_answer" in row]
    assert [step for step, _ in figures] == [1, 2]
    assert all(row["eval_tokens_per_right_answer"] == 3 for _, row in figures)


@pytest.mark.torch
def test_several_datasets_and_accumulated_gradients_give_one_checkpoint_a_step(
    tmp_path: Path,
) -> None:
    """Unsloth-zoo 873: a Trainer may evaluate several times at one step."""
    pytest.importorskip("transformers")
    trainer = trainer_of(
        tmp_path,
        eval_sets=3,
        log=True,
        gradient_accumulation_steps=2,
        per_device_train_batch_size=1,
    )
    trainer.train()
    assert steps_of(tmp_path) == [1, 2]
    logged = [row for row in trainer.state.log_history if "eval_accuracy" in row]
    assert len(logged) == 2


@pytest.mark.torch
def test_a_resumed_trainer_goes_on_with_its_history(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    settings = {"save_strategy": "steps", "save_steps": 1}
    trainer_of(tmp_path, max_steps=3, **settings).train()
    before = (tmp_path / "history.jsonl").read_bytes()
    again = trainer_of(tmp_path, max_steps=4, **settings)
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-1"))
    assert steps_of(tmp_path) == [1, 2, 3, 4]
    assert (tmp_path / "history.jsonl").read_bytes()[:40] == before[:40]


@pytest.mark.torch
def test_only_the_first_process_answers_and_sharded_weights_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    trainer = trainer_of(tmp_path)
    (callback,) = [c for c in trainer.callback_handler.callbacks if hasattr(c, "_questions")]
    other = SimpleNamespace(is_world_process_zero=False, global_step=1)
    callback.on_evaluate(trainer.args, other, None, model=None, metrics={})
    assert not (tmp_path / "history.jsonl").exists()
    with pytest.raises(InputError, match="sharded"):
        callback.on_train_begin(SimpleNamespace(fsdp=["full_shard"]), None, None)
