"""`suffice ledger`: look after the books."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from suffice.cli.options import Json, LedgerArgument, Since, duration, moment, out
from suffice.errors import InputError

if TYPE_CHECKING:
    from suffice.ledger import Ledger

app = typer.Typer(help="Look after the books.", no_args_is_help=True)


@app.command()
def log(ledger: LedgerArgument, json: Json = False) -> None:
    """List the changes of keys, configuration and certificate that gateways have seen."""
    from suffice.cli.output import note, print_json, say
    from suffice.ledger import Ledger
    from suffice.ledger.events import events

    with Ledger.open(ledger, read_only=True) as books:
        changes = events(books)
    if json:
        print_json("ledger log", {"events": changes})
        return
    for change in changes:
        state = "gone" if change.state is None else change.state
        say(f"{change.time:%Y-%m-%d %H:%M:%S} {change.origin} {change.subject}: {state}")
    if not changes:
        note("no gateway has written a change into this ledger")


@app.command()
def prune(
    ledger: LedgerArgument,
    keep: Annotated[str, typer.Option(help="Age of the requests that stay, such as 400d.")],
    audited: Annotated[
        bool,
        typer.Option(
            "--audited", help="Audited and shadowed requests too, which certificates need."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Delete requests older than --keep, with their calls and scores."""
    from suffice.cli.output import print_json, say
    from suffice.ledger.retention import prune as remove

    before = datetime.now(UTC) - duration(keep)
    with _open_existing(ledger) as books:
        removed = remove(books, before=before, sampled=audited)
    print_json("ledger prune", {"removed": removed}) if json else say(f"removed {removed} requests")


@app.command()
def erase(
    ledger: LedgerArgument,
    key: Annotated[str | None, typer.Option(help="Name of a key.")] = None,
    conversation: Annotated[str | None, typer.Option(help="Id of a conversation.")] = None,
    json: Json = False,
) -> None:
    """Blank prompts, answers, errors and conversation ids of one key or conversation."""
    from suffice.cli.output import print_json, say
    from suffice.ledger.retention import erase as blank

    if (key is None) == (conversation is None):
        raise InputError("nothing, or two things, to erase", hint="give --key or --conversation")
    with _open_existing(ledger) as books:
        erased = blank(books, key_id=key, conversation_id=conversation)
    print_json("ledger erase", {"erased": erased}) if json else say(f"blanked {erased} requests")


@app.command()
def export(
    ledger: LedgerArgument,
    out: Annotated[Path, out("Folder for one Parquet file a table.")],
    since: Since = None,
    json: Json = False,
) -> None:
    """Write requests, calls and scores as Parquet files."""
    from suffice.cli.output import print_json, say
    from suffice.ledger import Ledger, Window
    from suffice.ledger.export import export as write

    window = Window(since=None if since is None else moment(since))
    with Ledger.open(ledger, read_only=True) as books:
        counts = write(books, out, window=window)
    if json:
        print_json("ledger export", {"rows": counts})
        return
    for name, count in counts.items():
        say(f"{out / name}: {count} rows")


@app.command()
def rollup(
    ledger: LedgerArgument,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="All sums anew, from the rows.")
    ] = False,
    json: Json = False,
) -> None:
    """Add all rows to the hourly sums that dashboard and report read, as gateways do by and by."""
    from suffice.cli.output import print_json, say
    from suffice.ledger import rollups

    with _open_existing(ledger) as books:
        if rebuild:
            rollups.clear(books)
        while not (done := rollups.advance(books)):
            time.sleep(0.1)
    print_json("ledger rollup", {"complete": done}) if json else say("the hourly sums are complete")


def _open_existing(ledger: str) -> "Ledger":
    """Open a ledger to write in it; one that is not there is not made."""
    from suffice.ledger import Ledger

    Ledger.open(ledger, read_only=True).close()
    return Ledger.open(ledger)
