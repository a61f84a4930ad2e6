"""`suffice stream`: a stream of events, decoded selectively."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from suffice.cli.options import (
    CoreUsdPerHour,
    Figure,
    Json,
    LadderOrNone,
    LedgerOrNone,
    RungOrNone,
    out,
)
from suffice.errors import InputError


def stream(
    events: Annotated[
        str | None, typer.Argument(help="JSONL of text, context and at_s; - is standard input.")
    ] = None,
    gate: Annotated[
        Path | None, typer.Option(help="Folder that `suffice latent gate` wrote, for text.")
    ] = None,
    video: Annotated[Path | None, typer.Option(help="Video in place of text events.")] = None,
    frames_per_s: Annotated[
        float, typer.Option(min=0.01, help="Frames of the video to look at, per second.")
    ] = 5.0,
    ladder: LadderOrNone = None,
    rung: RungOrNone = None,
    question: Annotated[str, typer.Option(help="Question about each event.")] = "",
    ledger: LedgerOrNone = None,
    core_usd_per_hour: CoreUsdPerHour = None,
    dry: Annotated[bool, typer.Option("--dry", help="Gate only: no event is decoded.")] = False,
    out: Annotated[Path | None, out("File for every event's answer, JSONL.")] = None,
    figure: Figure = None,
    json: Json = False,
) -> None:
    """Answer a stream of events, decoding only when the predicted answer has changed.

    Each event is printed as it comes; the totals follow.
    """
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
    report = None if json else print_step
    result = run_stream(source, decoder, out=out, figure=figure, report=report)
    print_json("stream", result) if json else print_stream(result)
