"""`suffice key`: make, list, rotate and revoke the API keys of the gateway."""

from pathlib import Path
from typing import Annotated, cast

import typer

from suffice.cli.options import Json, KeyFile, KeyName, Tag, amount, duration

app = typer.Typer(
    help="Make, list, rotate and revoke the API keys of the gateway.", no_args_is_help=True
)


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
    tokens: Annotated[
        int | None, typer.Option("--tokens-per-minute", min=1, help="Tokens per minute.")
    ] = None,
    parallel: Annotated[
        int | None, typer.Option("--parallel-requests", min=1, help="Requests in flight at once.")
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="What the key opens: chat, feedback, outcomes, metrics, dashboard, admin; "
            "repeatable.",
            show_default="chat and feedback",
        ),
    ] = None,
    may_ask: Annotated[
        list[str] | None,
        typer.Option(help="Model that the key may ask for; repeatable.", show_default="all"),
    ] = None,
    team: Annotated[
        str | None, typer.Option(help="Team that its requests count for in reports.")
    ] = None,
    tag: Tag = None,
    expires: Annotated[
        str | None, typer.Option(help="Lifetime of the key, such as 90d.", show_default="none")
    ] = None,
    file: KeyFile = Path("keys.json"),
    json: Json = False,
) -> None:
    """Make a key and print it once; only its hash is kept."""
    from suffice.cli.output import note, print_json, say
    from suffice.gateway.keys import USUAL_SCOPES, KeyLimits, KeyRights, Scope, add_key

    limits = KeyLimits(
        budget_usd_per_day=None if budget is None else amount(budget),
        requests_per_minute=requests,
        tokens_per_minute=tokens,
        parallel_requests=parallel,
    )
    rights = KeyRights(
        scopes=cast("tuple[Scope, ...]", tuple(scope)) if scope else USUAL_SCOPES,
        models=tuple(may_ask) if may_ask else None,
        team=team,
        tag=tag,
        lasts=None if expires is None else duration(expires),
    )
    key = add_key(file, name, limits=limits, rights=rights)
    print_json("key add", {"name": name, "key": key}) if json else say(key)
    note(f"added {name} to {file}; the key is not shown again")


@app.command("list")
def list_keys(file: KeyFile = Path("keys.json"), json: Json = False) -> None:
    """List the keys by name with their limits, revoked ones too."""
    from suffice.cli.output import print_json, say
    from suffice.gateway.keys import KeyLimits, read_keys

    keys = [
        {
            "name": key.name,
            "created": f"{key.created:%Y-%m-%d}",
            "revoked": f"{key.revoked:%Y-%m-%d}" if key.revoked else None,
            "expires": f"{key.expires:%Y-%m-%d}" if key.expires else None,
            "scopes": list(key.scopes),
            "models": None if key.models is None else list(key.models),
            **{limit: getattr(key, limit) for limit in KeyLimits.__struct_fields__},
        }
        for key in read_keys(file).keys
    ]
    known = [{field: value for field, value in key.items() if value is not None} for key in keys]
    if json:
        print_json("key list", {"keys": known})
        return
    for key in known:
        facts = (
            f"{field} {' '.join(value) if isinstance(value, list) else value}"
            for field, value in key.items()
            if field != "name"
        )
        say(f"{key['name']}: {', '.join(facts)}")


@app.command()
def rotate(
    name: KeyName,
    overlap: Annotated[str, typer.Option(help="How long the old key opens too.")] = "7d",
    file: KeyFile = Path("keys.json"),
    json: Json = False,
) -> None:
    """Replace a key and print the new one once; name, limits and spending stay."""
    from suffice.cli.output import note, print_json, say
    from suffice.gateway.keys import rotate_key

    key = rotate_key(file, name, overlap=duration(overlap))
    print_json("key rotate", {"name": name, "key": key}) if json else say(key)
    note(f"the old key of {name} opens for {overlap} more; the new one is not shown again")


@app.command()
def revoke(name: KeyName, file: KeyFile = Path("keys.json"), json: Json = False) -> None:
    """Revoke a key for good; a running gateway refuses it after it has read the file again."""
    from suffice.cli.output import print_json, say
    from suffice.gateway.keys import revoke_key

    revoke_key(file, name)
    print_json("key revoke", {"name": name}) if json else say(f"revoked {name}")
