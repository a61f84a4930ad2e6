import subprocess
import sys

import pytest

from suffice.errors import InputError
from suffice.jepa.settings import Distance, Objective, TrainingRecipe, check, usual_weight


def test_the_defaults_pass() -> None:
    assert check(TrainingRecipe()) == TrainingRecipe()


@pytest.mark.parametrize(
    "bad",
    [
        TrainingRecipe(epochs=0),
        TrainingRecipe(batch_examples=0),
        TrainingRecipe(row_tokens=0),
        TrainingRecipe(learning_rate=0),
        TrainingRecipe(warmup_share=1),
        TrainingRecipe(max_tokens=1),
        TrainingRecipe(lora_rank=0),
        TrainingRecipe(objective=Objective(weight=-1)),
        TrainingRecipe(objective=Objective(predictors=-1)),
        TrainingRecipe(objective=Objective(temperature=0)),
        TrainingRecipe(objective=Objective(dropout=1.5)),
        TrainingRecipe(objective=Objective(sigreg_weight=-1)),
        TrainingRecipe(objective=Objective(weight=0, sigreg_weight=1)),
        TrainingRecipe(objective=Objective(distance=Distance.TUBE, sigreg_weight=1)),
        TrainingRecipe(objective=Objective(distance=Distance.INFONCE), batch_examples=1),
        TrainingRecipe(objective=Objective(sigreg_weight=1), batch_examples=1),
    ],
)
def test_values_that_mean_nothing_are_refused(bad: TrainingRecipe) -> None:
    with pytest.raises(InputError):
        check(bad)


def test_a_tube_needs_no_predictor_tokens_and_a_small_weight() -> None:
    tube = Objective(distance=Distance.TUBE, predictors=3)
    assert tube.predictor_tokens == 0
    assert not tube.predicts
    assert check(TrainingRecipe(objective=tube, batch_examples=1))
    assert usual_weight(Distance.TUBE) == 0.02
    assert usual_weight(Distance.COSINE) == Objective().weight == 1


def test_plain_fine_tuning_may_take_one_example_a_step() -> None:
    plain = Objective(weight=0, distance=Distance.INFONCE)
    assert check(TrainingRecipe(objective=plain, batch_examples=1))


def test_the_command_loads_no_torch_until_it_runs() -> None:
    code = "import suffice.cli.train, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert not {"torch", "transformers", "numpy"} & set(done.stdout.split())
