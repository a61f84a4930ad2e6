"""Programs from PyPI that need an environment of their own, beside the one that runs this."""

import subprocess
import venv
from pathlib import Path

from msgspec import Struct
from rich.console import Console

from benchmarks.gateway.bed import say

CACHE = Path.home() / ".cache" / "suffice"
INSTALL_S = 300.0
_READY = ".ready"  # written last: a folder without it was not finished


class Installed(Struct, frozen=True, kw_only=True):
    """An environment with a package; `version` is the package's."""

    folder: Path
    version: str

    def program(self, name: str) -> Path:
        """Return the path of a command of the environment."""
        return self.folder / "bin" / name


class Absent(Struct, frozen=True, kw_only=True):
    """Why there is no such environment."""

    reason: str


def environment(folder: Path, *, package: str, wanted: str) -> Installed | Absent:
    """Find a package in its environment, or make that from PyPI with the newest one.

    `wanted` is what pip is asked for: the package with its extras.
    """
    if not (folder / _READY).is_file():
        try:
            _install(folder, wanted)
        except (OSError, subprocess.SubprocessError) as error:
            return Absent(reason=f"{package} could not be installed into {folder}: {_said(error)}")
    code = f"from importlib.metadata import version; print(version({package!r}))"
    installer = subprocess.run(
        [str(folder / "bin" / "python"), "-c", code],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
    )
    if installer.returncode != 0:
        return Absent(reason=f"{folder} holds no {package}; remove it to try again")
    return Installed(folder=folder, version=installer.stdout.strip())


def _install(folder: Path, wanted: str) -> None:
    console = Console(stderr=True)
    with console.status(f"installing {wanted} from PyPI into {folder} (a minute or so)"):
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run(
            [*pip, "--disable-pip-version-check", wanted],
            check=True,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
        )
    (folder / _READY).touch()
    say(f"installed {wanted} into {folder}")


def _said(error: Exception) -> str:
    """Return the last line that an installer said, or the error itself."""
    lines = str(getattr(error, "stderr", None) or error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
