"""Clients from npm and PyPI, each installed once into its own folder outside the repository."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"


def cache_folder() -> Path:
    """Return the folder for installed clients: SUFFICE_CLIENTS, or one in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("SUFFICE_CLIENTS") or Path(cache) / "suffice-clients")


@dataclass(frozen=True, kw_only=True)
class Installed:
    """An installed client: its folder, and whether it came from npm."""

    folder: Path
    npm: bool

    def command(self, words: tuple[str, ...]) -> list[str]:
        """Return a command with its program's full path; `*.py` and `*.mjs` are our programs."""
        program, *arguments = words
        if program.endswith(".py"):
            return [str(self.folder / "bin" / "python"), str(PROGRAMS / program), *arguments]
        if program.endswith(".mjs"):  # Node looks for packages beside the file
            shutil.copy(PROGRAMS / program, self.folder / program)
            return ["node", str(self.folder / program), *arguments]
        bin_folder = self.folder / "node_modules" / ".bin" if self.npm else self.folder / "bin"
        return [str(bin_folder / program), *arguments]


def install(packages: tuple[str, ...], *, npm: bool, setup: str = "") -> Installed:
    """Install packages at fixed versions; what is there already is used as it is.

    `setup` is a script of the package that has to run once. Raises CalledProcessError.
    """
    name = re.sub(r"\[.*\]", "", packages[0])
    name = re.sub(r"[/@=]+", "-", name).strip("-")
    folder = cache_folder() / name
    stamp = folder / ".installed"
    if not stamp.exists() or stamp.read_text("utf-8") != " ".join(packages):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if npm:
            head = ("npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder))
            _run((*head, *packages))
            if setup:
                _run(("node", str(folder / setup)))
        else:
            python = str(folder / "bin" / "python")
            _run((sys.executable, "-m", "venv", str(folder)))
            uv = shutil.which("uv")  # minutes faster, where it is there
            pip = (
                (uv, "pip", "install", "--python", python)
                if uv
                else (python, "-m", "pip", "install")
            )
            _run((*pip, "-q", *packages))
        stamp.write_text(" ".join(packages), "utf-8")
    return Installed(folder=folder, npm=npm)


def _run(command: tuple[str, ...]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
