"""Have Codex write a file by a custom tool, before an engine that knows such tools and one without.

`python tests/clients/patches.py` asks as each of two models that Codex knows: the tool is
`apply_patch` of the body for one, and for the other `exec`, which an item offers in a namespace.
The file must be there as it was asked for. Prints one line for each; exits with 1 where one fails.
"""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from aiohttp import web  # noqa: E402
from aiohttp.test_utils import TestServer  # noqa: E402
from catalog import CLIENTS, CODEX  # noqa: E402
from drive import QUIET, run  # noqa: E402
from gateway_support import DONE, LADDER, Call, Site, chunk, site, usage_event  # noqa: E402
from installed import install  # noqa: E402
from response_server import CUSTOM_CALL, PATCH, ResponseServer, text_item  # noqa: E402

JSON = dict[str, Any]
DONE_TEXT, FILE, LINE = "It is written.", "café.md", '# A "quoted" \\ line\n'
SCRIPT = f"text(await tools.apply_patch({json.dumps(PATCH)}));"
CALLS = {  # by the model that Codex asks for: the tool's name at the engine, and what it is given
    "gpt-5.5": ("apply_patch", PATCH),
    "gpt-5.6-terra": ("functions__exec", SCRIPT),
}
MODELS = "models = {" + ", ".join(f'"{name}" = "big"' for name in CALLS) + "}"


class PatchingServer(ResponseServer):
    """Calls a custom tool, and ends the turn once its result has come."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__()
        self._call = CUSTOM_CALL | {"name": name, "input": text}

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        items = (await request.json())["input"]
        done = any(item["type"] == "custom_tool_call_output" for item in items)
        self.output = [text_item(DONE_TEXT) if done else self._call]
        return await super()._answer(request)


@asynccontextmanager
async def gateway(folder: Path, name: str, text: str, *, custom: bool) -> AsyncIterator[Site]:
    """Run a gateway before an engine that calls the tool; not `custom`, it has functions alone."""

    async def chat(call: Call) -> None:
        arguments = json.dumps({"input": text})
        function = {"name": name, "arguments": arguments}
        part = {"index": 0, "id": "call_2", "type": "function", "function": function}
        done = any(message["role"] == "tool" for message in call.body["messages"])
        delta: JSON = {"content": DONE_TEXT} if done else {"tool_calls": [part]}
        await call.events()
        await call.write(chunk(role="assistant", **delta))
        await call.write(chunk(finish="stop" if done else "tool_calls") + usage_event() + DONE)

    if not custom:
        async with site(folder, more=MODELS) as here:
            here.upstream.script = chat
            yield here
        return
    async with TestServer(PatchingServer(name, text).app()) as http:
        ladder = LADDER.replace('kind = "openai"', 'kind = "responses"')
        ladder = ladder.replace("{url}", f"http://127.0.0.1:{http.port}/v1")
        async with site(folder, more=MODELS, ladder=ladder) as here:
            yield here


async def patch(model: str, folder: Path, *, custom: bool) -> str:
    """Have Codex write the file as one model, and return what went wrong; empty for nothing."""
    client = next(client for client in CLIENTS if client.name == "Codex")
    installed = install(client.packages, npm=client.npm, setup=client.setup)
    home = folder / "home"
    home.mkdir()
    async with gateway(folder, *CALLS[model], custom=custom) as here:
        env = {"PATH": os.environ["PATH"], "HOME": str(home), **QUIET}
        env |= client.settings(home, here.url)
        command = installed.command((*CODEX, "--model", model, "Write the file."))
        problem = await run(command, env, here, needed=DONE_TEXT)
        bad = [row for row in here.rows() if row["status"] != "ok"]
    written = (folder / FILE).read_text("utf-8") if (folder / FILE).exists() else None
    if problem or bad or written != LINE:
        return f"{FILE} holds {written!r}; {bad} {problem}"
    return ""


async def main() -> int:
    os.environ["STUB_KEY"] = "sk-upstream"
    failed = 0
    for model in CALLS:
        for custom in (True, False):
            with tempfile.TemporaryDirectory() as folder:
                problem = await patch(model, Path(folder), custom=custom)
            engine = "custom tools" if custom else "functions alone"
            print(f"{model}, engine with {engine}: {problem or 'works'}")
            failed += bool(problem)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
