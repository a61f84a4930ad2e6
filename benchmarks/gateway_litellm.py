"""The LiteLLM proxy, newest from PyPI, in an environment of its own that is made when absent."""

import os
import secrets
import subprocess
import sys
import venv
from pathlib import Path

from msgspec import Struct
from rich.console import Console

from benchmarks.gateway_processes import Command

DEFAULT_FOLDER = Path.home() / ".cache" / "suffice" / "litellm"
INSTALL_S = 300.0
_READY = ".ready"  # written last: a folder without it was not finished

_CONFIG = """\
model_list:
  - model_name: {model}
    litellm_params:
      model: openai/{model}
      api_base: http://127.0.0.1:{upstream}/v1
      api_key: sk-none
"""


class LiteLLM(Struct, frozen=True, kw_only=True):
    """An installed proxy; `program` is its command."""

    program: Path
    version: str


class Absent(Struct, frozen=True, kw_only=True):
    """Why there is no LiteLLM to compare with."""

    reason: str


def installed(folder: Path) -> LiteLLM | Absent:
    """Find LiteLLM in its environment, or make that from PyPI; says what it does on stderr."""
    python = folder / "bin" / "python"
    if not (folder / _READY).is_file():
        try:
            _install(folder, python)
        except (OSError, subprocess.SubprocessError) as error:
            return Absent(reason=f"LiteLLM could not be installed into {folder}: {_said(error)}")
    version = subprocess.run(
        [python, "-c", "from importlib.metadata import version; print(version('litellm'))"],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
    )
    if version.returncode != 0:
        return Absent(reason=f"the environment {folder} holds no LiteLLM; remove it to try again")
    return LiteLLM(program=folder / "bin" / "litellm", version=version.stdout.strip())


def serve(
    litellm: LiteLLM, *, folder: Path, port: int, upstream: int, model: str
) -> tuple[Command, str]:
    """Return how to start the proxy with one worker and no database, and its key.

    It starts in an empty folder of its own, because it imports what lies two folders above.
    """
    home = folder / "litellm" / "a" / "b"
    home.mkdir(parents=True, exist_ok=True)
    config = home / "config.yaml"
    config.write_text(_CONFIG.format(model=model, upstream=upstream), "utf-8")
    key = f"sk-{secrets.token_hex(24)}"
    options = ("--host", "127.0.0.1", "--port", str(port), "--num_workers", "1")
    command = Command(
        name="litellm",
        arguments=(str(litellm.program), "--config", str(config), *options),
        port=port,
        ready="/health/liveliness",
        folder=home,
        environment={
            "LITELLM_MASTER_KEY": key,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "PATH": f"{litellm.program.parent}{os.pathsep}{os.environ['PATH']}",
        },
    )
    return command, key


def _install(folder: Path, python: Path) -> None:
    console = Console(stderr=True)
    with console.status(f"installing LiteLLM from PyPI into {folder} (about a minute, 750 MB)"):
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run(
            [
                python,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "litellm[proxy]",
            ],
            check=True,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
        )
    (folder / _READY).touch()
    print(f"installed LiteLLM into {folder}", file=sys.stderr)


def _said(error: Exception) -> str:
    """Return the last line that an installer said, or the error itself."""
    lines = str(getattr(error, "stderr", None) or error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
