"""Drive real clients against a gateway before a scripted engine (`make test-clients`).

Each client is installed from npm or PyPI at a fixed version, given a base URL and a model, and has
to run a tool and tell its result. The table goes to docs/clients.md. Arguments are names of clients
(all without one). Exits with 1 where a client fails.

After `--responses` the gateway's engine speaks the Responses API: it is a second gateway, which has
the scripted engine behind it. No table is written then.
"""

import asyncio
import base64
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from catalog import CLIENTS, URL, Client  # noqa: E402
from gateway_support import LADDER, Site, site  # noqa: E402
from installed import install  # noqa: E402
from scripted import PICTURE, WORD, engine  # noqa: E402

PAGE = ROOT / "docs" / "clients.md"
MARK = "|--|--|--|--|--|\n"
RESPONSES = "--responses"
TIMEOUT_S = 600.0  # lm-eval takes minutes to start on a busy machine
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
# Models that OpenCode asks of OpenAI and Anthropic for the title of a conversation.
ALIASES = 'models = {"gpt-5.4-nano" = "small", "claude-haiku-4-5-20251001" = "small"}'
# Nothing but the gateway is asked: clients neither look for news nor count their users.
QUIET = {
    "DO_NOT_TRACK": "1",
    "NO_COLOR": "1",
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}


@asynccontextmanager
async def gateway(folder: Path, *, responses: bool) -> AsyncIterator[Site]:
    """Run the gateway that clients ask, in front of the scripted engine."""
    if not responses:
        async with site(folder, dialect="vllm", more=ALIASES) as here:
            here.upstream.script = engine
            yield here
        return
    behind_folder = folder / "behind"
    behind_folder.mkdir()
    async with site(behind_folder, dialect="vllm") as behind:
        behind.upstream.script = engine
        ladder = LADDER.replace('kind = "openai"', 'kind = "responses"')
        ladder = ladder.replace("{url}", f"{behind.url}/v1").replace("-model", "")
        async with site(folder, more=ALIASES, ladder=ladder) as here:
            yield here


async def drive(client: Client, folder: Path, *, responses: bool = False) -> str:
    """Install a client, run its commands, and return what went wrong; empty for nothing."""
    try:
        installed = install(client.packages, npm=client.npm, setup=client.setup)
    except subprocess.CalledProcessError as error:
        return f"not installed: {error.stderr[-400:]}"
    home = folder / "home"
    home.mkdir()
    (folder / PICTURE).write_bytes(PIXEL)
    async with gateway(folder, responses=responses) as here:
        env = {"PATH": os.environ["PATH"], "HOME": str(home), **QUIET}
        env |= client.settings(home, here.url)
        for position, words in enumerate(client.commands):
            filled = tuple(word.replace(URL, here.url) for word in words)
            needed = "" if position in client.silent else WORD
            problem = await run(installed.command(filled), env, here, needed=needed)
            bad = [row for row in here.rows() if row["status"] != "ok"]
            bad = [row for row in bad if row["error"] is None or row["error"] != client.refused]
            if problem or bad:
                return f"command {position + 1}: {bad} {problem}"
    return ""


async def run(command: list[str], env: dict[str, str], here: Site, *, needed: str) -> str:
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
    if process.returncode or needed not in output.decode():
        return f"exit {process.returncode}: {output.decode()[-3000:]}"
    return ""


def write_table(rows: dict[str, str]) -> None:
    """Replace the rows of these clients in the page."""
    head, _, before = PAGE.read_text("utf-8").partition(MARK)
    kept = {line.split("|")[1].strip(): line + "\n" for line in before.splitlines()}
    kept |= rows
    ordered = [kept[client.name] for client in CLIENTS if client.name in kept]
    PAGE.write_text(head + MARK + "".join(ordered), "utf-8")


async def main(names: list[str]) -> int:
    os.environ["STUB_KEY"] = "sk-upstream"
    responses = RESPONSES in names
    names = [name for name in names if name != RESPONSES]
    unknown = set(names) - {client.name.strip("`") for client in CLIENTS}
    if unknown:
        print(f"no client is called {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    rows: dict[str, str] = {}
    failed = 0
    for client in CLIENTS:
        if names and client.name.strip("`") not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            problem = await drive(client, Path(folder), responses=responses)
        failed += bool(problem)
        result = "failed" if problem else "works"
        print(f"{client.name}: {problem or result}", file=sys.stderr if problem else sys.stdout)
        version = client.packages[0].replace("==", "@").rpartition("@")[2]
        today = f"{datetime.now(UTC):%Y-%m-%d}"
        rows[client.name] = (
            f"| {client.name} | {version} | {client.driven} | {result} | {today} |\n"
        )
    if not responses:
        write_table(rows)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
