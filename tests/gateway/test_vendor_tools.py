"""What a vendor's own tools did, and what they cite, for clients of every API."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from charging_server import ChargingServer
from gateway_support import CHAT, CLAUDE, DONE, HEAD, Call, Site, chunk, completion, event, site

JSON = dict[str, Any]
SEARCH = {"type": "server_tool_use", "id": "st1", "name": "web_search", "input": {"query": "news"}}
FOUND = {
    "type": "web_search_tool_result",
    "tool_use_id": "st1",
    "content": [{"type": "web_search_result", "url": "https://a.example", "title": "A"}],
}
PAGE = {"type": "web_search_result_location", "url": "https://a.example", "title": None}
LINE = {"type": "char_location", "cited_text": "mild", "document_index": 0}
CONTENT: list[JSON] = [
    {"type": "text", "text": "Let me look. "},
    SEARCH,
    FOUND,
    {"type": "text", "text": "Mild", "citations": [PAGE, LINE]},
    {"type": "text", "text": " today."},
]


@pytest.fixture
def vendor() -> ChargingServer:
    server = ChargingServer()
    server.content = CONTENT
    return server


@pytest.fixture
async def here(tmp_path: Path, vendor: ChargingServer) -> AsyncIterator[Site]:
    async with TestServer(vendor.app()) as served:
        url = str(served.make_url("/v1"))
        async with site(tmp_path, more=CLAUDE.replace("{url}", url)) as made:
            yield made


async def chat(here: Site, *, stream: bool, **fields: Any) -> JSON:
    """Ask, and return the message, put together from its chunks where it is streamed."""
    reply = await here.chat(model="claude", stream=stream, **fields)
    if not stream:
        return dict(reply.choices[0].message.model_dump())
    message: JSON = {"content": ""}
    async for part in reply:
        for choice in part.choices:
            for name, value in choice.delta.model_dump(exclude_none=True).items():
                message[name] = message[name] + value if name in message else value
    return message


@pytest.mark.parametrize("stream", [False, True])
async def test_a_chat_client_gets_citations_and_what_tools_did(here: Site, stream: bool) -> None:
    message = await chat(here, stream=stream)
    assert message["content"] == "Let me look. Mild today."
    [note] = message["annotations"]
    page = note["url_citation"]
    assert (note["type"], page["url"], page["title"]) == (
        "url_citation",
        *["https://a.example"] * 2,
    )
    assert message["content"][page["start_index"] : page["end_index"]] == "Mild"
    assert message["server_blocks"] == [SEARCH, FOUND]
    assert message["citations"] == [LINE | {"start_index": 13, "end_index": 17}]


async def test_what_tools_did_goes_back_to_the_engine(here: Site, vendor: ChargingServer) -> None:
    message = await chat(here, stream=False)
    turns = [{"role": "user", "content": "Weather?"}, {**message, "role": "assistant"}]
    turns.append({"role": "user", "content": "And now?"})
    await here.chat(model="claude", messages=turns)
    assert vendor.sent[-1]["messages"][1]["content"][:2] == [SEARCH, FOUND]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_has_the_search_and_the_citations(
    here: Site, vendor: ChargingServer, stream: bool
) -> None:
    client = here.client
    kinds = []
    if stream:
        async with client.responses.stream(model="claude", input="Weather?") as events:
            kinds = [one.type async for one in events]
            response = await events.get_final_response()
    else:
        response = await client.responses.create(model="claude", input="Weather?")
    first = ["message"] if stream else []  # whole, the texts of an answer are one
    kinds_of_items = [item.type for item in response.output]
    assert kinds_of_items == [*first, "web_search_call", "message", "reasoning"]
    *texts, search, cited, sealed = response.output
    assert search.action.query == "news"
    assert [source.url for source in search.action.sources] == ["https://a.example"]
    assert not any(item.content[0].annotations for item in texts)
    [note] = cited.content[0].annotations
    text = cited.content[0].text
    assert text == ("Mild today." if stream else "Let me look. Mild today.")
    assert (note.type, text[note.start_index : note.end_index]) == ("url_citation", "Mild")
    assert response.suffice["dropped"] == ["citations"]
    if stream:
        assert kinds.count("response.output_text.annotation.added") == 1
        start = kinds.index("response.web_search_call.in_progress")
        assert kinds[start + 2] == "response.web_search_call.completed"
    items: list[Any] = [{"role": "user", "content": "Weather?"}]
    items += [item.model_dump(exclude_none=True) for item in response.output]
    items.append({"role": "user", "content": "And now?"})
    await client.responses.create(model="claude", input=items)
    assert SEARCH in vendor.sent[-1]["messages"][1]["content"]
    assert sealed.encrypted_content


async def test_annotations_of_a_chat_engine_reach_a_responses_client(tmp_path: Path) -> None:
    """OpenAI's search models and OpenRouter write them; they were named as dropped."""
    page = {"url": "https://a.example", "title": "A", "start_index": 0, "end_index": 4}

    async def cites(call: Call) -> None:
        body = completion("Mild today.")
        notes = [{"type": "url_citation", "url_citation": page}]
        body["choices"][0]["message"]["annotations"] = notes
        await call.reply(body)

    async with site(tmp_path) as here:
        here.upstream.script = cites
        _, response = await here.post({"model": "big", "input": "Weather?"}, path="/v1/responses")
    [note] = response["output"][0]["content"][0]["annotations"]
    assert note == {"type": "url_citation", **page}
    assert "dropped" not in response["suffice"]


async def test_fields_that_no_message_can_hold_are_named_or_refused(
    here: Site, vendor: ChargingServer
) -> None:
    ask = {"model": "claude", "messages": [{"role": "user", "content": "Hi"}], "seed": 5}
    for stream in (False, True):
        body = ask | {"stream": stream, "frequency_penalty": 0, "store": False}
        async with here.http.post(here.url + CHAT, json=body) as reply:
            await reply.read()
            assert reply.headers["x-suffice-ignored"] == "seed, store"
    for name in ("frequency_penalty", "presence_penalty"):
        status, answer = await here.post(ask | {name: 0.5}, path=CHAT)
        assert (status, answer["error"]["param"]) == (400, name)
    odd = {"tools": [{"type": "custom", "custom": {"name": "x"}}]}
    status, answer = await here.post(ask | odd, path=CHAT)
    assert (status, answer["error"]["param"]) == (400, "tools")
    place = {"type": "approximate", "approximate": {"country": "DE"}}
    await here.post(ask | {"web_search_options": {"user_location": place}}, path=CHAT)
    [tool] = vendor.sent[-1]["tools"]
    assert tool["user_location"] == {"type": "approximate", "country": "DE"}
    own = {"type": "web_search_20260209", "name": "web_search", "max_uses": 2}
    await here.post(ask | {"tools": [own]}, path=CHAT)
    assert vendor.sent[-1]["tools"] == [own]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_has_log_probabilities_where_asked(tmp_path: Path, stream: bool) -> None:
    told = {"token": "4", "logprob": -0.1, "bytes": None}
    told = told | {"top_logprobs": [{"token": "5", "logprob": -3.0, "bytes": [53]}]}

    async def tells(call: Call) -> None:
        if not call.body.get("stream"):
            body = completion("4")
            body["choices"][0]["logprobs"] = {"content": [told]}
            await call.reply(body)
            return
        choice = {"index": 0, "delta": {"content": "4"}, "logprobs": {"content": [told]}}
        await call.events()
        for piece in (event({**HEAD, "choices": [choice]}), chunk(finish="stop"), DONE):
            await call.write(piece)

    async with site(tmp_path) as here:
        here.upstream.script = tells
        client = here.client
        ask: JSON = {"model": "big", "input": "2 + 2?", "top_logprobs": 1}
        ask["include"] = ["message.output_text.logprobs"]
        if stream:
            async with client.responses.stream(**ask) as events:
                parts = [one async for one in events if one.type == "response.output_text.delta"]
                assert parts[0].logprobs[0].token == "4"
                response = await events.get_final_response()
        else:
            response = await client.responses.create(**ask)
        sent = here.upstream.calls[-1].body
    assert (sent["logprobs"], sent["top_logprobs"]) == (True, 1)
    [one] = response.output[0].content[0].logprobs
    assert (one.token, one.logprob, one.bytes) == ("4", -0.1, [52])
    assert [(other.token, other.logprob) for other in one.top_logprobs] == [("5", -3.0)]


FIND = {
    "type": "tool_search",
    "execution": "client",
    "description": "Find tools.",
    "parameters": {"type": "object", "properties": {"query": {"type": "string"}}},
}
ADD = {"type": "function", "name": "add", "parameters": {"type": "object"}, "defer_loading": True}


async def test_codex_searches_its_own_tools(tmp_path: Path) -> None:
    """The search is a function; what it has found can be called in the next turn."""
    names = iter(["tool_search", "math__add"])

    async def calls(call: Call) -> None:
        arguments = '{"query": "sums"}'
        function = {"name": next(names), "arguments": arguments}
        body = completion("")
        body["choices"][0]["message"]["tool_calls"] = [
            {"id": "c1", "type": "function", "function": function}
        ]
        await call.reply(body)

    async with site(tmp_path) as here:
        here.upstream.script = calls
        ask: JSON = {"model": "big", "tools": [FIND], "input": [{"role": "user", "content": "2+2"}]}
        _, response = await here.post(ask, path="/v1/responses")
        [item] = response["output"]
        assert (item["type"], item["execution"]) == ("tool_search_call", "client")
        assert (item["arguments"], item["call_id"]) == ({"query": "sums"}, "c1")
        found = {"type": "namespace", "name": "math", "description": "Sums.", "tools": [ADD]}
        output = {"type": "tool_search_output", "call_id": "c1", "execution": "client"}
        ask["input"] += [item, output | {"status": "completed", "tools": [found]}]
        status, response = await here.post(ask, path="/v1/responses")
        assert status == 200
        [item] = response["output"]
        assert (item["type"], item["name"], item["namespace"]) == ("function_call", "add", "math")
        sent = here.upstream.calls[-1].body
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["tool_search", "math__add"]
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "tool"]


async def test_a_foreign_compaction_is_refused_with_a_way_out(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        item = {"type": "compaction", "encrypted_content": "gAAA"}
        ask = {"model": "big", "input": [item, {"role": "user", "content": "Go on"}]}
        status, answer = await here.post(ask, path="/v1/responses")
    assert status == 400
    assert "begin a new one" in json.dumps(answer)
