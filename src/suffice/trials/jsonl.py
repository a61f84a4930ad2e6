"""Lines of JSON, plain or gzip, read so that every complaint names the file, line and field."""

import gzip
import json
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from suffice.config import nearest
from suffice.errors import InputError
from suffice.types import JSON

S = TypeVar("S", bound=Struct)
PathLike = str | os.PathLike[str]
Lines = list[tuple[int, bytes]]

_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_lines(path: PathLike) -> Lines:
    """Return the lines that are not blank, each with its number from 1.

    Raises InputError for a file that cannot be read, is broken gzip, or holds no line.
    """
    lines = read_bytes(path).removeprefix(_BYTE_ORDER_MARK).split(b"\n")
    filled = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not filled:
        raise InputError(f"{path} is empty", hint="it needs one JSON object a line")
    return filled


def read_bytes(path: PathLike) -> bytes:
    """Read a whole file of UTF-8, unpacked if it is gzip; raises InputError."""
    try:
        content = Path(path).read_bytes()
        content = gzip.decompress(content) if content.startswith(_GZIP_MAGIC) else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"{path} is broken gzip: {error}", hint="copy or compress the file again"
        ) from error
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror}", hint="check the path and its permissions"
        ) from error
    try:
        if not content.isascii():
            content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}: byte {content[error.start]:#04x} is not UTF-8",
            hint="save the file as UTF-8, or convert it: iconv --from-code LATIN1 --to-code UTF-8 "
            "(UTF-16 where the first byte is 0xff or 0xfe)",
        ) from error
    return content


def decode_object(line: bytes, *, at: str) -> JSON:
    """Turn one line into a JSON object; raises InputError that starts with `at`."""
    try:
        row = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        place = _non_finite_field(line)
        if place is not None:
            raise InputError(
                f"{at}: field {place[0]!r} is {place[1]}", hint="write null for what is not known"
            ) from error
        raise InputError(f"{at}: {error}", hint="each line must be one JSON object") from error
    if not isinstance(row, dict):
        raise InputError(
            f"{at}: a {type(row).__name__} where a JSON object was expected",
            hint="each line must be one JSON object",
        )
    return row


def refuse_unknown(row: JSON, struct: type[Struct], *, at: str) -> None:
    """Refuse a field that `struct` does not have; raises InputError with the nearest it has."""
    for name in row:
        if name not in struct.__struct_fields__:
            raise InputError(
                f"{at}: unknown field {name!r}", hint=nearest(name, struct.__struct_fields__)
            )


def convert_row(row: object, struct: type[S], *, at: str) -> S:
    """Turn a JSON object into `struct`; raises InputError naming the field."""
    try:
        return msgspec.convert(row, struct)
    except msgspec.ValidationError as error:
        raise InputError(f"{at}: {_field_first(error)}", hint="mend that field") from error


def _field_first(error: msgspec.ValidationError) -> str:
    """Put the field that msgspec names last at the front of its message."""
    message, _, place = str(error).partition(" - at `$.")
    return f"field {place.rstrip('`')!r}: {message}" if place else message


def _non_finite_field(line: bytes) -> tuple[str, float] | None:
    """Return the field that holds NaN or an infinity, which JSON does not know, and its value."""
    try:
        return next(_non_finite(json.loads(line)), None)
    except ValueError:
        return None


def _non_finite(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, float) and not math.isfinite(value):
        yield path, value
    if isinstance(value, list):
        value = dict(enumerate(value))
    for key, part in value.items() if isinstance(value, dict) else ():
        yield from _non_finite(part, f"{path}.{key}".lstrip("."))
