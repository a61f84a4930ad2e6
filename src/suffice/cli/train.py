"""`suffice train jepa`: its flags, its progress bar, its last words."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from suffice.errors import MissingExtra
from suffice.jepa.settings import Distance, Labels, Objective, Precision, TrainingRecipe, check
from suffice.units import show_share

if TYPE_CHECKING:
    from suffice.jepa.loop import StepLog
    from suffice.jepa.run import TrainingResult

app = typer.Typer(help="Train models.", no_args_is_help=True)

_R, _O = TrainingRecipe(), Objective()


def _flag(name: str, text: str) -> Any:
    return typer.Option(f"--{name}", help=text)


@app.callback()
def train() -> None:
    """Train models (needs the extra `train`)."""


@app.command()
def jepa(
    model: Annotated[Path, _flag("model", "A model directory, or a .gguf file to widen.")],
    train: Annotated[Path, _flag("data", 'JSONL of {"messages": [...]}, or .gz.')],
    evaluation: Annotated[Path, _flag("eval", "The same, to score on.")],
    out: Annotated[Path, _flag("out", "Folder for model, log and checkpoint.")],
    weight: Annotated[float, _flag("weight", "Of the latent loss; 0 is plain.")] = _O.weight,
    distance: Annotated[Distance, _flag("distance", "Between the views.")] = _O.distance,
    predictors: Annotated[int, _flag("predictors", "Predictor tokens, k.")] = _O.predictors,
    dropout: Annotated[float, _flag("dropout", "Share of plain steps.")] = _O.dropout,
    sigreg: Annotated[float, _flag("sigreg", "Weight of SIGReg.")] = _O.sigreg_weight,
    labels: Annotated[Labels, _flag("labels", "What the token loss trains.")] = _O.labels,
    epochs: Annotated[int, _flag("epochs", "Passes over the rows.")] = _R.epochs,
    batch: Annotated[int, _flag("batch", "Examples a step and process.")] = _R.batch_examples,
    row_tokens: Annotated[int, _flag("row-tokens", "Width of packed rows.")] = _R.row_tokens,
    max_tokens: Annotated[int | None, _flag("max-tokens", "Longest conversation.")] = None,
    learning_rate: Annotated[float, _flag("learning-rate", "Its peak.")] = _R.learning_rate,
    lora_rank: Annotated[int | None, _flag("lora-rank", "Train LoRA alone.")] = None,
    precision: Annotated[Precision, _flag("precision", "Of the passes.")] = _R.precision,
    seed: Annotated[int, _flag("seed", "Of order, dropout, predictors.")] = _R.seed,
    rows: Annotated[int | None, _flag("rows", "Train on the first rows only.")] = None,
    eval_rows: Annotated[int | None, _flag("eval-rows", "Score the first only.")] = None,
    resume: Annotated[bool, _flag("resume", "Go on from the checkpoint.")] = False,
    as_json: Annotated[bool, _flag("json", "Print one JSON object.")] = False,
) -> None:
    """Fine-tune with the LLM-JEPA objective in one packed pass, then score by exact match."""
    objective = Objective(
        weight=weight,
        distance=distance,
        predictors=predictors,
        dropout=dropout,
        sigreg_weight=sigreg,
        labels=labels,
    )
    recipe = TrainingRecipe(
        objective=objective,
        epochs=epochs,
        batch_examples=batch,
        row_tokens=row_tokens,
        max_tokens=max_tokens,
        learning_rate=learning_rate,
        lora_rank=lora_rank,
        precision=precision,
        seed=seed,
    )
    files = {"model": model, "train": train, "evaluation": evaluation, "out": out}
    limits = {"rows": rows, "evaluation_rows": eval_rows, "resume": resume}
    _run(files | limits, check(recipe), as_json=as_json)


def _run(job: dict[str, Any], recipe: TrainingRecipe, *, as_json: bool) -> None:
    try:
        from suffice.jepa.run import TrainingJob, run
    except ImportError as error:
        raise MissingExtra(
            f"training needs {error.name}, which is not installed",
            hint='pip install "suffice[train]"',
        ) from error
    helper = os.environ.get("RANK", "0") != "0"  # set by torchrun and accelerate
    with _progress(hidden=as_json or helper) as report:
        outcome = run(TrainingJob(**job), recipe, report=report)
    if outcome is not None:
        print(msgspec.json.encode(outcome).decode() if as_json else _describe(outcome, job["out"]))


@contextmanager
def _progress(*, hidden: bool) -> Iterator[Callable[["StepLog"], None]]:
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=hidden) as bar:
        task = bar.add_task("loading", total=None)
        yield lambda step: bar.update(
            task, completed=step.step, total=step.steps, description=_losses(step)
        )


def _losses(step: "StepLog") -> str:
    latent = "left out" if step.latent is None else f"{step.latent:.4f}"
    return f"loss {step.loss:.4f}  next token {step.next_token:.4f}  latent {latent}"


def _describe(outcome: "TrainingResult", out: Path) -> str:
    return (
        f"exact match {show_share(outcome.accuracy)} ({outcome.exact} of {outcome.examples}), "
        f"{outcome.exact_per_1000_tokens:.2f} right answers for every 1000 generated tokens\n"
        f"{outcome.unfinished} answers did not end within the limit\n"
        f"model, log and summary are in {out}"
    )
