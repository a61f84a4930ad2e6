"""How modules import: absolutely, and cheaply. Who may import whom: `lint-imports`."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "suffice"
HEAVY = {"scipy", "sklearn", "wordllama", "xllamacpp", "aiohttp", "altair", "sqlalchemy", "torch"}


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def test_no_module_uses_relative_imports() -> None:
    assert [path for path in modules() if any(map(is_relative, ast.walk(tree(path))))] == []


def test_modules_stay_short() -> None:
    lines = {path: len(path.read_text("utf-8").splitlines()) for path in modules()}
    assert {path: count for path, count in lines.items() if count > 400} == {}


def tree(path: Path) -> ast.AST:
    return ast.parse(path.read_text("utf-8"))


def is_relative(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom) and node.level > 0


def test_importing_suffice_loads_nothing_heavy() -> None:
    code = "import suffice, sys; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = set(run_python(code).split())
    assert not loaded & HEAVY


def test_asking_for_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from suffice.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print('MODULES', *sorted({m.split('.')[0] for m in sys.modules}))"
    )
    loaded = set(run_python(code).split("MODULES")[1].split())
    assert not loaded & (HEAVY | {"numpy"})


def test_a_report_on_a_ledger_loads_only_the_ledger(tmp_path: Path) -> None:
    """Of the two seconds that it may take on millions of rows, imports take most."""
    code = (
        "import sys; from suffice.cli.main import main; from suffice.ledger import Ledger\n"
        "Ledger.open(sys.argv[1]).close()\n"
        "try: main(['report', sys.argv[1], '--json'])\n"
        "except SystemExit: pass\n"
        "print('MODULES', *sorted({m.split('.')[0] for m in sys.modules}), *sys.modules)"
    )
    loaded = set(run_python(code, str(tmp_path / "books.db")).split("MODULES")[1].split())
    assert not loaded & (
        HEAVY - {"sqlalchemy"} | {"numpy", "rich", "sqlalchemy.dialects.postgresql"}
    )


def test_a_gateway_worker_starts_without_scipys_statistics() -> None:
    code = "import suffice.gateway.worker, sys; print(*sorted(sys.modules))"
    assert "scipy.stats" not in run_python(code).split()


def run_python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout


def test_the_package_offers_what_it_names_and_loads_it_late() -> None:
    code = (
        "import sys, suffice\n"
        "print(len([m for m in sys.modules if m.startswith('suffice.')]))\n"
        "for name in suffice.__all__: assert getattr(suffice, name) is not None, name"
    )
    assert run_python(code).split() == ["0"]


@pytest.mark.parametrize("module", ["suffice.certify.bundling", "suffice.cli.main"])
def test_certifying_waits_for_no_database_and_no_client(module: str) -> None:
    heavy = "{'sqlalchemy', 'aiohttp', 'sklearn', 'typer.rich_utils'}"
    code = f"import sys, {module}\nprint({heavy} & sys.modules.keys())"
    assert run_python(code).strip() == "set()"


def test_importing_the_package_takes_less_than_50_ms() -> None:
    code = "import time; b = time.process_time(); import suffice; print(time.process_time() - b)"
    assert min(float(run_python(code)) for _ in range(5)) < 0.05
