"""Every command that writes, into places where it cannot: an error with a hint, and no half files.

The commands and their options come from the application itself, so that a new one cannot be
forgotten: it is either among those that are read, or written to here.
"""

import inspect
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_type_hints

import pytest
from cli_support import WORDS, Outcome, leaves

FILES = {"out", "figure", "html", "focus", "traces", "file", "ledger", "path", "folder"}
FOLDERS = {
    *(("certify", "out"), ("recertify", "out"), ("latent fit", "out"), ("latent stop", "out")),
    *(
        ("latent gate", "out"),
        ("latent watch", "folder"),
        ("demo", "folder"),
        ("train jepa", "out"),
        ("ledger export", "out"),
    ),
}
FIRST = {
    *(("init", "path"), ("latent watch", "folder")),
    *(("ledger prune", "ledger"), ("ledger erase", "ledger"), ("ledger rollup", "ledger")),
}  # arguments, not options
IN_PLACE = {
    ("key add", "file"),
    ("key revoke", "file"),
    ("key rotate", "file"),
    ("latent watch", "folder"),
}
APPENDED = {  # line by line: what was written before the disk filled up stands
    *(("bench", "out"), ("answer", "out"), ("answer", "ledger"), ("stream", "out")),
    *(("stream", "ledger"), ("latent stop", "traces")),
}
FULL_BYTES = 64
DECODING = "events.jsonl --gate gate --ladder suffice.toml --rung big"
READ = {
    *(("ladder", "path"), ("recertify", "ledger"), ("key list", "file")),
    *(("ledger log", "ledger"), ("ledger export", "ledger")),
    *(("latent choose", name) for name in ("questions", "train", "videos", "captions")),
    *(("rollout", "ledger"), ("rollout", "candidate"), ("report", "keys")),
    *(("latent fit", "answers"), ("certify", "labels"), ("certify", "plan"), ("bill", "prices")),
}
READ_EVERYWHERE = {
    *("trials", "tasks", "requests", "source", "streams", "events", "workload", "measurements"),
    *("fleet", "ladder", "certificate", "gate", "video", "chip_file", "model_file", "measured"),
    *("model", "data", "audits"),
    *("evaluation", "ssl_certfile", "ssl_keyfile", "sign", "trust"),
}
NAMES = {  # of options that take text, and may name files
    *FILES,
    *("tasks", "requests", "source", "events", "ssl_certfile", "ssl_keyfile"),
}
Place = Callable[[Path, str, bool], str]


def below_a_file(folder: Path, ending: str, is_folder: bool) -> str:
    return f"suffice.toml/written{ending}"


def no_folder(folder: Path, ending: str, is_folder: bool) -> str:
    return f"/proc/nowhere/written{ending}"


def the_other_kind(folder: Path, ending: str, is_folder: bool) -> str:
    """A file in the place of a folder, and a folder in the place of a file."""
    if is_folder:
        return "suffice.toml"
    (folder / f"taken{ending}").mkdir()
    (folder / f"taken{ending}" / "kept.txt").write_text("kept")
    return f"taken{ending}"


@contextmanager
def full_disk() -> Iterator[None]:
    """Let files grow to a few bytes only, as on a disk that fills up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def parameters() -> Iterator[tuple[str, str, bool]]:
    """Yield every parameter that may name a file, and whether the command writes to it."""
    for path, command in leaves():
        hints = get_type_hints(inspect.unwrap(command.callback))
        for name, hint in hints.items():
            if "Path" in str(hint) or name in NAMES:
                read = (path, name) in READ or name in READ_EVERYWHERE
                yield path, name, not read


WRITTEN = [(path, name) for path, name, written in parameters() if written]


def words_with(path: str, name: str, value: str) -> list[str]:
    """Put a value in the place of an option, or of the only argument."""
    words = (DECODING if (path, name) == ("stream", "ledger") else WORDS[path]).split()
    option = f"--{name}"
    if (path, name) in FIRST:
        return [value, *words[1:]]
    if option in words:
        words[words.index(option) + 1] = value
        return words
    return [*words, option, value]


def tree(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if not path.is_symlink() and "books.db" not in path.name
    }


def test_every_parameter_that_names_a_file_is_known() -> None:
    assert len(WRITTEN) >= 20
    for path, name, written in parameters():
        assert not written or name in FILES, f"{path} {name}: is it read or written?"


@pytest.mark.parametrize("place", [below_a_file, no_folder, the_other_kind])
@pytest.mark.parametrize(("path", "name"), WRITTEN, ids=lambda value: value.replace(" ", "-"))
def test_a_place_that_cannot_be_written(
    path: str,
    name: str,
    place: Place,
    workplace: Path,
    command: Callable[..., Outcome],
) -> None:
    ending = ".html" if name == "figure" else ""
    target = place(workplace, ending, (path, name) in FOLDERS)
    before = tree(workplace)
    ended = command(path, *words_with(path, name, target))
    check(ended)
    assert tree(workplace) == before


@pytest.mark.parametrize(
    ("path", "name"),
    [
        pytest.param(path, name, marks=[pytest.mark.slow] if path == "demo" else [])
        for path, name in WRITTEN
    ],
    ids=lambda value: value.replace(" ", "-"),
)
def test_a_disk_that_fills_up(
    path: str, name: str, workplace: Path, command: Callable[..., Outcome]
) -> None:
    ending = ".html" if name == "figure" else ""
    before = tree(workplace)
    words = words_with(path, name, f"new{ending}")
    if (path, name) in IN_PLACE:
        words = WORDS[path].split()
    with full_disk():
        ended = command(path, *words)
    check(ended)
    if (path, name) not in APPENDED:
        assert {name: text for name, text in tree(workplace).items() if text is not None} == {
            name: text for name, text in before.items() if text is not None
        }


def check(ended: Outcome) -> None:
    assert ended.status == 2, ended.out + ended.err
    assert ended.err.count("error: ") == 1, ended.err
    assert "\nhint: " in ended.err
    assert "Traceback" not in ended.err
