import subprocess
import sys

import pytest

from suffice.errors import InputError
from suffice.jepa.settings import Distance, Objective, Recipe, check


def test_the_defaults_pass() -> None:
    assert check(Recipe()) == Recipe()


@pytest.mark.parametrize(
    "bad",
    [
        Recipe(epochs=0),
        Recipe(batch_examples=0),
        Recipe(row_tokens=0),
        Recipe(learning_rate=0),
        Recipe(warmup_share=1),
        Recipe(max_tokens=1),
        Recipe(lora_rank=0),
        Recipe(objective=Objective(weight=-1)),
        Recipe(objective=Objective(predictors=-1)),
        Recipe(objective=Objective(temperature=0)),
        Recipe(objective=Objective(dropout=1.5)),
        Recipe(objective=Objective(sigreg_weight=-1)),
        Recipe(objective=Objective(weight=0, sigreg_weight=1)),
        Recipe(objective=Objective(distance=Distance.INFONCE), batch_examples=1),
        Recipe(objective=Objective(sigreg_weight=1), batch_examples=1),
    ],
)
def test_values_that_mean_nothing_are_refused(bad: Recipe) -> None:
    with pytest.raises(InputError):
        check(bad)


def test_plain_fine_tuning_may_take_one_example_a_step() -> None:
    plain = Objective(weight=0, distance=Distance.INFONCE)
    assert check(Recipe(objective=plain, batch_examples=1))


def test_the_command_loads_no_torch_until_it_runs() -> None:
    code = "import suffice.cli.train, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert not {"torch", "transformers", "numpy"} & set(done.stdout.split())
