from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from tiny_llama import PAIRS, cut, llama, tokenizer  # noqa: E402

from suffice.errors import InputError, TrainingStopped  # noqa: E402
from suffice.jepa import loop  # noqa: E402
from suffice.jepa.evaluate import score  # noqa: E402
from suffice.jepa.forward import PackedModel  # noqa: E402
from suffice.jepa.loop import StepLog  # noqa: E402
from suffice.jepa.model import with_lora  # noqa: E402
from suffice.jepa.settings import (  # noqa: E402
    Distance,
    Labels,
    Objective,
    Precision,
    TrainingRecipe,
)

RECIPE = TrainingRecipe(epochs=4, batch_examples=2, learning_rate=1e-3, row_tokens=200)


def run(
    out: Path,
    recipe: TrainingRecipe = RECIPE,
    *,
    model: Any = None,
    report: Callable[[StepLog], None] = lambda _: None,
    **progress: Any,
) -> tuple[PackedModel, list[StepLog]]:
    packed = PackedModel(model or llama(attention_dropout=0.1), predictors=1)
    steps: list[StepLog] = []

    def note(step: StepLog) -> None:
        steps.append(step)
        report(step)

    loop.train(
        packed,
        cut(*PAIRS),
        recipe=recipe,
        progress=loop.Checkpointing(folder=out / "checkpoint", report=note, **progress),
        accelerator=loop.start(recipe),
        pad_token=257,
    )
    return packed, steps


def break_off(step: StepLog) -> None:
    if step.step == 5:
        raise KeyboardInterrupt


def test_an_interrupted_run_resumes_to_the_same_losses(tmp_path: Path) -> None:
    _, unbroken = run(tmp_path / "a")
    assert [s.step for s in unbroken] == list(range(1, 9))
    with pytest.raises(TrainingStopped, match="interrupted in step 5 of 8"):
        run(tmp_path / "b", report=break_off, every_steps=3)
    assert [p.name for p in (tmp_path / "b" / "checkpoint").glob("step-*")] == ["step-3"]
    _, resumed = run(tmp_path / "b", resume=True)
    assert [s.step for s in resumed] == [4, 5, 6, 7, 8]
    for one, other in zip(unbroken[3:], resumed, strict=True):
        assert other.loss == pytest.approx(one.loss, abs=1e-5)
        assert other.latent == pytest.approx(one.latent, abs=1e-5)


def test_a_checkpoint_serves_no_other_run(tmp_path: Path) -> None:
    run(tmp_path)
    other = msgspec.structs.replace(RECIPE, learning_rate=2e-3)
    with pytest.raises(InputError, match=r"learning_rate: 0\.001 there, 0\.002 now"):
        run(tmp_path, other, resume=True)
    with pytest.raises(InputError, match="no checkpoint"):
        run(tmp_path / "elsewhere", resume=True)


def test_a_loss_that_is_not_finite_stops_before_it_harms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, honest = [], loop.losses

    def broken(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        parts = honest(*args, **kwargs)
        if len(calls) == 3:
            parts = type(parts)(parts.total * float("nan"), parts.next_token, parts.latent)
        return parts

    with monkeypatch.context() as patch:
        patch.setattr(loop, "losses", broken)
        with pytest.raises(
            TrainingStopped, match="the loss is nan, its gradient's norm nan at step 3 of 8"
        ):
            run(tmp_path)
    _, resumed = run(tmp_path, resume=True)
    _, unbroken = run(tmp_path / "other")
    assert resumed[0].step == 3
    assert resumed[-1].loss == pytest.approx(unbroken[-1].loss, abs=1e-5)


def test_dropout_leaves_the_second_view_out_of_its_share_of_steps(tmp_path: Path) -> None:
    recipe = msgspec.structs.replace(RECIPE, objective=Objective(dropout=0.75))
    drawn = [loop.layout(recipe, step=i, pad_token=0).predictors for i in range(4000)]
    assert drawn.count(None) / 4000 == pytest.approx(0.75, abs=0.03)
    _, steps = run(tmp_path / "a", recipe)
    _, full = run(tmp_path / "b")
    assert [s.latent is None for s in steps] == [k is None for k in drawn[:8]]
    for step, whole in zip(steps, full, strict=True):
        assert (step.tokens < whole.tokens) == (step.latent is None)


def test_a_tube_straightens_the_hidden_states_at_the_tokens_of_plain_training(
    tmp_path: Path,
) -> None:
    tube = Objective(weight=20.0, distance=Distance.TUBE, dropout=0.25)
    recipe = msgspec.structs.replace(RECIPE, epochs=30, learning_rate=5e-3)
    straight = msgspec.structs.replace(recipe, objective=tube)
    _, steps = run(tmp_path / "a", straight, model=llama())
    recipe = msgspec.structs.replace(recipe, objective=Objective(weight=0))
    _, plain = run(tmp_path / "b", recipe)
    assert [s.tokens for s in steps] == [s.tokens for s in plain]
    bends = [s.latent for s in steps if s.latent is not None]
    assert len(bends) / len(steps) == pytest.approx(0.75, abs=0.15)
    assert sum(bends[-15:]) < 0.8 * sum(bends[:15])


def test_an_interrupted_tube_draws_the_same_triples_again(tmp_path: Path) -> None:
    recipe = msgspec.structs.replace(RECIPE, objective=Objective(distance=Distance.TUBE))
    _, unbroken = run(tmp_path / "a", recipe)
    with pytest.raises(TrainingStopped):
        run(tmp_path / "b", recipe, report=break_off, every_steps=3)
    _, resumed = run(tmp_path / "b", recipe, resume=True)
    for one, other in zip(unbroken[3:], resumed, strict=True):
        assert other.latent == pytest.approx(one.latent, abs=1e-5)


def test_the_learning_rate_rises_then_falls_to_nothing() -> None:
    recipe = TrainingRecipe(learning_rate=1.0, warmup_share=0.2)
    rates = [loop.learning_rate(recipe, step=i, steps=10) for i in range(11)]
    assert rates[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert rates[3:] == pytest.approx([7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0])


def test_every_epoch_takes_every_example_once(tmp_path: Path) -> None:
    _, steps = run(tmp_path, msgspec.structs.replace(RECIPE, epochs=2))
    assert sum(s.tokens for s in steps[:2]) == sum(s.tokens for s in steps[2:])


@pytest.mark.parametrize(
    "change",
    [
        {"objective": Objective(weight=0)},
        {"objective": Objective(sigreg_weight=0.01, distance="infonce")},
        {"objective": Objective(weight=0.1, distance=Distance.TUBE)},
        {"precision": Precision.BFLOAT16},
    ],
)
def test_every_recipe_learns(change: dict[str, Any], tmp_path: Path) -> None:
    recipe = msgspec.structs.replace(RECIPE, epochs=8, learning_rate=5e-3, **change)
    _, steps = run(tmp_path, recipe, model=llama())
    assert steps[-1].next_token < steps[0].next_token


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft's own
def test_lora_trains_its_updates_and_the_predictors_alone(tmp_path: Path) -> None:
    model = llama()
    before = model.get_input_embeddings().weight.detach().clone()
    packed, steps = run(
        tmp_path,
        msgspec.structs.replace(RECIPE, learning_rate=1e-2),
        model=with_lora(model, rank=4),
    )
    assert packed.model.get_input_embeddings().weight.equal(before)
    assert steps[-1].next_token < steps[0].next_token


@pytest.mark.parametrize("labels", list(Labels))
def test_only_correct_labels_teach_to_stop(labels: Labels, tmp_path: Path) -> None:
    recipe = TrainingRecipe(
        epochs=40, batch_examples=3, learning_rate=1e-2, objective=Objective(labels=labels)
    )
    packed, _ = run(tmp_path, recipe, model=llama())
    scored = score(packed.model, cut(*PAIRS), tokenizer=tokenizer(), max_new_tokens=30)
    if labels is Labels.ANSWER:
        assert scored.exact == len(PAIRS)
        assert scored.unfinished == 0
    else:
        assert scored.unfinished == len(PAIRS)
