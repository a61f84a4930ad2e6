"""Options of several commands, each defined once."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from suffice.errors import InputError
from suffice.types import ZeroCost
from suffice.units import seconds

_ALPHA = "Largest risk allowed."
_DELTA = "Largest probability that the promise fails."
_TARGET = "{}, or the target in --ladder"
_LADDER = typer.Option("--ladder", help="Configuration file (suffice.toml).")
_LEDGER = typer.Option("--ledger", help="Ledger file, or database URL.")
_REFERENCE = typer.Option("--reference", help="Name of the reference rung.")
_RISK_MEANS = (
    "Loss that is promised: the excess over the reference, the error among requests that a "
    "cheaper rung answered, or the net loss, where gains make up for losses."
)
_RISK = typer.Option("--risk", help=_RISK_MEANS)
_PER = "Unit of the promise: a request, or a session of requests."
_RUNG = typer.Option("--rung", help="Name of a rung of the ladder.")
_LAPSES_AFTER = typer.Option("--lapses-after", help="Lifetime of the certificate, such as 30d.")

Json = Annotated[bool, typer.Option("--json", help="Output as one JSON object.")]
AllowCode = Annotated[
    bool,
    typer.Option("--allow-code", help="Scorers that a task file names as package.module:function."),
]
Explain = Annotated[bool, typer.Option("--explain", help="Output with all details and sources.")]

TrialFiles = Annotated[
    list[Path],
    typer.Argument(
        help="Trials: JSONL (gzip too), outputs of evaluation tools, or folders of them."
    ),
]
ZeroCosts = Annotated[
    ZeroCost | None,
    typer.Option(
        "--zero-cost",
        help="Meaning of a cost of exactly 0 dollars.",
        show_default="asked where there are many",
    ),
]
LedgerArgument = Annotated[str, typer.Argument(help="Ledger file, or database URL.")]

Tag = Annotated[
    str | None,
    typer.Option("--tag", help="Tag of requests that name none; several with commas between."),
]

Ladder = Annotated[Path, _LADDER]
LadderOrNone = Annotated[Path | None, _LADDER]
Ledger = Annotated[str, _LEDGER]
LedgerOrNone = Annotated[str | None, _LEDGER]
Rung = Annotated[str, _RUNG]
RungOrNone = Annotated[str | None, _RUNG]
Reference = Annotated[str, _REFERENCE]
ReferenceOrNone = Annotated[str | None, _REFERENCE]
Certificate = Annotated[
    Path | None,
    typer.Option(
        "--certificate",
        help="Folder that certify wrote.",
        show_default="none: the reference rung answers everything",
    ),
]
Alpha = Annotated[float, typer.Option("--alpha", help=_ALPHA)]
AlphaOrTarget = Annotated[
    float | None, typer.Option("--alpha", help=_ALPHA, show_default=_TARGET.format("0.05"))
]
Delta = Annotated[float, typer.Option("--delta", help=_DELTA)]
DeltaOrTarget = Annotated[
    float | None, typer.Option("--delta", help=_DELTA, show_default=_TARGET.format("0.1"))
]
LapsesAfter = Annotated[str, _LAPSES_AFTER]
LapsesAfterOrTarget = Annotated[str | None, _LAPSES_AFTER]
Risk = Annotated[Literal["excess_over_reference", "error_among_answered", "net_loss"], _RISK]
RiskOrNone = Annotated[
    Literal["excess_over_reference", "error_among_answered", "net_loss"] | None,
    typer.Option(
        "--risk", help=_RISK_MEANS, show_default="excess_over_reference; net_loss by outcomes"
    ),
]
LatentRisk = Annotated[Literal["excess_over_reference", "error_among_answered"], _RISK]
PromiseUnit = Annotated[Literal["request", "session"], typer.Option("--per", help=_PER)]
PromiseUnitOrNone = Annotated[
    Literal["request", "session"] | None,
    typer.Option("--per", help=_PER, show_default="request; session by outcomes"),
]
RandomPart = Annotated[
    bool,
    typer.Option(
        "--random-part/--no-random-part",
        help="Policies for a random part of the requests, drawn by their ids, among the choices.",
    ),
]
Looks = Annotated[
    int | None,
    typer.Option(
        "--looks",
        min=1,
        help="Planned looks at the same requests (seeds, alphas, renewals), which share delta.",
        show_default="1; for recertify 12, one a month",
    ),
]
Since = Annotated[
    str | None,
    typer.Option("--since", help="Start of the requests that count, such as 2026-11-01T08:00."),
]
Groups = Annotated[
    Literal["declared", "text", "none"],
    typer.Option(
        "--groups",
        help="Groups that the policy knows: those that clients declare, those that it tells from "
        "the text itself, or none.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of every random draw.")]
CoreUsdPerHour = Annotated[
    float | None,
    typer.Option("--core-usd-per-hour", min=0, help="Rent of one processor core, in dollars."),
]
Chip = Annotated[str, typer.Option("--chip", help="Chip to rent.")]
Regime = Annotated[
    str | None,
    typer.Option(
        "--regime",
        help="Movement of prices now: still, falling or rising.",
        show_default="unknown: a mixture of all three",
    ),
]
Paths = Annotated[int, typer.Option("--paths", help="Number of random paths.")]
Shape = Annotated[str, typer.Option("--model", help="Known model, or path of its config.json.")]
Figure = Annotated[
    Path | None, typer.Option("--figure", help="File for the figure: .html, .svg or .png.")
]
KeyFile = Annotated[Path, typer.Option("--file", help="Key file.")]
KeyName = Annotated[str, typer.Argument(help="Name of the key, as the books show it.")]


def out(contents: str) -> Any:
    """Declare `--out`, the file or folder that a command writes."""
    return typer.Option("--out", help=contents)


def moment(text: str) -> datetime:
    """Read a time, UTC where it names no zone; raises InputError."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{text!r} is not a time", hint="write it as 2026-11-01T08:00") from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def duration(text: str) -> timedelta:
    """Read a duration such as 90d; raises InputError."""
    try:
        return timedelta(seconds=seconds(text))
    except ValueError as error:
        raise InputError(str(error), hint="write it as 90d") from error


def amount(text: str) -> Decimal:
    """Read an amount of dollars; raises InputError."""
    try:
        usd = Decimal(text)
    except InvalidOperation:
        usd = Decimal(-1)
    if not usd.is_finite() or usd < 0:
        raise InputError(f"{text!r} is not an amount of dollars", hint="write it as 2.50")
    return usd


def share(name: str, value: float) -> float:
    """Check a probability; raises InputError unless it lies between 0 and 1."""
    if not 0 < value < 1:
        raise InputError(f"{name} {value:g} does not lie between 0 and 1", hint="0.05 is usual")
    return value
