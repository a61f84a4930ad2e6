"""Files and modules that pages, docstrings, comments and data files name are there.

Files of other repositories are named with their repository before them.
"""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
KINDS = {".md", ".py", ".toml"}
FOLDERS = ("src", "tests", "tools", "benchmarks", "docs", "deploy", "requirements")
FILES = [
    *(path for path in ROOT.iterdir() if path.suffix in KINDS and path.name != "CHANGELOG.md"),
    *(
        path
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in KINDS and "__pycache__" not in path.parts
    ),
]
PROSE = re.compile(r'(?s:""".*?""")|#.*')
PATH = re.compile(rf"(?<![\w/.-])(?:{'|'.join(FOLDERS)})/[\w./*-]*[\w*]")
COMMAND = re.compile(r"python -m ((?:benchmarks|tools|suffice)[\w.]*\w)")
NAME = re.compile(r"(?<![\w./-])((?:suffice\.[a-z_]+|benchmarks|tools)\.[a-z_]+(?:\.\w+)*)")


def words_of(path: Path) -> str:
    """Return the prose of a file: of Python its docstrings and comments."""
    text = path.read_text("utf-8")
    return "\n".join(PROSE.findall(text)) if path.suffix == ".py" else text


def missing(path: Path) -> Iterator[str]:
    """Yield what a file names and nobody would find."""
    words = words_of(path)
    for name in PATH.findall(words):
        if not (ROOT / name).exists() and not ("*" in name and any(ROOT.glob(name))):
            yield name
    for name in {*COMMAND.findall(words), *NAME.findall(words)}:
        if not name.endswith(".NAME") and not is_there(name):
            yield name


def is_there(name: str) -> bool:
    """Whether a dotted name is a module, or what stands in one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        base = (ROOT / "src" if parts[0] == "suffice" else ROOT).joinpath(*parts[:end])
        if base.is_dir() or base.with_suffix(".py").is_file():
            rest = parts[end:]
            return not rest or (end > 1 and defines(base, rest[0]))
    return False


def defines(base: Path, name: str) -> bool:
    file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    return re.search(rf"\b{name}\b", file.read_text("utf-8")) is not None


def test_what_a_file_names_is_there() -> None:
    unknown = {str(path.relative_to(ROOT)): names for path in FILES if (names := [*missing(path)])}
    assert not unknown


def test_a_name_of_nothing_is_seen() -> None:
    assert is_there("suffice.certify.bundle.load_bundle")
    assert not is_there("suffice.certify.bundle.nothing_of_the_kind")
    assert not is_there("benchmarks.compound_prices")
    assert importlib.util.find_spec("benchmarks.compound.prices")
