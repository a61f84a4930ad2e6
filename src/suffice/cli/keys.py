"""`suffice key`: make, list and revoke the API keys of the gateway."""

import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from suffice.errors import InputError

if TYPE_CHECKING:
    from suffice.gateway.keys import Key

app = typer.Typer(
    help="Make, list and revoke the API keys of the gateway.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

KeysFile = Annotated[Path, typer.Option("--file", help="The key file (keys.json).")]
KeyName = Annotated[str, typer.Argument(help="Whose key it is; the books show this name.")]


@app.command()
def add(
    name: KeyName,
    budget: Annotated[
        str | None, typer.Option("--budget-usd-per-day", help="Dollars a day in UTC, as 2.50.")
    ] = None,
    requests: Annotated[
        int | None, typer.Option("--requests-per-minute", min=1, help="Requests a minute.")
    ] = None,
    file: KeysFile = Path("keys.json"),
) -> None:
    """Make a key and print it: it is shown this once, and only its hash is kept."""
    from suffice.gateway.keys import KeyLimits, add_key

    limits = KeyLimits(
        budget_usd_per_day=None if budget is None else _dollars(budget),
        requests_per_minute=requests,
    )
    print(add_key(file, name, limits=limits))
    print(f"added {name} to {file}; the key is not shown again", file=sys.stderr)


@app.command("list")
def list_keys(
    file: KeysFile = Path("keys.json"),
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the keys by name with their limits, revoked ones too."""
    from suffice.gateway.keys import read_keys

    keys = read_keys(file).keys
    if json:
        print(msgspec.json.encode({"keys": [_shown(key) for key in keys]}).decode())
        return
    for key in keys:
        said = (f"{name} {value}" for name, value in _shown(key).items() if name != "name")
        print(f"{key.name}: {', '.join(said)}")


@app.command()
def revoke(name: KeyName, file: KeysFile = Path("keys.json")) -> None:
    """End a key for good; a running gateway heeds it as soon as it reloads the file."""
    from suffice.gateway.keys import revoke_key

    revoke_key(file, name)
    print(f"revoked {name}")


def _shown(key: "Key") -> dict[str, object]:
    """Say everything about a key but its digest; a limit that is not set is left out."""
    facts = {
        "name": key.name,
        "created": f"{key.created:%Y-%m-%d}",
        "revoked": key.revoked and f"{key.revoked:%Y-%m-%d}",
        "budget_usd_per_day": key.budget_usd_per_day,
        "requests_per_minute": key.requests_per_minute,
    }
    return {name: value for name, value in facts.items() if value is not None}


def _dollars(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise InputError(
            f"{text!r} is not an amount of dollars", hint="write it as 2.50"
        ) from error
