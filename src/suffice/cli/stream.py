"""The command that decodes a stream selectively."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from suffice.cli.options import JsonFlag
from suffice.errors import InputError


def stream(
    events: Annotated[
        str | None, typer.Argument(help="JSONL of text, context and at_s; - is standard input.")
    ] = None,
    gate: Annotated[
        Path | None, typer.Option(help="Folder that `suffice latent gate` wrote; for text.")
    ] = None,
    video: Annotated[Path | None, typer.Option(help="A video instead of text events.")] = None,
    frames_per_s: Annotated[
        float, typer.Option(min=0.01, help="Frames of the video looked at.")
    ] = 5.0,
    ladder: Annotated[Path | None, typer.Option(help="The suffice.toml to use.")] = None,
    rung: Annotated[str | None, typer.Option(help="The rung that decodes.")] = None,
    question: Annotated[str, typer.Option(help="What it is asked about each event.")] = "",
    ledger: Annotated[str | None, typer.Option(help="Where events are booked.")] = None,
    core_usd_per_hour: Annotated[
        float | None, typer.Option(min=0, help="Rent of one core, to price held events.")
    ] = None,
    dry: Annotated[
        bool, typer.Option("--dry", help="Decode nothing: only show where it would.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Every event's answer, JSONL.")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Where it decoded, over time: .svg, .png or .html.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Answer a stream of events, decoding only when the predicted answer has changed."""
    from suffice.cli.output import print_json, print_step, print_stream
    from suffice.stream import Decoder, StreamSource, run_stream

    decoder = None
    if not dry:
        if ladder is None or rung is None or ledger is None:
            raise InputError(
                "decoding needs --ladder, --rung and --ledger",
                hint="or see where it would decode: --dry",
            )
        per_hour = None if core_usd_per_hour is None else Decimal(str(core_usd_per_hour))
        decoder = Decoder(
            ladder=ladder, rung=rung, ledger=ledger, question=question, core_usd_per_hour=per_hour
        )
    source = StreamSource(events=events, gate=gate, video=video, frames_per_s=frames_per_s)
    tell = None if json else print_step
    result = run_stream(source, decoder, out=out, picture=picture, tell=tell)
    print_json(result) if json else print_stream(result)
