"""`suffice train`: fine-tuning with latent prediction."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from suffice.cli.options import Json, Seed, out
from suffice.errors import MissingExtra
from suffice.jepa.settings import (
    Distance,
    Labels,
    Objective,
    Precision,
    TrainingRecipe,
    check,
    usual_weight,
)
from suffice.units import show_share

if TYPE_CHECKING:
    from suffice.jepa.loop import StepLog

app = typer.Typer(help="Train models; needs the extra `train`.", no_args_is_help=True)

_R, _O = TrainingRecipe(), Objective()


@app.callback()
def train() -> None:
    """Train models; needs the extra `train`."""


@app.command()
def jepa(
    model: Annotated[Path, typer.Option(help="Model folder, or a .gguf file to de-quantise.")],
    data: Annotated[Path, typer.Option(help='Training rows: JSONL of {"messages": [...]}.')],
    evaluation: Annotated[Path, typer.Option("--eval", help="Evaluation rows, in the same form.")],
    out: Annotated[Path, out("Folder for model, log and checkpoint.")],
    weight: Annotated[
        float | None,
        typer.Option(
            help="Weight of the latent loss; 0 is plain fine-tuning. "
            "Without it 1, or 0.02 with `--distance tube`."
        ),
    ] = None,
    distance: Annotated[
        Distance, typer.Option(help="Distance between the two views, or tube for none.")
    ] = _O.distance,
    predictors: Annotated[int, typer.Option(help="Number of predictor tokens.")] = _O.predictors,
    dropout: Annotated[
        float, typer.Option(help="Share of steps without the latent loss.")
    ] = _O.dropout,
    sigreg: Annotated[float, typer.Option(help="Weight of SIGReg.")] = _O.sigreg_weight,
    labels: Annotated[Labels, typer.Option(help="Tokens that the token loss trains.")] = _O.labels,
    epochs: Annotated[int, typer.Option(help="Passes over the rows.")] = _R.epochs,
    batch: Annotated[int, typer.Option(help="Examples per step and process.")] = _R.batch_examples,
    row_tokens: Annotated[int, typer.Option(help="Width of packed rows.")] = _R.row_tokens,
    max_tokens: Annotated[int | None, typer.Option(help="Longest conversation, in tokens.")] = None,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = _R.learning_rate,
    lora_rank: Annotated[
        int | None, typer.Option(help="Rank of LoRA adapters, the only weights to train.")
    ] = None,
    precision: Annotated[
        Precision, typer.Option(help="Number format of the passes.")
    ] = _R.precision,
    seed: Seed = _R.seed,
    rows: Annotated[int | None, typer.Option(help="Number of rows to train on.")] = None,
    eval_rows: Annotated[int | None, typer.Option(help="Number of rows to score on.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continuation from the checkpoint.")
    ] = False,
    json: Json = False,
) -> None:
    """Fine-tune with a latent loss (LLM-JEPA or a semantic tube), then score by exact match."""
    from suffice.cli.output import print_json, say

    recipe = TrainingRecipe(
        objective=Objective(
            weight=usual_weight(distance) if weight is None else weight,
            distance=distance,
            predictors=predictors,
            dropout=dropout,
            sigreg_weight=sigreg,
            labels=labels,
        ),
        epochs=epochs,
        batch_examples=batch,
        row_tokens=row_tokens,
        max_tokens=max_tokens,
        learning_rate=learning_rate,
        lora_rank=lora_rank,
        precision=precision,
        seed=seed,
    )
    check(recipe)
    try:
        from suffice.jepa.run import TrainingJob, run
    except ImportError as error:
        raise MissingExtra(
            f"training needs {error.name}, which is not installed",
            hint='pip install "suffice[train]"',
        ) from error
    job = TrainingJob(
        model=model,
        train=data,
        evaluation=evaluation,
        out=out,
        rows=rows,
        evaluation_rows=eval_rows,
        resume=resume,
    )
    first_process = os.environ.get("RANK", "0") == "0"  # set by torchrun and accelerate
    with _progress(visible=first_process and not json) as report:
        result = run(job, recipe, report=report)
    if result is None:
        return
    if json:
        print_json("train jepa", result)
        return
    say(
        f"exact match {show_share(result.accuracy)} ({result.exact} of {result.examples}), "
        f"{result.exact_per_1000_tokens:.2f} right answers for every 1000 generated tokens\n"
        f"{result.unfinished} answers did not end within the limit\n"
        f"model, log and summary are in {out}"
    )


@contextmanager
def _progress(*, visible: bool) -> Iterator[Callable[["StepLog"], None]]:
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not visible) as bar:
        task = bar.add_task("loading", total=None)

        def report(step: "StepLog") -> None:
            latent = "left out" if step.latent is None else f"{step.latent:.4f}"
            losses = f"loss {step.loss:.4f}  next token {step.next_token:.4f}  latent {latent}"
            bar.update(task, completed=step.step, total=step.steps, description=losses)

        yield report
