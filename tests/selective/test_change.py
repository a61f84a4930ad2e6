"""The learned change score: it predicts the answer, not the wording, and its gate is certified."""

from pathlib import Path

import numpy as np
import pytest
from benchmarks.stream.sgd import without_answers
from latent_toys import WORDS, stream

from suffice.errors import InputError
from suffice.selective.change import (
    ChangeModel,
    TextChange,
    Turn,
    calibrate_threshold,
    fit_change_model,
    score_stream,
)
from suffice.selective.decoder import GateSettings

GATES = tuple(GateSettings(threshold=h) for h in (0.05, 0.15, 0.3, 0.45, 0.55))


@pytest.fixture(scope="module")
def model() -> ChangeModel:
    return fit_change_model([stream(seed) for seed in range(20)])


def test_the_same_words_mean_a_change_only_against_another_held_answer(model: ChangeModel) -> None:
    scores = model.scores([Turn(text="book it please")], ["hotel:book", "hotel:search"])
    assert scores[0, 0] < 0.2 < 0.8 < scores[0, 1]


def test_a_gate_saves_decodes_and_keeps_its_promise(model: ChangeModel) -> None:
    calibration = [score_stream(model, stream(seed)) for seed in range(100, 220)]
    found = calibrate_threshold(calibration, settings=GATES, alpha=0.1, delta=0.1)
    assert found.certified
    gate = GATES[found.index]
    rolls = [score_stream(model, stream(seed)).roll(gate) for seed in range(300, 330)]
    assert np.mean([roll.held for roll in rolls]) >= 0.9
    assert sum(r.decodes for r in rolls) < 0.6 * sum(r.events for r in rolls)


def test_the_unit_of_the_promise_is_the_stream(model: ChangeModel) -> None:
    few = [score_stream(model, stream(seed)) for seed in range(100, 105)]
    found = calibrate_threshold(few, settings=GATES, alpha=0.1, delta=0.1)
    assert not found.certified
    assert found.n == 5


def test_a_roll_counts_what_the_gate_does(model: ChangeModel) -> None:
    every = score_stream(model, stream(7)).roll(GateSettings(threshold=0.5, refresh_events=1))
    assert (every.decodes, every.wrong) == (every.events, 0)
    never = score_stream(model, stream(7)).roll(GateSettings(threshold=1e6, refresh_events=10**6))
    assert never.decodes == 1
    assert never.wrong > 0


def test_text_the_model_cannot_read_is_decoded(model: ChangeModel) -> None:
    scorer = TextChange(model)
    scorer.decoded(Turn(text="find me a hotel"), "hotel:search")
    assert scorer.score(Turn(text="  ")) == 1.0
    assert scorer.score(Turn(text="!?")) == 1.0
    assert 0.0 <= scorer.score(Turn(text="забронируйте номер")) <= 1.0


def test_streams_that_teach_nothing_are_refused() -> None:
    constant = [[Turn(text="hello", answer="a")] * 10]
    with pytest.raises(InputError, match="no turn where the answer changes"):
        fit_change_model(constant)
    with pytest.raises(InputError, match="no answer"):
        fit_change_model([[Turn(text="hello")] * 3])


def test_hiding_answers_leaves_streams_without_them() -> None:
    kept = without_answers([stream(1), [Turn(text="x", answer="taxi:order")]], {"hotel:book"})
    assert all(turn.answer != "hotel:book" for s in kept for turn in s)
    assert len(kept) == 1


def test_a_model_is_saved_and_loaded_and_other_files_are_refused(
    model: ChangeModel, tmp_path: Path
) -> None:
    (tmp_path / "change.npz").write_bytes(model.to_bytes())
    again = ChangeModel.load(tmp_path / "change.npz")
    turns, held = stream(3)[:5], list(WORDS)
    np.testing.assert_array_equal(again.scores(turns, held), model.scores(turns, held))
    (tmp_path / "other.npz").write_bytes(b"not a model")
    with pytest.raises(InputError, match="is not a change model"):
        ChangeModel.load(tmp_path / "other.npz")
