"""Drive real command-line clients against a gateway before a scripted engine (`make test-clients`).

Each client is installed from npm at a fixed version, given a base URL and a model, and has to run a
tool and tell its result. The table goes to docs/clients.md. Exits with 1 where a client fails.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from gateway_support import DONE, Call, Site, chunk, completion, site, usage_event  # noqa: E402

PAGE = ROOT / "docs" / "clients.md"
WORD = "river-rhine"
TIMEOUT_S = 120.0
_CALLS = {  # the tool by which a client runs a command, with the arguments for it
    "Bash": '{"command": "echo river-rhine", "description": "say it"}',
    "exec_command": '{"cmd": "echo river-rhine"}',
}


@dataclass(frozen=True, kw_only=True)
class Client:
    """A client: where it comes from, how it is told of the gateway, and what is run, in order."""

    name: str
    package: str
    version: str
    setup: str
    settings: Callable[[Path, str], dict[str, str]]
    commands: tuple[tuple[str, ...], ...]
    driven: str


def claude_settings(_home: Path, url: str) -> dict[str, str]:
    return {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "any",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "IS_SANDBOX": "1",
    }


def codex_settings(home: Path, url: str) -> dict[str, str]:
    (home / ".codex").mkdir()
    provider = f'name = "suffice"\nbase_url = "{url}/v1"\nwire_api = "responses"\nenv_key = "KEY"\n'
    text = f'model_provider = "suffice"\n[model_providers.suffice]\n{provider}'
    (home / ".codex" / "config.toml").write_text(text)
    return {"KEY": "any"}


CLIENTS = (
    Client(
        name="Claude Code",
        package="@anthropic-ai/claude-code",
        version="2.1.197",
        setup="node_modules/@anthropic-ai/claude-code/install.cjs",
        settings=claude_settings,
        commands=(
            ("claude", "-p", "Say the river.", "--model", "suffice", "--allowedTools", "Bash"),
            ("claude", "-p", "Again.", "--continue", "--model", "suffice"),
        ),
        driven="Messages, streamed: a tool loop, then `--continue`",
    ),
    Client(
        name="Codex",
        package="@openai/codex",
        version="0.171.0",
        setup="",
        settings=codex_settings,
        commands=(
            (
                *("codex", "exec", "--skip-git-repo-check", "--sandbox", "danger-full-access"),
                *("--model", "suffice", "Say the river."),
            ),
        ),
        driven="Responses, streamed: a tool loop",
    ),
)


async def engine(call: Call) -> None:
    """Call the client's tool once, and then tell what it returned."""
    tools = [tool["function"]["name"] for tool in call.body.get("tools", ())]
    results = [m["content"] for m in call.body["messages"] if m["role"] == "tool"]
    name = next((name for name in _CALLS if name in tools), None)
    text = f"The tool said {results[-1]}" if results else "Nothing."
    if not call.body["stream"]:
        await call.reply(completion(text))
        return
    await call.events()
    if name is not None and not results:
        function = {"name": name, "arguments": _CALLS[name]}
        part = {"index": 0, "id": "call_1", "type": "function", "function": function}
        await call.write(chunk(tool_calls=[part]) + chunk(finish="tool_calls"))
    else:
        await call.write(chunk(text) + chunk(finish="stop"))
    await call.write(usage_event(9000, 25) + DONE)


async def drive(client: Client, folder: Path) -> str:
    """Install a client, run its commands, and return what went wrong; empty for nothing."""
    package = f"{client.package}@{client.version}"
    npm = ("npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), package)
    subprocess.run(npm, check=True, capture_output=True)
    if client.setup:
        subprocess.run(("node", client.setup), check=True, capture_output=True, cwd=folder)
    home = folder / "home"
    home.mkdir()
    async with site(folder, dialect="vllm") as here:
        here.upstream.script = engine
        settings = client.settings(home, here.url)
        env = {"PATH": os.environ["PATH"], "HOME": str(home)} | settings
        for program, *arguments in client.commands:
            command = (str(folder / "node_modules" / ".bin" / program), *arguments)
            problem = await run(command, env, here)
            if problem:
                return problem
    return ""


async def run(command: tuple[str, ...], env: dict[str, str], here: Site) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        env=env,
        cwd=here.folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    except TimeoutError:
        process.kill()
        return f"no end after {TIMEOUT_S:g} s"
    bad = [row for row in here.rows() if row["status"] != "ok"]
    if process.returncode or WORD not in output.decode() or bad:
        return f"exit {process.returncode}, {bad}: {output.decode()[-400:]}"
    return ""


async def main() -> int:
    os.environ["STUB_KEY"] = "sk-upstream"
    rows: list[str] = []
    failures: dict[str, Any] = {}
    for client in CLIENTS:
        with tempfile.TemporaryDirectory() as folder:
            problem = await drive(client, Path(folder))
        failures |= {client.name: problem} if problem else {}
        result = "failed" if problem else "works"
        today = f"{datetime.now(UTC):%Y-%m-%d}"
        rows.append(
            f"| {client.name} | {client.version} | {client.driven} | {result} | {today} |\n"
        )
    head, mark, _ = PAGE.read_text("utf-8").partition("|--|--|--|--|--|\n")
    PAGE.write_text(head + mark + "".join(rows), "utf-8")
    for name, problem in failures.items():
        print(f"{name}: {problem}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
