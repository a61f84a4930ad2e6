"""Options that several commands share, each defined once."""

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer

from suffice.errors import InputError

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


TrialFiles = Annotated[
    list[Path], typer.Argument(help="Trials: JSONL, gzip too, or Inspect logs and folders of them.")
]


ReferenceOrNone = Annotated[
    str | None,
    typer.Option(help="The rung promised against; else that of --ladder, or the ledger."),
]


AlphaOrNone = Annotated[float | None, typer.Option(help="Largest risk allowed (0.05).")]


DeltaOrNone = Annotated[
    float | None, typer.Option(help="Largest probability that the promise fails (0.1).")
]


TargetsFrom = Annotated[
    Path | None, typer.Option("--ladder", help="A suffice.toml whose reference and targets hold.")
]


Alpha = Annotated[float, typer.Option(help="Largest risk allowed.")]


Delta = Annotated[float, typer.Option(help="Largest probability that the promise fails.")]


Seed = Annotated[int, typer.Option(min=0, help="Deals the requests into the three splits.")]


Lapses = Annotated[str | None, typer.Option(help="How long the certificate holds (30d).")]


BundleOut = Annotated[Path | None, typer.Option(help="Folder for the policy and its certificate.")]


LadderFile = Annotated[Path, typer.Option("--ladder", help="The suffice.toml to use.")]


def amount(text: str) -> Decimal:
    """Read an amount of dollars; raises InputError."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount < 0:
        raise InputError(f"{text!r} is not an amount of dollars", hint="write it as 2.50")
    return amount
