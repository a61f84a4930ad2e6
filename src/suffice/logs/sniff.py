"""Tell what a file is by its content: how its rows lie, and which format they have."""

import csv
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from suffice.logs.agent_formats import AGENT_FORMATS
from suffice.logs.export_formats import EXPORT_FORMATS
from suffice.logs.files import HEAD_BYTES, LogFile
from suffice.logs.format import LogFormat, Shape
from suffice.logs.gateway_formats import GATEWAY_FORMATS
from suffice.logs.observer_formats import OBSERVER_FORMATS
from suffice.logs.otlp_format import OTLP_FORMATS
from suffice.logs.plain_format import plain_format
from suffice.logs.printed_formats import PRINTED_FORMATS
from suffice.logs.provider_formats import PROVIDER_FORMATS
from suffice.logs.server_formats import TEXT_FORMATS, TextFormat
from suffice.logs.session_formats import SESSION_FORMATS

JSON_FORMATS: tuple[LogFormat, ...] = (
    *SESSION_FORMATS,  # before Claude Code's, whose lines without usage look like Qwen's
    *AGENT_FORMATS,
    *PRINTED_FORMATS,
    *OTLP_FORMATS,
    *PROVIDER_FORMATS,
    *EXPORT_FORMATS,
    *GATEWAY_FORMATS,
    *OBSERVER_FORMATS,
)
SQLITE = b"SQLite format 3\0"
_PARQUET = b"PAR1"
_DEPTH = 4
_SAMPLE_ROWS = 200
_MOST_LIST = 20
_WRAPPERS = {"data", "logs", "observations", "records", "requests", "spans"}
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?|[][{},]', re.DOTALL)
_KEY = re.compile(r'"([\w.\-]+)"\s*:')


class Sniffed(Struct, frozen=True, kw_only=True):
    """How a file is read: its shape and its format, or why it cannot be (`reason`).

    `shape` "text" goes with a TextFormat, every other one with a LogFormat. `wrapper` is the key of
    the list that holds the rows, where each object of the file is a page of them.
    """

    shape: Shape | None = None
    format: LogFormat | TextFormat | None = None
    reason: str = ""
    delimiter: str = ","
    wrapper: str = ""


def sniff(log: LogFile, *, mapping: Mapping[str, str]) -> Sniffed:
    """Tell a file's shape and format from its start; `mapping` names columns of plain rows."""
    if log.head.startswith(_PARQUET):
        return Sniffed(shape="parquet", format=None)
    text = log.head.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if not text:
        return Sniffed(reason="empty")
    if text[0] == "[" and text.lstrip("[ \t\r\n")[:1] in ("{", "]", ""):
        return _of_rows("array", list(_array_rows(text)), text, mapping)
    if text[0] == "{":
        rows = list(_line_rows(text))
        if rows:
            return _of_rows("lines", rows, text, mapping)
        return _of_rows("document", _documents(text), text, mapping)
    for form in TEXT_FORMATS:
        if form.matches(text):
            return Sniffed(shape="text", format=form)
    return _of_csv(text, mapping)


def _of_rows(shape: Shape, rows: list[Any], text: str, mapping: Mapping[str, str]) -> Sniffed:
    samples = [frozenset(_paths(row)) for row in rows if isinstance(row, dict)]
    if not samples and shape == "document":
        samples = [frozenset(_KEY.findall(text))]
    for form in JSON_FORMATS:
        if any(form.matches(paths) for paths in samples):
            return Sniffed(shape=shape, format=form)
    names = {name: None for row in rows if isinstance(row, dict) for name in row}
    plain = plain_format(names, mapping)
    if plain is not None:
        return Sniffed(shape=shape, format=plain)
    for key in sorted(_WRAPPERS & names.keys()):
        inner = [part for row in rows for part in _list_in(row, key)]
        sniffed = _of_rows(shape, inner, "", mapping) if inner else Sniffed()
        if sniffed.format is not None and not sniffed.wrapper:
            return replace(sniffed, wrapper=key)
    return Sniffed(reason="no known log format: no key says how many tokens a request had")


def _list_in(row: Any, key: str) -> list[Any]:
    rows = row.get(key) if isinstance(row, dict) else None
    return rows[:_SAMPLE_ROWS] if isinstance(rows, list) else []


def of_names(
    names: list[str], mapping: Mapping[str, str], *, decimal_comma: bool = False
) -> LogFormat | None:
    """Return the format of a table with these columns; None where it is of no known one."""
    paths = frozenset(names)
    for form in JSON_FORMATS:
        if form.matches(paths):
            return form
    return plain_format(names, mapping, decimal_comma=decimal_comma)


def _of_csv(text: str, mapping: Mapping[str, str]) -> Sniffed:
    header = text.splitlines()[0]
    delimiter = max(",;\t|", key=header.count)
    if not header.count(delimiter):
        return Sniffed(reason="no known log format: neither JSON nor columns with names")
    names = next(csv.reader([header], delimiter=delimiter))
    form = of_names(names, mapping, decimal_comma=delimiter == ";")
    if form is None:
        return Sniffed(
            reason="no column is known to count tokens: name them with --column field=column"
        )
    return Sniffed(shape="csv", format=form, delimiter=delimiter)


def _line_rows(text: str) -> Iterator[Any]:
    """Yield the rows of JSON lines; nothing where the first line is no whole object."""
    lines = [line for line in text.split("\n", _SAMPLE_ROWS)[:_SAMPLE_ROWS] if line.strip()]
    for number, line in enumerate(lines):
        try:
            yield msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeEncodeError):
            if (number == 0 and line.strip() in ("{", "{}")) or (
                number == 0 and len(lines) > 1 and not line.rstrip().endswith("}")
            ):
                return


def _array_rows(text: str) -> Iterator[Any]:
    """Yield the first elements of an array that may be cut off."""
    decoder, at = json.JSONDecoder(), 1
    for _ in range(_SAMPLE_ROWS):
        while at < len(text) and text[at] in ", \t\r\n":
            at += 1
        try:
            row, at = decoder.raw_decode(text, at)
        except ValueError:
            return
        yield row


def _documents(text: str) -> list[Any]:
    """Return the first object of a file, with what of it was read."""
    try:
        return [json.JSONDecoder().raw_decode(text)[0]]
    except ValueError:
        whole = None if len(text) < HEAD_BYTES // 2 else _closed(text)
        return [] if whole is None else [whole]


def _closed(text: str) -> Any:
    """Return the whole elements of a document that is cut off; None if there are none."""
    closers: list[str] = []
    cut, rest = 0, ""
    for token in _TOKEN.finditer(text):
        match token[0]:
            case "[" | "{" as opener:
                closers.append("]" if opener == "[" else "}")
            case "]" | "}" if closers:
                closers.pop()
            case ",":
                cut, rest = token.start(), "".join(reversed(closers))
    try:
        return json.loads(text[:cut] + rest)
    except ValueError:
        return None


def _paths(row: Any, prefix: str = "", depth: int = 0) -> Iterator[str]:
    """Yield the key paths of a row, without the places in lists."""
    if isinstance(row, list):
        for part in row[:_MOST_LIST]:
            yield from _paths(part, prefix, depth)
    elif isinstance(row, dict) and depth < _DEPTH:
        for key, part in row.items():
            path = f"{prefix}.{key}" if prefix else str(key)
            yield path
            yield from _paths(part, path, depth + 1)
