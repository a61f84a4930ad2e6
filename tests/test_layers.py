"""Who may import whom (the import rule of docs/tour.md), and that importing stays cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "suffice"
BASE = {"types", "units", "errors"}
HEAVY = {"scipy", "sklearn", "wordllama", "xllamacpp", "aiohttp", "altair", "sqlalchemy", "torch"}
JOINERS = {
    "gateway",
    "__main__",
    "bench",
    "report",
    "cli",
    "commands",
    "compound_live",
    "batch",
    "demo",
    "terminal",
    "latent_commands",
    "streaming",
    "early_stopping",
}
SEALED_OFF = {"policy", "meter", "ledger", "engines"}


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def part_of(path: Path) -> str:
    """Name the top-level part that a file belongs to: `policy` for policy.py and policy/fit.py."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def parts_imported(path: Path) -> set[str]:
    """Name the parts of suffice that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module]
            if node.module == "suffice":
                names = [f"suffice.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("suffice.")}
    return found - {"__version__"}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_follow_the_rule(path: Path) -> None:
    part = part_of(path)
    others = parts_imported(path) - {part}
    if part in BASE:
        assert not others - BASE, f"{part} may import nothing of ours"
        assert part == "types" or not others, f"{part} may import nothing of ours"
    if part in {"guarantee", "features"}:
        assert others <= BASE
    if path == SOURCE / "silicon" / "roofline.py":
        assert parts_imported(path) <= BASE | {"silicon"}
    if part in SEALED_OFF:
        assert not others & (SEALED_OFF - {part}), f"{part} must not see its siblings"
    if part not in JOINERS | {"pipeline"}:
        assert not others & (JOINERS | {"pipeline"}), f"only {sorted(JOINERS)} may see pipeline"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_no_module_uses_relative_imports(path: Path) -> None:
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    assert not [n for n in nodes if isinstance(n, ast.ImportFrom) and n.level > 0]


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_modules_stay_short(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 400


def test_importing_suffice_loads_nothing_heavy() -> None:
    code = "import suffice, sys; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = set(run_python(code).split())
    assert not loaded & HEAVY


def test_asking_for_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from suffice.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print('MODULES', *sorted({m.split('.')[0] for m in sys.modules}))"
    )
    loaded = set(run_python(code).split("MODULES")[1].split())
    assert not loaded & (HEAVY | {"numpy"})


def run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    ).stdout
