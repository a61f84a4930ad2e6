"""Messages to a Messages engine: what is written on either side arrives on the other."""

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from gateway_support import CLAUDE, Call, Site, answer, completion, event, site
from hypothesis import given
from hypothesis import strategies as st

from suffice.engines.fold import NATIVE, Fold
from suffice.engines.message_replies import MessageEvents
from suffice.gateway.apis.messages_native import MessageRelay, native_of
from suffice.gateway.sealed import seal, seal_id

JSON = dict[str, Any]
PATH = "/v1/messages"
THINKER = """
[[ladder]]
name = "thinker"
engine = "claude"
model = "claude-y"
effort = "low"
max_output_tokens = 50
"""


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path, more=CLAUDE + THINKER) as made:
        made.upstream.script = answers
        yield made


SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
FOUND = {
    "type": "web_search_tool_result",
    "tool_use_id": "srvtoolu_1",
    "content": [
        {
            "type": "web_search_result",
            "url": "https://a.example",
            "title": "A",
            "encrypted_content": "e",
            "page_age": None,
        }
    ],
}
CITED = {
    "type": "text",
    "text": "Mild.",
    "citations": [
        {
            "type": "web_search_result_location",
            "cited_text": "mild",
            "encrypted_index": "e",
            "title": None,
            "url": "https://a.example",
        }
    ],
}
BLOCKS: list[JSON] = [
    {"type": "thinking", "thinking": "hm", "signature": "c2lnbmVk"},
    SEARCH,
    FOUND,
    CITED,
    {"type": "block_of_tomorrow", "odd": [1, 2.50, None]},
]
USAGE = {
    "input_tokens": 11,
    "cache_read_input_tokens": 1000,
    "cache_creation_input_tokens": 100,
    "output_tokens": 7,
    "server_tool_use": {"web_search_requests": 1},
}
MESSAGE: JSON = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": BLOCKS,
    "stop_reason": "pause_turn", "stop_sequence": None, "usage": USAGE, "container": {"id": "c"},
}  # fmt: skip
ASK: JSON = {
    "model": "claude",
    "max_tokens": 100,
    "system": [{"type": "text", "text": "Be dry.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": BLOCKS[:4]},
        {
            "role": "user",
            "content": [
                {
                    "type": "document",
                    "source": {"type": "file", "file_id": "f1"},
                    "citations": {"enabled": True},
                },
                {"type": "text", "text": "And now?", "cache_control": {"type": "ephemeral"}},
            ],
        },
    ],
    "tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}],
    "thinking": {"type": "enabled", "budget_tokens": 50},
    "context_management": {"edits": []},
    "odd_field": {"a": 1},
}
PLAIN = {"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}


def events_of(message: JSON) -> list[JSON]:
    """Stream a message as Anthropic does, text and input in halves, with a ping between."""
    start = message | {"content": [], "stop_reason": None, "usage": {**USAGE, "output_tokens": 1}}
    events: list[JSON] = [{"type": "message_start", "message": start}]
    for index, block in enumerate(message["content"]):
        deltas: list[JSON] = []
        empty = dict(block)
        if block["type"] == "text":
            empty["text"], text = "", block["text"]
            deltas = [{"type": "text_delta", "text": part} for part in (text[:2], text[2:]) if part]
            cited = empty.pop("citations", None) or ()
            deltas += [{"type": "citations_delta", "citation": one} for one in cited]
        if block["type"] == "thinking":
            empty = {"type": "thinking", "thinking": "", "signature": ""}
            deltas = [
                {"type": "thinking_delta", "thinking": block["thinking"]},
                {"type": "signature_delta", "signature": block["signature"]},
            ]
        at = {"index": index}
        events.append({"type": "content_block_start", **at, "content_block": empty})
        events += [{"type": "content_block_delta", **at, "delta": delta} for delta in deltas]
        events += [{"type": "content_block_stop", **at}, {"type": "ping"}]
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    events.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 7}})
    return [*events, {"type": "message_stop"}]


async def answers(call: Call) -> None:
    if not call.body.get("stream"):
        await call.reply(MESSAGE)
        return
    await call.events()
    for item in events_of(MESSAGE):
        await call.write(b"event: %b\n" % item["type"].encode() + event(item))


async def streamed(here: Site, body: JSON) -> list[str]:
    body = body | {"stream": True}
    async with here.http.post(here.url + PATH, json=body) as response:
        assert response.status == 200
        text = await response.text()
    return [line[6:] for line in text.split("\n") if line.startswith("data: ")]


async def test_a_stream_comes_back_event_by_event_with_our_account_at_the_end(here: Site) -> None:
    lines = await streamed(here, ASK)
    sent = [json.dumps(item) for item in events_of(MESSAGE)]
    assert lines[:-2] == sent[:-2]
    assert lines[-1] == sent[-1]
    delta = json.loads(lines[-2])
    account = delta.pop("suffice")
    assert delta == json.loads(sent[-2])
    assert account["rung"] == "claude"
    assert Decimal(account["cost_usd"]) == Decimal(11 + 1000 + 100 + 7) / 10**6


async def test_a_whole_message_comes_back_byte_by_byte(here: Site) -> None:
    async with here.http.post(here.url + PATH, json=ASK) as response:
        text = await response.text()
        assert "x-suffice-ignored" not in response.headers
    assert text.startswith(json.dumps(MESSAGE)[:-1] + ',"suffice":')
    row = here.rows()[-1]
    assert (row["input_tokens"], row["output_tokens"]) == (1111, 7)
    assert row["charge_picousd"] == 1118 * 10**6


async def test_the_body_goes_out_as_it_came(here: Site) -> None:
    headers = {"anthropic-beta": "context-management-2025-06-27", "traceparent": "nonsense"}
    async with here.http.post(here.url + PATH, json=ASK, headers=headers) as response:
        assert "x-suffice-ignored" not in response.headers
    call = here.upstream.calls[-1]
    assert call.body == ASK | {"model": "claude-x", "stream": False}
    assert call.headers["anthropic-beta"] == headers["anthropic-beta"]


async def test_the_settings_of_a_rung_win(here: Site) -> None:
    asked = ASK | {"output_config": {"effort": "max", "format": {"type": "json_schema"}}}
    async with here.http.post(here.url + PATH, json=asked | {"model": "thinker"}) as response:
        assert response.headers["x-suffice-ignored"] == "output_config.effort"
    sent = here.upstream.calls[-1].body
    assert (sent["max_tokens"], sent["thinking"]) == (50, {"type": "adaptive"})
    assert sent["output_config"] == {"effort": "low", "format": {"type": "json_schema"}}


async def test_what_no_other_engine_can_take_is_refused_where_one_may_be_asked(here: Site) -> None:
    for model in ("suffice", "big"):
        status, told = await here.post(ASK | {"model": model}, path=PATH)
        assert status == 400
        assert told["type"] == "error"
        assert "as it is: claude, thinker" in told["error"]["hint"]
        assert here.rows()[-1]["status"] == "refused"
    assert not here.upstream.calls


async def test_searches_of_earlier_turns_are_left_out_elsewhere_and_named(here: Site) -> None:
    messages = [*ASK["messages"][:2], {"role": "user", "content": "And now?"}]
    body = {"model": "big", "max_tokens": 9, "messages": messages}
    here.upstream.script = answer
    async with here.http.post(here.url + PATH, json=body) as response:
        assert response.status == 200
        named = response.headers["x-suffice-ignored"].split(", ")
    assert named == ["citations", "server_tool_use", "signature", "web_search_tool_result"]
    ran = {**SEARCH, "name": "code_execution"}
    messages[1] = {"role": "assistant", "content": [ran, {"type": "text", "text": "4"}]}
    status, _ = await here.post(body, path=PATH)
    assert status == 400


async def test_where_every_rung_speaks_messages_the_policys_model_passes_all(
    tmp_path: Path,
) -> None:
    text = CLAUDE + '[gateway]\nledger = "{ledger}"\naudit_share = 0\n'
    async with site(tmp_path) as scripted:
        url = scripted.upstream
        url.script = answers
        port = (tmp_path / "suffice.toml").read_text().split('url = "')[1].split('"')[0]
        folder = tmp_path / "alone"
        folder.mkdir()
        toml = 'reference = "claude"\n[price.flat]\ninput_usd_per_mtok = 1\n'
        toml += "output_usd_per_mtok = 1\n" + text
        toml = toml.replace("{url}", port).replace("{ledger}", str(folder / "books.db"))
        (folder / "suffice.toml").write_text(toml)
        from gateway_support import running

        from suffice.gateway.app import Gateway
        from suffice.gateway.serving import Settings

        async with (
            running(Gateway(Settings(ladder=folder / "suffice.toml"))) as (address, _),
            scripted.http.post(address + PATH, json=ASK | {"model": "suffice"}) as response,
        ):
            assert response.status == 200
            assert response.headers["x-suffice-ignored"] == "thinking"  # the policy's to choose
        sent = scripted.upstream.calls[-1].body
        expected = {k: v for k, v in ASK.items() if k != "thinking"}
        assert sent == expected | {"model": "claude-x", "stream": False}


async def test_the_official_client_reads_it(here: Site) -> None:
    import anthropic  # a second at least, which no other test has to pay

    async with anthropic.AsyncAnthropic(base_url=here.url, api_key="any", max_retries=0) as client:
        fields: Any = {name: ASK[name] for name in ("model", "max_tokens", "messages", "tools")}
        async with client.messages.stream(**fields) as stream:
            final = await stream.get_final_message()
        assert [block.type for block in final.content] == [block["type"] for block in BLOCKS]
        assert final.stop_reason == "pause_turn"


async def test_tokens_are_counted_by_the_engine(here: Site) -> None:
    async def counts(call: Call) -> None:
        await call.reply({"input_tokens": 1234})

    here.upstream.script = counts
    status, told = await here.post(ASK, path=f"{PATH}/count_tokens")
    assert (status, told["input_tokens"]) == (200, 1234)
    sent = here.upstream.calls[-1].body
    assert sent["tools"] == ASK["tools"]
    assert "max_tokens" not in sent


async def test_an_error_of_the_engine_keeps_its_words_and_its_shape(here: Site) -> None:
    async def refuses(call: Call) -> None:
        error = {"type": "invalid_request_error", "message": "odd_field: Extra inputs"}
        await call.reply({"type": "error", "error": error}, status=400)

    here.upstream.script = refuses
    status, told = await here.post(ASK, path=PATH)
    assert status == 400
    assert "odd_field: Extra inputs" in told["error"]["message"]
    assert here.rows()[-1]["status"] == "failed"


async def test_a_stream_that_breaks_off_ends_in_an_error_event(here: Site) -> None:
    async def breaks(call: Call) -> None:
        await call.events()
        for item in events_of(MESSAGE)[:-3]:
            await call.write(event(item))

    here.upstream.script = breaks
    text = b""
    async with here.http.post(here.url + PATH, json=ASK | {"stream": True}) as response:
        try:
            async for piece in response.content.iter_any():
                text += piece
        except Exception:  # noqa: BLE001 - the connection closes, for there is no end
            pass
    assert b"event: error" in text
    assert b"message_stop" not in text
    assert (await here.row())["status"] == "failed"


@pytest.mark.parametrize(
    "body",
    [{"model": "claude", "max_tokens": 1}, {"model": "claude", "messages": [3]}, {"messages": []}],
)
async def test_what_is_no_request_is_refused_here(here: Site, body: JSON) -> None:
    status, told = await here.post(body, path=PATH)
    assert (status, told["type"]) == (400, "error")
    assert not here.upstream.calls


# -- history that began elsewhere ------------------------------------------------------------------

SIGNED = {"type": "thinking", "thinking": "hm", "signature": "c2lnbmVk"}


@pytest.mark.parametrize(
    ("block", "kept"),
    [
        (SIGNED, [SIGNED]),
        ({"type": "thinking", "thinking": "hm", "signature": ""}, []),
        ({"type": "thinking", "thinking": "", "signature": seal({"reasoning_details": [1]})}, []),
        ({"type": "redacted_thinking", "data": seal({"extra_content": {}})}, []),
        ({"type": "redacted_thinking", "data": "foreign"}, None),
        ({"type": "thinking", "signature": seal({"thinking_blocks": [SIGNED]})}, [SIGNED]),
        (
            {"type": "tool_use", "id": seal_id("c1", {"extra_content": 1}), "name": "f"},
            [{"type": "tool_use", "id": "c1", "name": "f"}],
        ),
        ({"type": "tool_use", "id": "toolu_1", "name": "f"}, None),
    ],
)
def test_our_own_seals_are_taken_out(block: JSON, kept: list[JSON] | None) -> None:
    said = {"type": "text", "text": "4"}
    body = {"messages": [{"role": "assistant", "content": [block, said]}]}
    [message] = native_of(body)["messages"]
    assert message["content"] == [*([block] if kept is None else kept), said]


@pytest.mark.parametrize("call_id", ["functions.bash:0", "x" * 90, "", "ü"])
def test_ids_that_the_api_would_refuse_are_mended_alike_in_call_and_result(call_id: str) -> None:
    call = {"type": "tool_use", "id": call_id, "name": "f", "input": {}}
    result = {"type": "tool_result", "tool_use_id": call_id, "content": "4"}
    messages = [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    called, answered = (m["content"][0] for m in native_of({"messages": messages})["messages"])
    assert called["id"] == answered["tool_use_id"]
    assert 0 < len(called["id"]) <= 64
    assert called["id"].isascii()
    assert called["id"].replace("_", "").replace("-", "").isalnum()


async def test_a_session_may_change_its_rung_at_every_turn(here: Site) -> None:
    """Seals of one kind of engine never reach the other, and calls meet their results."""
    call = {
        "id": "functions.f:0",
        "type": "function",
        "function": {"name": "f", "arguments": "{}"},
        "extra_content": {"google": {"thought_signature": "sig"}},
    }

    async def chats(told: Call) -> None:
        if told.body["model"] == "claude-x":
            await told.reply(MESSAGE | {"content": BLOCKS[:1], "stop_reason": "end_turn"})
        else:
            await told.reply(completion("", tool_calls=[call], reasoning_details=[{"a": 1}]))

    here.upstream.script = chats
    tool = {"name": "f", "input_schema": {"type": "object"}}
    messages: list[JSON] = [{"role": "user", "content": "one"}]
    _, first = await here.post(
        PLAIN | {"model": "big", "messages": messages, "tools": [tool]}, path=PATH
    )
    used = next(block for block in first["content"] if block["type"] == "tool_use")
    result = {"type": "tool_result", "tool_use_id": used["id"], "content": "4"}
    messages += [
        {"role": "assistant", "content": first["content"]},
        {"role": "user", "content": [result]},
    ]
    status, second = await here.post(PLAIN | {"messages": messages, "tools": [tool]}, path=PATH)
    assert status == 200
    sent = here.upstream.calls[-1].body["messages"]
    assert "suffice1-" not in json.dumps(sent)
    assert [b["id"] for b in sent[1]["content"] if b["type"] == "tool_use"] == [
        sent[2]["content"][0]["tool_use_id"]
    ]
    messages += [
        {"role": "assistant", "content": [*second["content"], {"type": "text", "text": "4"}]},
        {"role": "user", "content": "three"},
    ]
    status, _ = await here.post(
        PLAIN | {"model": "big", "messages": messages, "tools": [tool]}, path=PATH
    )
    assert status == 200
    chat = here.upstream.calls[-1].body["messages"]
    assert chat[1]["tool_calls"][0]["extra_content"] == call["extra_content"]
    assert chat[1]["tool_calls"][0]["id"] == chat[2]["tool_call_id"] == "functions.f:0"
    assert "c2lnbmVk" not in json.dumps(chat)


names = st.text(st.characters(codec="utf-8"), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | names,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2),
    max_leaves=5,
)
blocks = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, names),
    st.just(BLOCKS[0]),
    st.builds(lambda more: {**more, "type": "block_of_tomorrow"}, st.dictionaries(names, values)),
)


@given(st.lists(blocks, max_size=4), st.data())
def test_any_stream_of_this_api_comes_back_as_it_was(
    content: list[JSON], data: st.DataObject
) -> None:
    lines = [json.dumps(item) for item in events_of(MESSAGE | {"content": content})]
    fold, events, relay = Fold(), MessageEvents(), MessageRelay({}, request_id="r")
    stream = b""
    for line in lines:
        chunk = (events.chunk(json.loads(line)) or {"choices": []}) | {NATIVE: line}
        stream += b"data: " + json.dumps(chunk).encode() + b"\n\n"
    cut = data.draw(st.integers(0, len(stream)))
    passed = fold.feed(stream[:cut]) + fold.feed(stream[cut:])
    written: list[Any] = []
    for item in passed.split(b"\n\n"):
        if item:
            written += relay.feed(json.loads(item[6:]))
    written += relay.end()
    assert [part.decode().split("data: ", 1)[1].rstrip("\n") for part in written] == lines
    assert fold.reply().usage is not None
