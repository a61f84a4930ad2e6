"""The LiteLLM proxy as it is benchmarked: one worker, no database, and only errors logged."""

import os
import secrets
from pathlib import Path

from benchmarks.gateway.env import CACHE, Absent, Installed, environment
from benchmarks.gateway.processes import Command

DEFAULT_FOLDER = CACHE / "litellm"

_CONFIG = """\
model_list:
  - model_name: {model}
    litellm_params:
      model: openai/{model}
      api_base: http://127.0.0.1:{upstream}/v1
      api_key: sk-none
"""


def installed(folder: Path) -> Installed | Absent:
    """Find LiteLLM in its environment, or make that (750 MB)."""
    return environment(folder, package="litellm", wanted="litellm[proxy]")


def serve(
    litellm: Installed, *, folder: Path, port: int, upstream: int, model: str
) -> tuple[Command, str]:
    """Return how to start the proxy, and its key.

    It starts in an empty folder of its own, because it imports what lies two folders above.
    """
    home = folder / "litellm" / "a" / "b"
    home.mkdir(parents=True, exist_ok=True)
    config = home / "config.yaml"
    config.write_text(_CONFIG.format(model=model, upstream=upstream), "utf-8")
    key = f"sk-{secrets.token_hex(24)}"
    program = litellm.program("litellm")
    options = ("--host", "127.0.0.1", "--port", str(port), "--num_workers", "1")
    command = Command(
        name="litellm",
        arguments=(str(program), "--config", str(config), *options),
        port=port,
        ready="/health/liveliness",
        folder=home,
        environment={
            "LITELLM_MASTER_KEY": key,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": "",
        },
    )
    return command, key
