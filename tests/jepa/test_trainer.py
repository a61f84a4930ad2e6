from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from tiny_llama import PAIRS, cut, llama  # noqa: E402

from suffice.errors import InputError  # noqa: E402
from suffice.jepa.forward import PackedModel  # noqa: E402
from suffice.jepa.packing import PackingLayout  # noqa: E402
from suffice.jepa.settings import Distance, Objective  # noqa: E402


def trainer(
    out: Path,
    objective: Objective | None = None,
    *,
    layout: PackingLayout | None = None,
    **changes: Any,
) -> Any:
    from transformers import TrainingArguments

    from suffice.jepa.trainer import JepaTrainer

    settings = {
        "output_dir": str(out),
        "max_steps": 6,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_steps": 3,
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return JepaTrainer(
        PackedModel(llama(), predictors=1),
        TrainingArguments(**settings | changes),
        examples=cut(*PAIRS),
        objective=objective or Objective(),
        layout=layout or PackingLayout(predictors=1, pad_token=257),
    )


def test_it_logs_both_losses_and_resumes_from_its_checkpoint(tmp_path: Path) -> None:
    first = trainer(tmp_path)
    first.train()
    steps = [entry for entry in first.state.log_history if "loss" in entry]
    for entry in steps:
        both = entry["next_token_loss"] + entry["latent_loss"]
        assert entry["loss"] == pytest.approx(both, abs=1e-3)
    second = trainer(tmp_path)
    second.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    resumed = [entry for entry in second.state.log_history if "loss" in entry]
    assert [entry["loss"] for entry in resumed] == pytest.approx(
        [entry["loss"] for entry in steps], abs=1e-3
    )


def test_dropout_leaves_the_latent_loss_out(tmp_path: Path) -> None:
    plain = trainer(tmp_path, Objective(dropout=1.0), max_steps=1)
    plain.train()
    assert "latent_loss" not in plain.state.log_history[0]
    assert "next_token_loss" in plain.state.log_history[0]


def test_a_tube_is_drawn_from_every_batch(tmp_path: Path) -> None:
    tube = Objective(weight=0.5, distance=Distance.TUBE)
    run = trainer(tmp_path, tube, layout=PackingLayout(tube=True, pad_token=257), max_steps=2)
    run.train()
    steps = [entry for entry in run.state.log_history if "loss" in entry]
    for entry in steps:
        both = entry["next_token_loss"] + 0.5 * entry["latent_loss"]
        assert entry["loss"] == pytest.approx(both, abs=1e-3)


@pytest.mark.parametrize(
    ("objective", "layout"),
    [
        (Objective(distance=Distance.TUBE), PackingLayout(predictors=1)),
        (Objective(), PackingLayout(predictors=1, tube=True)),
        (Objective(), PackingLayout()),
    ],
)
def test_a_layout_without_what_the_objective_compares_is_refused(
    objective: Objective, layout: PackingLayout, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="does not give the latent loss"):
        trainer(tmp_path, objective, layout=layout)


def test_several_gpus_in_one_process_are_refused(tmp_path: Path) -> None:
    from transformers import TrainingArguments

    class TwoGpus(TrainingArguments):
        n_gpu = 2

    from suffice.jepa.trainer import JepaTrainer

    with pytest.raises(InputError, match="2 GPUs"):
        JepaTrainer(
            PackedModel(llama(), predictors=1),
            TwoGpus(output_dir=str(tmp_path), report_to=[]),
            examples=cut(*PAIRS),
            objective=Objective(),
            layout=PackingLayout(predictors=1),
        )
