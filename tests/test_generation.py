"""Every field of an answer survives the whole way: engine, attempt, ledger, trial, file, replay."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from msgspec.structs import replace

from suffice.bench.outcome import answer_trial
from suffice.bench.tasks import Task
from suffice.engines.replay import recorded
from suffice.errors import EngineError
from suffice.ladder import Ladder
from suffice.ledger import Attempt, Ledger, entries, labelled_trials
from suffice.ledger.schema import COUNTS
from suffice.pipeline import Climb, Pipeline
from suffice.trials.importers import read_trials, write_trials
from suffice.types import (
    Charge,
    Completion,
    Count,
    CountSource,
    Finish,
    Generation,
    Request,
    Rung,
    Trial,
    Usage,
)

TOKENS = Count(7, CountSource.COUNTED)
SAMPLES: dict[Any, Any] = {
    str | None: "words",
    float | None: 0.75,
    bool | None: True,
    int | None: 3,
    tuple[str, ...]: ("one", "two"),
    Finish | None: Finish.LENGTH,
    Usage: Usage(
        **{f"{name}_tokens": TOKENS for name in COUNTS},
        kinds={"input_audio_tokens": TOKENS},
        service_tier="flex",
        stated_usd=Decimal("0.02"),
    ),
}
GENERATION = Generation(
    **{name: SAMPLES[type_] for name, type_ in get_type_hints(Generation).items()}
)
ANSWER_FIELDS = [name for name in Generation.__struct_fields__ if name != "error"]
RUNG = Rung(name="big", engine="engine", model="model")
REQUEST = Request(request_id="r", messages=({"role": "user", "content": "question"},))


def completion() -> Completion:
    fields = {n: v for n, v in GENERATION.generation_fields.items() if hasattr(Completion, n)}
    del fields["mean_logprob"]
    return Completion(text="words", logprobs=(0.5, 1.0), **fields)


@pytest.fixture
def climb(tmp_path: Path) -> Any:
    with Ledger.open(tmp_path / "books.db", store_text=True) as ledger:
        ladder = Ladder(rungs=(RUNG,), reference=RUNG)
        pipeline = Pipeline(ladder=ladder, engines={}, prices={}, ledger=ledger)
        yield Climb(pipeline, REQUEST)


def trial_of(climb: Climb) -> Trial:
    ledger = climb.pipeline.ledger
    ledger.append(replace(climb.entry(), audited=True))
    return labelled_trials(ledger).trials[0]


def through_file(trial: Trial, folder: Path) -> Trial:
    write_trials(folder / "trials.jsonl", [trial])
    return read_trials(folder / "trials.jsonl")[0]


@pytest.mark.parametrize("name", ANSWER_FIELDS)
def test_a_field_survives_from_the_engine_to_the_file_of_trials(
    climb: Climb, tmp_path: Path, name: str
) -> None:
    value = getattr(GENERATION, name)
    assert getattr(completion().generation, name) == value
    climb.answered(completion(), at=datetime.now(UTC))
    assert getattr(climb.attempts[0], name) == value
    trial = trial_of(climb)
    assert getattr(next(entries(climb.pipeline.ledger)).attempts[0], name) == value
    assert getattr(trial, name) == value
    assert getattr(through_file(trial, tmp_path), name) == value
    assert getattr(recorded(trial).generation, name) == value


@pytest.mark.parametrize("name", ANSWER_FIELDS)
def test_a_field_survives_a_bench(tmp_path: Path, name: str) -> None:
    charged = Charge(usd=Decimal("0.5"))
    trial = answer_trial(Task(request=REQUEST), RUNG, completion=completion(), charged=charged)
    assert getattr(through_file(trial, tmp_path), name) == getattr(GENERATION, name)


def test_an_error_survives_from_the_engine_to_the_file_of_trials(
    climb: Climb, tmp_path: Path
) -> None:
    climb.failed(EngineError("broken"), at=datetime.now(UTC))
    trial = trial_of(climb)
    assert through_file(trial, tmp_path).error == trial.error == "broken"


def test_a_ledger_without_text_keeps_all_but_the_words(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "books.db") as ledger:
        pipeline = Pipeline(
            ladder=Ladder(rungs=(RUNG,), reference=RUNG), engines={}, prices={}, ledger=ledger
        )
        climb = Climb(pipeline, REQUEST)
        climb.answered(completion(), at=datetime.now(UTC))
        ledger.append(climb.entry())
        kept = next(entries(ledger)).attempts[0]
    wordless = replace(completion().generation, answer=None, reasoning=None, samples=())
    assert kept.generation_fields == wordless.generation_fields


def test_a_policy_sees_the_signals_of_a_trial_and_nothing_else() -> None:
    trial = Trial(
        request_id="r", rung="big", status="scored", text="question", quality=1.0,
        **GENERATION.generation_fields,
    )  # fmt: skip
    assert trial.signals == GENERATION.signals
    assert trial.signals.__struct_fields__ == Generation.__base__.__struct_fields__
    assert "usage" not in trial.signals.__struct_fields__
    assert not isinstance(trial.signals, Generation)


def test_attempts_and_trials_carry_a_generation() -> None:
    for kind in (Attempt, Trial):
        assert set(Generation.__struct_fields__) <= set(kind.__struct_fields__)
