"""README and docs cannot drift: their code runs, and every flag, key and error stands in them."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from tools.docs import commands, renew
from tools.house import read_floors

from suffice import config, errors
from suffice.compound.workload import CompoundWorkload, DeploymentConfig, LeverConfig, PartConfig
from suffice.types import Rung

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)


def blocks(page: Path, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(page.read_text("utf-8")) if kind == language]


def pages_with(language: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, language)]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def marked(pages: list[Path]) -> list[Any]:
    """Mark the pages whose blocks certify or fit something as slow."""
    slow = {"docs/library.md", "docs/latent.md"}
    return [
        pytest.param(page, id=name(page), marks=[pytest.mark.slow] if name(page) in slow else [])
        for page in pages
    ]


@pytest.mark.parametrize("page", marked(pages_with("python")))
def test_python_blocks_run_in_order(page: Path, tmp_path: Path) -> None:
    code = "\n".join(blocks(page, "python"))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", marked(pages_with("sh")))
def test_shell_blocks_run_in_order(page: Path, tmp_path: Path) -> None:
    for line in "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines():
        command = shlex.split(line, comments=True)
        if command:
            assert command[0] == "suffice", f"only suffice runs here: {line}"
            command[0] = str(Path(sys.executable).with_name("suffice"))
            done = subprocess.run(
                command, check=False, cwd=tmp_path, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 150


@pytest.mark.parametrize(
    "struct",
    [
        config.Config,
        config.EngineConfig,
        Rung,
        config.PriceConfig,
        config.CheckConfig,
        config.Targets,
        config.GatewayConfig,
    ],
)
def test_every_configuration_key_is_documented(struct: type[Struct]) -> None:
    text = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    for key in struct.__struct_fields__:
        assert f"`{key}`" in text, key


@pytest.mark.parametrize("page", ["commands.md", "configuration.md"])
def test_tables_made_from_the_code_are_current(page: str) -> None:
    assert not renew(ROOT / "docs" / page, check=True), "run: python -m tools.docs"


@pytest.mark.parametrize("struct", [CompoundWorkload, PartConfig, LeverConfig, DeploymentConfig])
def test_every_key_of_a_workload_file_is_shown(struct: type[Struct]) -> None:
    text = "\n".join(blocks(ROOT / "docs" / "compound.md", "toml"))
    for key in struct.__struct_fields__:
        assert re.search(rf"^\[?{key}( =|\.)", text, re.M), key


def test_every_error_is_documented_with_its_exit_status() -> None:
    text = (ROOT / "docs" / "errors.md").read_text("utf-8")
    for error in vars(errors).values():
        if isinstance(error, type) and issubclass(error, errors.SufficeError):
            assert f"| `{error.__name__}` | {error.exit_status} |" in text


@pytest.mark.parametrize(("path", "command"), list(commands()), ids=lambda value: str(value)[:20])
def test_every_command_and_flag_is_documented(path: str, command: object) -> None:
    text = (ROOT / "docs" / "commands.md").read_text("utf-8")
    section = re.search(rf"^## `{path}`\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert section, path
    for parameter in command.params:
        for option in parameter.opts:
            if option.startswith("--") and option != "--help":
                assert f"`{option}`" in section[1], f"{path} {option}"


def test_the_tour_shows_every_room_on_its_floor() -> None:
    text = (ROOT / "docs" / "tour.md").read_text("utf-8")
    shown = re.findall(r"^\| (\d+) \| `([\w/]+?)(?:\.py|/)` \|", text, re.M)
    floors = {(number, room) for number, rooms in enumerate(read_floors(), 1) for room in rooms}
    assert {(int(number), room) for number, room in shown} == floors


def test_every_file_that_the_tour_names_exists() -> None:
    text = (ROOT / "docs" / "tour.md").read_text("utf-8")
    for path in re.findall(r"`([\w/]+(?:\.py|/))`", text):
        assert any((root / path).exists() for root in (ROOT, ROOT / "src" / "suffice")), path
