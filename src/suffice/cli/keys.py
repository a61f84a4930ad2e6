"""`suffice key`: make, list and revoke the API keys of the gateway."""

from pathlib import Path
from typing import Annotated

import typer

from suffice.cli.options import Json, KeyFile, KeyName, amount

app = typer.Typer(help="Make, list and revoke the API keys of the gateway.", no_args_is_help=True)


@app.command()
def add(
    name: KeyName,
    budget: Annotated[
        str | None,
        typer.Option("--budget-usd-per-day", help="Dollars per day (UTC), such as 2.50."),
    ] = None,
    requests: Annotated[
        int | None, typer.Option("--requests-per-minute", min=1, help="Requests per minute.")
    ] = None,
    file: KeyFile = Path("keys.json"),
    json: Json = False,
) -> None:
    """Make a key and print it once; only its hash is kept."""
    from suffice.cli.output import note, print_json, say
    from suffice.gateway.keys import KeyLimits, add_key

    limits = KeyLimits(
        budget_usd_per_day=None if budget is None else amount(budget),
        requests_per_minute=requests,
    )
    key = add_key(file, name, limits=limits)
    print_json("key add", {"name": name, "key": key}) if json else say(key)
    note(f"added {name} to {file}; the key is not shown again")


@app.command("list")
def list_keys(file: KeyFile = Path("keys.json"), json: Json = False) -> None:
    """List the keys by name with their limits, revoked ones too."""
    from suffice.cli.output import print_json, say
    from suffice.gateway.keys import read_keys

    keys = [
        {
            "name": key.name,
            "created": f"{key.created:%Y-%m-%d}",
            "revoked": f"{key.revoked:%Y-%m-%d}" if key.revoked else None,
            "budget_usd_per_day": key.budget_usd_per_day,
            "requests_per_minute": key.requests_per_minute,
        }
        for key in read_keys(file).keys
    ]
    known = [{field: value for field, value in key.items() if value is not None} for key in keys]
    if json:
        print_json("key list", {"keys": known})
        return
    for key in known:
        facts = (f"{field} {value}" for field, value in key.items() if field != "name")
        say(f"{key['name']}: {', '.join(facts)}")


@app.command()
def revoke(name: KeyName, file: KeyFile = Path("keys.json"), json: Json = False) -> None:
    """End a key for good; a running gateway refuses it once it has read the file again."""
    from suffice.cli.output import print_json, say
    from suffice.gateway.keys import revoke_key

    revoke_key(file, name)
    print_json("key revoke", {"name": name}) if json else say(f"revoked {name}")
