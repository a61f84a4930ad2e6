"""`suffice bill`: what a log cost, and what would change it."""

from pathlib import Path
from typing import Annotated

import typer

from suffice.cli.options import Explain, Json, Seed, out
from suffice.errors import InputError
from suffice.files import check_file, write_file


def bill(
    logs: Annotated[
        list[str] | None,
        typer.Argument(help="Logs of any format: files, folders, globs, database URLs."),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Packaged example logs in place of your own.")
    ] = False,
    html: Annotated[Path | None, typer.Option("--html", help="File for the HTML page.")] = None,
    focus: Annotated[
        Path | None, typer.Option("--focus", help="File for the FOCUS 1.2 rows: .csv or .parquet.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="Model to move the dearest one's requests to.",
            show_default="cheaper models of its family",
        ),
    ] = None,
    prices: Annotated[
        Path | None,
        typer.Option("--prices", help="TOML file of prices by model, which win over lists."),
    ] = None,
    ttl: Annotated[str, typer.Option("--ttl", help="Lifetime of a provider's cache.")] = "5m",
    host: Annotated[
        str, typer.Option("--host-model", help="Open model to plan self-hosting with.")
    ] = "gpt-oss-120b",
    timezone: Annotated[
        str, typer.Option("--timezone", help="Zone of times that name none, and of days.")
    ] = "UTC",
    column: Annotated[
        list[str] | None,
        typer.Option("--column", help="FIELD=COLUMN of a plain table; repeatable."),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option("--sample", min=1, help="Number of tasks to draw from the log into --out."),
    ] = None,
    out: Annotated[Path, out("Tasks drawn by --sample.")] = Path("tasks.jsonl"),
    seed: Seed = 0,
    explain: Explain = False,
    json: Json = False,
) -> None:
    r"""Say what a log cost, on what, and what would change it; nothing leaves this machine.

    Reads logs of Claude Code, Codex, LiteLLM, Langfuse, Helicone, Phoenix, OpenTelemetry, OpenAI,
    Anthropic, vLLM, llama.cpp, plain tables, and our own ledger.
    """
    from msgspec.structs import replace

    from suffice.bill.make import BillOptions, billed
    from suffice.bill.prices import read_prices
    from suffice.bill.screen import show_bill, show_details
    from suffice.cli.output import note, print_json, print_notes, say, stages
    from suffice.logs.plain_format import parse_columns
    from suffice.logs.read import LogOptions
    from suffice.units import seconds

    if bool(logs) == demo:
        raise InputError(
            "no log named" if not logs else "a log and --demo",
            hint="suffice bill ~/.claude/projects, or suffice bill --demo",
        )
    for path in (html, focus, out):
        if path is not None:
            check_file(path)
    try:
        ttl_s = seconds(ttl)
    except ValueError as error:
        raise InputError(f"--ttl: {error}", hint="5m and 1h are usual") from error
    options = BillOptions(
        prices=read_prices(prices) if prices else {},
        ttl_s=ttl_s,
        to=to,
        host=host,
        logs=LogOptions(columns=parse_columns(column or []), timezone=timezone),
    )
    names = logs or [str(demo_folder())]
    with stages() as stage, billed(names, options, say=stage) as (made, read):
        result = replace(made, sources=("--demo",)) if demo else made
        if json:
            print_json("bill", result)
        else:
            for line in (*show_bill(result), *(show_details(result) if explain else ())):
                say(line)
        print_notes(
            [("", text) for text in result.notes]
            + [(one.path, f"skipped: {one.reason}") for one in result.skipped],
            explain=explain,
        )
        if html is not None:
            from suffice.bill.page import bill_page

            write_file(html, bill_page(result))
            note(f"wrote {html}")
        if focus is not None:
            from suffice.bill.focus import write_focus

            write_focus(read.store, focus)
            note(f"wrote {focus}")
        if sample is not None:
            import msgspec

            from suffice.bill.sample import draw_tasks

            tasks = draw_tasks(read, count=sample, seed=seed)
            write_file(out, b"".join(msgspec.json.encode(task) + b"\n" for task in tasks))
            note(f"wrote {len(tasks):,} tasks to {out}; next: suffice bench {out}")


def demo_folder() -> Path:
    """Return the folder of the packaged example logs."""
    from importlib.resources import files

    return Path(str(files("suffice.bill").joinpath("data")))
