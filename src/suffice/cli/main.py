"""The command line: thin commands over the library, one exit status for each kind of error."""

import os
import sys
import traceback
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from suffice import __version__
from suffice.cli.output import print_error, say
from suffice.cli.streams import prepare_streams
from suffice.errors import SufficeError, missing_extra
from suffice.units import printable

UNEXPECTED = 1
PANELS = {
    "Start": {
        "bill": "bill:bill",
        "demo": "start:demo",
        "init": "start:init",
        "ladder": "start:ladder",
        "bench": "bench:bench",
        "frontier": "bench:frontier",
        "economy": "economy:economy",
    },
    "Certify": {
        "compare": "compare:compare",
        "label-plan": "certify:label_plan",
        "certify": "certify:certify",
        "recertify": "certify:recertify",
        "latent": "latent:app",
    },
    "Serve": {
        "serve": "serve:serve",
        "launch": "launch:launch",
        "key": "keys:app",
        "ledger": "ledger:app",
        "answer": "answer:answer",
        "stream": "stream:stream",
        "report": "report:report",
        "rollout": "rollout:rollout",
    },
    "Plan": {"plan": "plan:app", "forecast": "forecast:forecast", "contract": "forecast:contract"},
    "Train": {"train": "train:app"},
    "Evidence": {"compound": "report:compound", "claims": "claims:claims"},
}
"""Panels of the help: commands by name, each with its module in this folder and its name there."""

# What these commands do not know goes to the client that they start.
_FORWARDING = {"allow_extra_args": True, "ignore_unknown_options": True}


class CommandOrder(TyperGroup):
    """Lists commands in the order of `PANELS`; Typer would list groups last."""

    def list_commands(self, _context: Any) -> list[str]:
        """Return the names in the order that a newcomer needs them."""
        names = (name for commands in PANELS.values() for name in commands)
        return [name for name in names if name in self.commands]


def version(
    show: Annotated[bool, typer.Option("--version", help="Version of suffice.")] = False,
) -> None:
    """Answer each request on the cheapest compute that meets a certified quality target."""
    if show:
        say(__version__)
        raise typer.Exit


def make_app(*names: str) -> typer.Typer:
    """Import commands and put them together: those named, or all. Reading signatures is slow."""
    app = typer.Typer(
        cls=CommandOrder,
        help="Spend the least compute that suffices, prove it, and keep the books.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    app.callback(invoke_without_command=True)(version)
    for panel, commands in PANELS.items():
        for name in [name for name in commands if name in names or not names]:
            module, _, attribute = commands[name].partition(":")
            command = getattr(import_module(f"suffice.cli.{module}"), attribute)
            if isinstance(command, typer.Typer):
                app.add_typer(command, name=name, rich_help_panel=panel)
            else:
                settings = _FORWARDING if name == "launch" else {}
                app.command(name, rich_help_panel=panel, context_settings=settings)(command)
    return app


@cache
def command_tree(*names: str) -> Any:
    """Return commands as Typer builds them: those named, or all."""
    return typer.main.get_command(make_app(*names))


def main(arguments: list[str] | None = None) -> None:
    """Run one command; an error ends it with its hint and status, never with a traceback."""
    words = sys.argv[1:] if arguments is None else arguments
    json = "--json" in words
    prepare_streams()
    known = {name for commands in PANELS.values() for name in commands}
    try:
        tree = command_tree(*(name for name in words[:1] if name in known))
        status = tree(args=arguments, standalone_mode=False)
    except typer.TyperException as error:
        status = _usage_error(error, json=json)
    except SufficeError as error:
        print_error(error.message, hint=error.hint, code=type(error).__name__, json=json)
        status = error.exit_status
    except OSError as error:
        where = "" if error.filename is None else f" {error.filename}"
        print_error(
            f"cannot use{where or ' a file'}: {error.strerror or error}",
            hint="check the path, its permissions and the disk",
            code="InputError",
            json=json,
        )
        status = SufficeError.exit_status
    except Exception as error:  # the last resort: no command ends in a traceback
        missing = missing_extra(error) if isinstance(error, ModuleNotFoundError) else None
        if missing is not None:
            print_error(missing.message, hint=missing.hint, code="MissingExtra", json=json)
            raise SystemExit(missing.exit_status) from error
        if os.environ.get("SUFFICE_TRACEBACK"):
            raise
        frame = traceback.extract_tb(error.__traceback__)[-1]
        print_error(
            f"unexpected {type(error).__name__}: {error} "
            f"({Path(frame.filename).name}, line {frame.lineno})",
            hint="this is a fault of suffice; SUFFICE_TRACEBACK=1 shows where it arose",
            code="UnexpectedError",
            json=json,
        )
        status = UNEXPECTED
    raise SystemExit(status or 0)


def _usage_error(error: typer.TyperException, *, json: bool) -> int:
    """Print an error in the arguments of a command; return the exit status."""
    error.message = printable(error.message)
    context = getattr(error, "ctx", None)
    if json:
        print_error(
            error.format_message(),
            hint=None if context is None else f"{context.command_path} --help",
            code="UsageError",
            json=True,
        )
    else:
        from typer.rich_utils import rich_format_error

        rich_format_error(error)  # type: ignore[arg-type]
    return error.exit_code
