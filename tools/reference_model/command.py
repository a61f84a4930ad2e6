"""`suffice train reference` and `suffice train export`: their flags and their progress."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from suffice.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from tools.reference_model.train import Report

Folder = Annotated[Path, typer.Option("--out", help="Folder for checkpoint, log and model.")]
SpecFile = Annotated[Path, typer.Option("--spec", help="Families, ranges and seeds.")]
Without = Annotated[
    list[str] | None, typer.Option(help="A kind of step to leave out of the solutions; repeatable.")
]


def reference(
    out: Folder,
    spec: SpecFile = Path("benchmarks/effort/effort.toml"),
    tokens: Annotated[int, typer.Option(min=1, help="How many to learn from.")] = 70_000_000,
    batch_tokens: Annotated[int, typer.Option(min=1024, help="Tokens a step.")] = 3072,
    rate: Annotated[float, typer.Option(help="The highest learning rate.")] = 2.5e-3,
    judge_every: Annotated[
        int, typer.Option(min=1, help="Tokens between evaluations.")
    ] = 6_000_000,
    without: Without = None,
) -> None:
    """Train the small reasoning model; goes on from the checkpoint in the folder, if any."""
    with _extra():
        from tools.reference_model.questions import read_spec
        from tools.reference_model.solutions import KINDS
        from tools.reference_model.train import Schedule, Training
    unknown = sorted(set(without or ()) - KINDS)
    if unknown:
        raise InputError(
            f"no solution has steps of the kind {unknown[0]!r}", hint=", ".join(sorted(KINDS))
        )
    schedule = Schedule(
        tokens=tokens, batch_tokens=batch_tokens, peak_rate=rate, judge_every=judge_every
    )
    training = Training(read_spec(spec), out, schedule=schedule, without=frozenset(without or ()))
    with _progress(tokens) as report:
        training.run(report)
    print(f"the model is in {out / 'model'}; suffice train export makes a GGUF of it")


def export(
    folders: Annotated[list[Path], typer.Argument(help="Folders of `suffice train reference`.")],
    gguf: Annotated[Path, typer.Option(help="The file to write.")],
    kind: Annotated[str, typer.Option(help="f32, f16, bf16 or q8_0.")] = "q8_0",
) -> None:
    """Turn a trained model, or the mean of several, into a GGUF file, which llama.cpp runs."""
    with _extra():
        from tools.reference_model.export import save_mean, to_gguf
    for folder in folders:
        if not (folder / "model" / "config.json").is_file():
            raise InputError(
                f"there is no model in {folder}", hint="suffice train reference makes one"
            )
    with tempfile.TemporaryDirectory() as scratch:
        model = folders[0] / "model"
        if len(folders) > 1:
            model = Path(scratch) / "mean"
            save_mean([folder / "model" for folder in folders], model)
        to_gguf(model, gguf, kind=kind)
    print(f"wrote {gguf}, {gguf.stat().st_size:,} bytes")


@contextmanager
def _extra() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise MissingExtra(
            f"training needs {error.name}, which is not installed",
            hint='pip install "suffice[train,tasks]"',
        ) from error


@contextmanager
def _progress(total: int) -> Iterator["Report"]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns: tuple[Any, ...] = (
        BarColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("starting", total=total)
        yield lambda now: bar.update(
            task,
            completed=now.tokens,
            description=f"step {now.step}  loss {now.loss:.3f}  busiest expert {now.fullest:.1f}x  "
            f"{now.tokens_per_s:,.0f} tokens/s",
        )
