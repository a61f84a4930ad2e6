"""The command line: thin commands over the library, one exit status for each kind of error."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from suffice import __version__
from suffice.cli import answer as answering
from suffice.cli import bench as benching
from suffice.cli import certify as certifying
from suffice.cli import claims, forecast, keys, latent, plan, stream, train
from suffice.errors import InputError, SufficeError, writing

app = typer.Typer(
    help="Spend the least compute that suffices, prove it, and keep the books.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(benching.bench)
app.command()(certifying.certify)
app.command()(certifying.recertify)
app.command()(benching.frontier)
app.command()(answering.answer)
app.command()(answering.serve)
app.command()(answering.report)
app.command()(benching.compound)
app.add_typer(plan.app, name="plan")
app.command()(forecast.forecast)
app.command()(forecast.contract)
app.command("claims")(claims.claims_command)
app.add_typer(train.app, name="train")
app.add_typer(latent.app, name="latent")
app.command()(stream.stream)
app.add_typer(keys.app, name="key")


def main(arguments: list[str] | None = None) -> None:
    """Run one command; errors end it with their hint and status, never with a traceback."""
    try:
        app(args=arguments)
    except SufficeError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_status) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(141) from None


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Answer each request on the cheapest compute that meets a certified quality target."""
    if show:
        print(__version__)
        raise typer.Exit


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("suffice.toml"),
    example: Annotated[
        str, typer.Option(help="Which example: embedded, or a shipped ladder such as small4-vllm.")
    ] = "embedded",
) -> None:
    """Write an example suffice.toml to start from; never overwrites."""
    from suffice.ladder import example_text

    if path.exists():
        raise InputError(f"{path} exists already", hint="name another file; nothing is overwritten")
    text = example_text(example)
    with writing(path):
        path.write_text(text, "utf-8")
    print(f"wrote {path}; check it with: suffice ladder {path}")


@app.command()
def ladder(path: Annotated[Path, typer.Argument(help="The suffice.toml to check.")]) -> None:
    """Check a ladder without calling any engine, and show what each rung will send."""
    import msgspec

    from suffice.config import load_config
    from suffice.deployment import request_fields
    from suffice.ladder import build_ladder

    config = load_config(path)
    built = build_ladder(config)
    for rung in built:
        sent = msgspec.json.encode(request_fields(rung, config.engine[rung.engine])).decode()
        mark = "  (reference)" if rung == built.reference else ""
        print(
            f"{rung.name}{mark}\n  engine {rung.engine}, price {rung.price or 'unknown'}\n  {sent}"
        )
    for note in built.notes:
        print(f"note: {note}", file=sys.stderr)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where the trials and the report go.")] = Path(
        "suffice-demo"
    ),
    compound: Annotated[
        bool, typer.Option("--compound", help="Instead: all levers together, on one live workload.")
    ] = False,
) -> None:
    """Certify on recorded outcomes, run a live bench in this process, and write the reports.

    With --compound, measure what all levers are worth together and apart: some minutes.
    """
    from suffice.cli.demo import run_compound_demo, run_demo

    run_compound_demo(folder) if compound else run_demo(folder)
