import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from tiny_llama import PAIRS, conversation, llama, tokenizer  # noqa: E402

from suffice.cli.train import app  # noqa: E402
from suffice.errors import InputError  # noqa: E402
from suffice.jepa import run as running  # noqa: E402
from suffice.jepa.run import TrainingJob, run  # noqa: E402
from suffice.jepa.settings import Objective, TrainingRecipe  # noqa: E402

RECIPE = TrainingRecipe(epochs=2, batch_examples=2, learning_rate=1e-3, row_tokens=200)


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    llama().save_pretrained(tmp_path / "tiny")
    tokenizer().save_pretrained(tmp_path / "tiny")
    rows = [{"messages": list(conversation(q, a).messages)} for q, a in PAIRS]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return TrainingJob(
        model=tmp_path / "tiny",
        train=tmp_path / "rows.jsonl",
        evaluation=tmp_path / "rows.jsonl",
        out=tmp_path / "out",
        max_new_tokens=8,
    )


def silent(_: Any) -> None:
    pass


def test_a_run_leaves_a_model_a_log_and_a_summary(job: TrainingJob) -> None:
    from transformers import AutoModelForCausalLM

    steps: list[Any] = []
    outcome = run(job, RECIPE, report=steps.append)
    assert outcome is not None
    assert outcome.examples == 3
    assert outcome.generated_tokens <= 24
    log = [json.loads(line) for line in (job.out / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [1, 2, 3, 4] == [step.step for step in steps]
    assert all(e["loss"] == pytest.approx(e["next_token"] + e["latent"]) for e in log)
    assert json.loads((job.out / "summary.json").read_text())["last_step"]["step"] == 4
    assert (job.out / "predictor_tokens.npy").exists()
    assert AutoModelForCausalLM.from_pretrained(job.out / "model").config.vocab_size == 300


def test_a_folder_that_holds_a_run_is_not_written_over(job: TrainingJob) -> None:
    run(job, RECIPE, report=silent)
    with pytest.raises(InputError, match="holds a run already"):
        run(job, RECIPE, report=silent)


def test_resuming_keeps_one_line_a_step(job: TrainingJob, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(job, RECIPE, report=silent)
    again = type(job)(**{n: getattr(job, n) for n in job.__struct_fields__} | {"resume": True})
    mark = job.out / "checkpoint" / "run.json"
    (job.out / "checkpoint" / "step-4").rename(job.out / "checkpoint" / "step-3")
    mark.write_text(mark.read_text().replace('"step":4', '"step":3'))
    resumed = run(again, RECIPE, report=silent)
    log = (job.out / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [1, 2, 3, 4]
    assert whole is not None
    assert resumed is not None
    assert resumed.last_step.learning_rate == whole.last_step.learning_rate


def test_a_conversation_beyond_the_models_context_stops_the_run_before_it_starts(
    job: TrainingJob,
) -> None:
    long = {"messages": list(conversation("a vowel", "x" * 600).messages)}
    job.train.write_text(json.dumps(long))
    with pytest.raises(InputError, match="the limit is 512"):
        run(job, RECIPE, report=silent)


def test_a_model_that_is_not_there_is_named(job: TrainingJob, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model at"):
        running.load(tmp_path / "absent")
    with pytest.raises(InputError, match="cannot load"):
        running.load(tmp_path)


def flags(job: TrainingJob, *more: str) -> list[str]:
    files = ["--model", job.model, "--data", job.train, "--eval", job.evaluation, "--out", job.out]
    return ["jepa", *map(str, files), "--batch", "2", "--epochs", "1", *more]


def test_the_command_prints_what_came_out(job: TrainingJob) -> None:
    shown = CliRunner().invoke(app, flags(job))
    assert shown.exit_code == 0, shown.output
    assert "right answers for every 1000 generated tokens" in shown.output
    shown = CliRunner().invoke(app, flags(job, "--resume", "--json"))
    assert json.loads(shown.stdout)["examples"] == 3


def test_plain_fine_tuning_has_no_predictor_tokens(job: TrainingJob) -> None:
    shown = CliRunner().invoke(app, flags(job, "--weight", "0", "--rows", "2"))
    assert shown.exit_code == 0, shown.output
    assert not (job.out / "predictor_tokens.npy").exists()


def test_a_tube_trains_with_its_usual_weight_and_without_predictor_tokens(job: TrainingJob) -> None:
    shown = CliRunner().invoke(app, flags(job, "--distance", "tube"))
    assert shown.exit_code == 0, shown.output
    assert not (job.out / "predictor_tokens.npy").exists()
    log = [json.loads(line) for line in (job.out / "log.jsonl").read_text().splitlines()]
    assert all(e["loss"] == pytest.approx(e["next_token"] + 0.02 * e["latent"]) for e in log)


def test_flags_that_contradict_each_other_are_refused(job: TrainingJob) -> None:
    shown = CliRunner().invoke(app, flags(job, "--weight", "0", "--sigreg", "1"))
    assert isinstance(shown.exception, InputError)


def test_the_objective_defaults_are_the_papers() -> None:
    assert (Objective().weight, Objective().predictors) == (1.0, 1)
