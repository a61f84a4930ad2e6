"""Write the tables of docs/commands.md, docs/configuration.md and docs/logs.md from the code.

`python -m tools.docs` rewrites what stands between the markers `<!-- NAME -->` and `<!-- end -->`;
with `--check` it writes nothing and exits with 1 where a table is out of date.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from suffice import config, types
from suffice.cli.main import command_tree
from suffice.logs.format import LogFormat
from suffice.logs.plain_format import MAPPABLE, plain_format
from suffice.logs.server_formats import TEXT_FORMATS, TextFormat
from suffice.logs.sniff import JSON_FORMATS

DOCS = Path(__file__).parents[1] / "docs"
SECTIONS = (
    config.Config,
    config.EngineConfig,
    types.Rung,
    config.PriceConfig,
    config.CheckConfig,
    config.Targets,
    config.GatewayConfig,
)
_BLOCK = re.compile(r"(<!-- (?P<name>[^>]+?) -->\n).*?(<!-- end -->)", re.S)


def main() -> None:
    """Rewrite the pages, or check them."""
    parser = argparse.ArgumentParser(prog="python -m tools.docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="Write nothing; exit with 1.")
    check = parser.parse_args().check
    pages = (DOCS / "commands.md", DOCS / "configuration.md", DOCS / "logs.md")
    stale = [page for page in pages if renew(page, check=check)]
    for page in stale:
        print(f"{page.name} {'is out of date: run python -m tools.docs' if check else 'written'}")
    sys.exit(1 if check and stale else 0)


def renew(page: Path, *, check: bool) -> bool:
    """Put the current tables into a page; True where it changes."""
    tables = {**command_tables(), **configuration_tables(), "logs": log_table()}
    text = page.read_text("utf-8")
    renewed = _BLOCK.sub(lambda m: f"{m[1]}{tables[m['name']]}{m[3]}", text)
    if renewed != text and not check:
        page.write_text(renewed, "utf-8")
    return renewed != text


def command_tables() -> dict[str, str]:
    """Return the table of arguments and options of every command, by its path."""
    return {path: _command_table(command) for path, command in commands()}


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command with its path, groups before their members."""

    def walk(prefix: str, group: Any) -> Iterator[tuple[str, Any]]:
        for name, command in group.commands.items():
            path = f"{prefix} {name}"
            yield path, command
            if hasattr(command, "commands"):
                yield from walk(path, command)

    return walk("suffice", command_tree())


def _command_table(command: Any) -> str:
    rows = []
    for parameter in command.params:
        if "--help" in parameter.opts:
            continue
        name = ", ".join(f"`{o}`" for o in parameter.opts)
        if parameter.param_type_name == "argument":
            name = f"`{parameter.name.upper()}`"
        default = parameter.default
        unset = default is None or default is False or default in ("", ()) or callable(default)
        words = getattr(parameter, "show_default", None)
        shown = "required" if parameter.required else "" if unset else f"`{default}`"
        shown = words if isinstance(words, str) else shown
        rows.append(f"| {name} | {shown} | {_cell(getattr(parameter, 'help', '') or '')} |\n")
    if not rows:
        return "It takes no options.\n"
    return "".join(["| argument, option | default | meaning |\n|---|---|---|\n", *rows])


def configuration_tables() -> dict[str, str]:
    """Return the table of the keys of every section of suffice.toml, by the name of its class."""
    return {section.__name__: _section_table(section) for section in SECTIONS}


def _section_table(section: type[msgspec.Struct]) -> str:
    meanings = key_meanings(section)
    rows = []
    for field in msgspec.structs.fields(section):
        default = field.default
        unset = default is None or default == () or isinstance(default, msgspec.Struct)
        if default is msgspec.NODEFAULT:
            unset = not field.required
        word = str(default).lower() if isinstance(default, bool) else f"{default}"
        shown = "required" if field.required else "" if unset else f"`{word}`"
        rows.append(f"| `{field.name}` | {shown} | {_cell(meanings[field.name])} |\n")
    return "".join(["| key | default | meaning |\n|---|---|---|\n", *rows])


def log_table() -> str:
    """Return the table of log formats: the fields that each gives, and what it does not tell."""
    plain = plain_format(MAPPABLE, {})
    assert plain is not None
    formats: tuple[LogFormat | TextFormat, ...] = (*JSON_FORMATS, *TEXT_FORMATS, plain)
    rows = [
        f"| {form.title} | `{form.name}` | {', '.join(_fields_of(form))} | {form.missing} |\n"
        for form in formats
    ]
    return "".join(["| log | name | fields taken | missing |\n|---|---|---|---|\n", *rows])


def _fields_of(form: LogFormat | TextFormat) -> list[str]:
    texts = [name for name in ("prompt", "answer") if getattr(form, name, "")]
    unsaid = {"zoned", "span", "parent", "ended"}
    return [name for name in form.fields if name not in unsaid] + [
        f"text of the {t}" for t in texts
    ]


def key_meanings(section: type[msgspec.Struct]) -> dict[str, str]:
    """Read `key: meaning` from the docstring of a section's class."""
    meanings: dict[str, str] = {}
    for line in (section.__doc__ or "").splitlines():
        if match := re.match(r" {4}(\w+): (.+)", line):
            name = match[1]
            meanings[name] = match[2]
        elif line.startswith("      ") and meanings:
            meanings[name] += f" {line.strip()}"
    return meanings


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    main()
