"""`suffice demo`, `suffice init` and `suffice ladder`: the first steps."""

from pathlib import Path
from typing import Annotated

import typer

from suffice.cli.options import Json
from suffice.errors import InputError
from suffice.files import write_file


def demo(
    folder: Annotated[Path, typer.Option(help="Folder for the trials and the reports.")] = Path(
        "suffice-demo"
    ),
    compound: Annotated[
        bool, typer.Option("--compound", help="Live measurement of all levers together and apart.")
    ] = False,
) -> None:
    """Certify on recorded outcomes, run a live bench in this process, and write the reports.

    With --compound it measures what all levers are worth, which takes some minutes.
    """
    from suffice.cli.demo import run_compound_demo, run_demo

    run_compound_demo(folder) if compound else run_demo(folder)


def init(
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("suffice.toml"),
    example: Annotated[
        str, typer.Option(help="Name of the example: embedded, or a ladder such as small4-vllm.")
    ] = "embedded",
) -> None:
    """Write an example suffice.toml to start from; no file is overwritten."""
    from suffice.cli.output import say
    from suffice.ladder import example_text

    if path.exists():
        raise InputError(f"{path} exists already", hint="name another file; nothing is overwritten")
    write_file(path, example_text(example))
    say(f"wrote {path}; check it with: suffice ladder {path}")


def ladder(
    path: Annotated[Path, typer.Argument(help="Configuration file (suffice.toml).")],
    json: Json = False,
) -> None:
    """Check a ladder without calling any engine, and show what each rung will send."""
    import msgspec

    from suffice.cli.output import print_json, print_notes, say
    from suffice.config import load_config
    from suffice.deployment import request_fields
    from suffice.ladder import build_ladder

    config = load_config(path)
    built = build_ladder(config)
    rungs = [
        {
            "name": rung.name,
            "reference": rung == built.reference,
            "engine": rung.engine,
            "price": rung.price,
            "sends": request_fields(rung, config.engine[rung.engine]),
        }
        for rung in built
    ]
    if json:
        print_json("ladder", {"rungs": rungs, "notes": built.notes})
        return
    for rung in rungs:
        mark = "  (reference)" if rung["reference"] else ""
        say(
            f"{rung['name']}{mark}\n  engine {rung['engine']}, price {rung['price'] or 'unknown'}"
            f"\n  {msgspec.json.encode(rung['sends']).decode()}"
        )
    print_notes((("", text) for text in built.notes), explain=True)
