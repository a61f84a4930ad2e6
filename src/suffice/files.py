"""Write files whole: a reader finds the old contents or the new, never half of either."""

import io
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from suffice.errors import InputError, writing

FORMATS = (".html", ".svg", ".png")


def write_file(path: Path, contents: str | bytes) -> None:
    """Write one file; raises InputError when the disk refuses.

    A device or a pipe takes the contents as they come: it cannot be replaced.
    """
    data = contents.encode() if isinstance(contents, str) else contents
    target = Path(os.path.realpath(path))
    with writing(path):
        if target.exists() and not target.is_file():
            target.write_bytes(data)
            return
        draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            draft.write_bytes(data)
            if target.exists():
                shutil.copymode(target, draft)
            draft.replace(target)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


@contextmanager
def reading_folder(
    folder: Path, contents: str, *, file: str, make: str, again: str
) -> Iterator[None]:
    """Turn what a missing or damaged file of a folder raises in a block into an InputError.

    `make` is the command that makes the folder's `contents`; `again` says how to mend `file`.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{folder} holds no {contents}: {error.strerror}", hint=f"make one with: {make}"
        ) from error
    except msgspec.DecodeError as error:
        raise InputError(f"{folder / file} is damaged: {error}", hint=again) from error


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a few files that belong together, made with their folder if need be, in their order.

    Raises InputError when the disk refuses.
    """
    for name in files:
        if (folder / name).is_dir():
            raise InputError(f"cannot write {folder / name}: it is a folder", hint="name another")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, contents in files.items():
        write_file(folder / name, contents)


def check_file(path: Path) -> None:
    """Raise InputError where no file can stand; call it before long work."""
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder", hint="name a file in it")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no such folder", hint="make it first")


def check_folder(path: Path) -> None:
    """Raise InputError where no folder can be made; call it before long work."""
    nearest = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise InputError(f"cannot write {path}: {nearest} is a file", hint="name another folder")


def check_figure(path: Path) -> None:
    """Raise InputError as `check_file` does, and for another ending than `FORMATS`."""
    if path.suffix not in FORMATS:
        raise InputError(f"cannot draw {path}", hint=f"name a file {', '.join(FORMATS)}")
    check_file(path)


def save_figure(path: Path, chart: Any) -> None:
    """Write an altair chart; an HTML page holds data and script, and needs no network.

    Raises InputError for another ending, or when the disk refuses.
    """
    check_figure(path)
    kind = path.suffix[1:]
    buffer = io.BytesIO() if kind == "png" else io.StringIO()
    chart.save(buffer, format=kind, **({"inline": True} if kind == "html" else {}))
    write_file(path, buffer.getvalue())
