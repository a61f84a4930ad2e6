"""A model in this process: llama.cpp through xllamacpp, with no server to start and no download."""

import asyncio
import hashlib
import importlib.util
import os
import secrets
import tomllib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from suffice.config import EngineConfig, nearest
from suffice.engines.base import Engine
from suffice.engines.chunk import Chunk, Relay
from suffice.engines.openai import OpenAIEngine
from suffice.errors import ConfigError, EngineUnusable, MissingExtra
from suffice.types import JSON, Completion, Request, Rung, Usage

if TYPE_CHECKING:
    import aiohttp


class EmbeddedEngine(Engine):
    """A GGUF model in this process, by default the small reasoning model that ships with suffice.

    The model is loaded at the first request. `context_tokens` is shared out evenly among
    `parallel` requests. Raises ConfigError for a `model_path` that is no file, and MissingExtra
    where the package of a packaged model is not installed.
    """

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._model = _model(config)
        self._starting = asyncio.Lock()
        self._served: _Served | None = None

    async def complete(self, request: Request, rung: Rung) -> Completion:
        """Answer in one piece."""
        return await (await self._inner()).complete(request, rung)

    async def stream(
        self, request: Request, rung: Rung
    ) -> AsyncGenerator[Chunk | Completion, None]:
        """Yield chunks as they arrive; leaving early stops the decoding."""
        inner = await self._inner()
        async with aclosing(inner.stream(request, rung)) as items:
            async for item in items:
                yield item

    def relay(self, request: Request, rung: Rung) -> Relay:
        """Hand on llama.cpp's events as they are."""
        nothing = Usage()
        relays: list[Relay] = []

        async def items() -> AsyncGenerator[bytes | Completion, None]:
            relays.append((await self._inner()).relay(request, rung))
            async with aclosing(relays[0].items) as stream:
                async for item in stream:
                    yield item

        return Relay(items=items(), used=lambda: relays[0].used() if relays else nothing)

    async def extend(self, request: Request, rung: Rung, *, written: str) -> Completion:
        """Go on from the start of an answer."""
        return await (await self._inner()).extend(request, rung, written=written)

    @asynccontextmanager
    async def forward(self, path: str, body: JSON) -> AsyncIterator["aiohttp.ClientResponse"]:
        """Post to another path of llama.cpp's server."""
        async with (await self._inner()).forward(path, body) as response:
            yield response

    async def close(self) -> None:
        """Unload the model; a later call loads it again."""
        served, self._served = self._served, None
        if served is not None:
            await served.engine.close()

    async def _inner(self) -> OpenAIEngine:
        async with self._starting:
            if self._served is None:
                self._served = await asyncio.to_thread(_serve, self._model, self._config)
            return self._served.engine


class _Model(Struct, frozen=True, kw_only=True):
    """A model file; where it came in a package, what its SHA-256 has to be and how to get it."""

    path: Path
    sha256: str | None = None
    install: str = ""


class _Served(Struct, frozen=True, kw_only=True):
    """A running llama.cpp server, which stops when this is dropped, and the engine that asks it."""

    server: Any
    engine: OpenAIEngine


def packaged_models() -> tuple[str, ...]:
    """Name the models that come in packages, the default first."""
    return tuple(row["name"] for row in _packages())


def packaged_path(name: str) -> Path:
    """Find the file of a packaged model; raises ConfigError, or MissingExtra without it."""
    return _packaged(name).path


def _packages() -> list[dict[str, str]]:
    text = (files("suffice") / "models" / "packaged.toml").read_text("utf-8")
    rows: list[dict[str, str]] = tomllib.loads(text)["model"]
    return rows


def _model(config: EngineConfig) -> _Model:
    if config.model_path is None:
        return _packaged(config.packaged or packaged_models()[0])
    if config.packaged is not None:
        raise ConfigError("model_path and packaged name two models", hint="leave one of them out")
    if not Path(config.model_path).is_file():
        raise ConfigError(
            f"model_path: there is no file {config.model_path}", hint="give the path of a GGUF"
        )
    return _Model(path=Path(config.model_path))


def _packaged(name: str) -> _Model:
    """Find a model by the path of its package; importing it may import an engine too."""
    row = next((row for row in _packages() if row["name"] == name), None)
    if row is None:
        raise ConfigError(f"packaged: no model {name!r}", hint=nearest(name, packaged_models()))
    spec = importlib.util.find_spec(row["package"])
    folders = spec.submodule_search_locations if spec else None
    path = Path(folders[0]) / row["file"] if folders else None
    if path is None or not path.is_file():
        raise MissingExtra(
            f"the packaged model {name} is not installed",
            hint=f"{row['install']}, or set model_path to a GGUF file",
        )
    return _Model(path=path, sha256=row["sha256"], install=row["install"])


def _serve(model: _Model, config: EngineConfig) -> _Served:
    """Load a model and serve it on a free port of the loopback, behind a key of this process."""
    import xllamacpp

    _check_file(model)
    key = secrets.token_urlsafe()
    params = xllamacpp.CommonParams()
    params.model.path = str(model.path)
    params.model_alias = {model.path.stem}
    params.hostnames, params.port, params.api_keys = ["127.0.0.1"], 0, [key]
    params.n_ctx, params.n_parallel = config.context_tokens, config.parallel
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = _threads()
    params.fit_params, params.ui, params.verbosity = False, False, 0
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        raise EngineUnusable(
            f"llama.cpp cannot load {model.path}",
            hint="is it a whole GGUF file, and is there memory for it and for context_tokens?",
        ) from error
    loopback = msgspec.structs.replace(
        config, kind="openai", url=f"{server.listening_address}/v1", dialect="llamacpp"
    )
    return _Served(server=server, engine=OpenAIEngine(loopback, api_key=key))


def _check_file(model: _Model) -> None:
    if model.sha256 is None:
        return
    with model.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != model.sha256:
        raise EngineUnusable(
            f"the packaged model {model.path.name} is damaged: SHA-256 {digest}",
            hint=f"{model.install} --force-reinstall",
        )


def _threads() -> int:
    """All cores but one: with as many threads as cores, any other busy process halves the speed."""
    return max(1, len(os.sched_getaffinity(0)) - 1)
