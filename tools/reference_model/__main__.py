"""Train and export the reference model: `python -m tools.reference_model train | export`."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from suffice.errors import InputError, MissingExtra, SufficeError

if TYPE_CHECKING:
    from tools.reference_model.train import Report

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, log and model.")],
    spec: Annotated[Path, typer.Option(help="File of question families, ranges and seeds.")] = Path(
        "benchmarks/effort/effort.toml"
    ),
    tokens: Annotated[int, typer.Option(min=1, help="Number of training tokens.")] = 70_000_000,
    batch_tokens: Annotated[int, typer.Option(min=1024, help="Tokens per step.")] = 3072,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 2.5e-3,
    judge_every: Annotated[
        int, typer.Option(min=1, help="Tokens between evaluations.")
    ] = 6_000_000,
    start: Annotated[
        Path | None, typer.Option(help="GGUF file to continue from, instead of random weights.")
    ] = None,
    falling_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the tokens while the rate falls.")
    ] = 0.35,
    without: Annotated[
        list[str] | None, typer.Option(help="Kind of step to leave out of solutions; repeatable.")
    ] = None,
) -> None:
    """Train the model, from the checkpoint in the folder if there is one."""
    with _training_extra():
        import xllamacpp  # noqa: F401  which answers the questions of an evaluation, hours later

        from tools.reference_model.questions import read_spec
        from tools.reference_model.solutions import KINDS
        from tools.reference_model.train import Schedule, Training
    unknown = sorted(set(without or ()) - KINDS)
    if unknown:
        raise InputError(
            f"no solution has steps of the kind {unknown[0]!r}",
            hint=f"the kinds are {', '.join(sorted(KINDS))}",
        )
    schedule = Schedule(
        tokens=tokens,
        batch_tokens=batch_tokens,
        peak_rate=rate,
        falling_share=falling_share,
        judge_every=judge_every,
    )
    training = Training(
        read_spec(spec),
        out,
        schedule=schedule,
        start=start,
        without=frozenset(without or ()),
    )
    with _progress_bar(tokens) as report:
        training.run(report)
    print(f"the model is in {out / 'model'}; `export` converts it to GGUF")


@app.command()
def export(
    folders: Annotated[list[Path], typer.Argument(help="Folders written by `train`.")],
    gguf: Annotated[Path, typer.Option(help="GGUF file to write.")],
    kind: Annotated[str, typer.Option(help="f32, f16, bf16 or q8_0.")] = "q8_0",
) -> None:
    """Convert a trained model, or the mean of several, to a GGUF file for llama.cpp."""
    with _training_extra():
        from tools.reference_model.export import save_mean, to_gguf
    for folder in folders:
        if not (folder / "model" / "config.json").is_file():
            raise InputError(
                f"there is no model in {folder}",
                hint=f"make one: python -m tools.reference_model train --out {folder}",
            )
    with tempfile.TemporaryDirectory() as scratch:
        model = folders[0] / "model"
        if len(folders) > 1:
            model = Path(scratch) / "mean"
            save_mean([folder / "model" for folder in folders], model)
        to_gguf(model, gguf, kind=kind)
    print(f"wrote {gguf}, {gguf.stat().st_size:,} bytes")


def main() -> None:
    """Run a command; print an error with its hint, and exit with its status."""
    try:
        app()
    except SufficeError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_status) from None


@contextmanager
def _training_extra() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise MissingExtra(
            f"training needs {error.name}, which is not installed", hint="make venv-train"
        ) from error


@contextmanager
def _progress_bar(total: int) -> Iterator["Report"]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns: tuple[Any, ...] = (
        BarColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("starting", total=total)
        yield lambda progress: bar.update(
            task,
            completed=progress.tokens,
            description=f"step {progress.step}  loss {progress.loss:.3f}  "
            f"busiest expert {progress.fullest:.1f}x  {progress.tokens_per_s:,.0f} tokens/s",
        )


if __name__ == "__main__":
    main()
