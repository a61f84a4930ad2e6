"""Going on from the start of an answer, over the wires of vLLM and llama.cpp."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from suffice.config import EngineConfig
from suffice.engines.openai import OpenAIEngine
from suffice.errors import EngineError, EngineProtocolError
from suffice.types import JSON, Effort, Finish, Request, Rung

ASKED = Request(request_id="r", messages=({"role": "user", "content": "Two and two?"},))
RUNG = Rung(
    name="high",
    engine="e",
    model="m",
    effort=Effort.HIGH,
    max_output_tokens=7,
    params={"temperature": 0, "logprobs": True, "tools": []},
)


class Server:
    """Answers a raw completion with `reply`, and remembers what it was sent to which path."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, JSON]] = []
        self.reply: JSON = {
            "choices": [
                {
                    "text": "4",
                    "finish_reason": "stop",
                    "logprobs": {"token_logprobs": [-0.5, None]},
                }
            ],
            "usage": {"prompt_tokens": 5, "completion_tokens": 2},
        }

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/tokenize", self._answer)
        app.router.add_post("/v1/completions", self._answer)
        return app

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.sent.append((request.path, body))
        if request.path == "/tokenize":
            return web.json_response({"tokens": [1, 2] if "messages" in body else [3]})
        return web.json_response(self.reply)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[tuple[Server, str]]:
    made = Server()
    async with TestServer(made.app()) as running:
        yield made, f"http://127.0.0.1:{running.port}/v1"


def engine(url: str, dialect: str) -> OpenAIEngine:
    config = EngineConfig(kind="openai", url=url, dialect=dialect, max_retries=0)  # type: ignore[arg-type]
    return OpenAIEngine(config)


async def test_vllm_gets_the_tokens_of_the_chat_and_of_the_start(
    server: tuple[Server, str],
) -> None:
    made, url = server
    async with engine(url, "vllm") as vllm:
        found = await vllm.extend(ASKED, RUNG, written="<think>hm</think>")
    (_, chat), (_, start), (path, raw) = made.sent
    assert chat["chat_template_kwargs"] == {"reasoning_effort": "high", "enable_thinking": True}
    assert chat["add_generation_prompt"] is True
    assert start["prompt"] == "<think>hm</think>"
    assert path == "/v1/completions"
    assert raw == {
        "model": "m",
        "prompt": [1, 2, 3],
        "temperature": 0,
        "max_tokens": 7,
        "logprobs": 1,
        "stream": False,
    }
    assert (found.text, found.finish, found.logprobs) == ("4", Finish.STOP, (-0.5,))


async def test_a_server_without_the_route_cannot_go_on(server: tuple[Server, str]) -> None:
    async with engine(server[1], "llamacpp") as other:
        with pytest.raises(EngineError, match="cannot go on") as caught:
            await other.extend(ASKED, RUNG, written="")
    assert "llamacpp or vllm" in (caught.value.hint or "")


@pytest.mark.parametrize("reply", [{}, {"choices": []}, {"choices": [{"text": "4"}]}])
async def test_what_is_no_completion_is_an_error(server: tuple[Server, str], reply: JSON) -> None:
    made, url = server
    made.reply = reply
    async with engine(url, "vllm") as vllm:
        with pytest.raises(EngineProtocolError, match="no completion"):
            await vllm.extend(ASKED, RUNG, written="")
