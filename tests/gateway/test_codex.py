"""What Codex sends, and what else clients of the Responses API may: carried, or named."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from gateway_support import Call, Site, chunk, completion, site, usage_event

from suffice.gateway.apis.responses_reply import ResponseWriter
from suffice.gateway.apis.responses_request import chat_of_response
from suffice.gateway.apis.responses_tools import chat_name_of
from suffice.gateway.problems import Problem

PATH = "/v1/responses"
PATCH = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edit files.",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: line+"},
}
SPAWN = {"type": "function", "name": "spawn", "description": "d", "parameters": {"type": "object"}}
AGENTS = {"type": "namespace", "name": "agents", "description": "Helpers.", "tools": [SPAWN]}
RUN = {"type": "function", "name": "run", "strict": False, "parameters": {"type": "object"}}
ASK = {"model": "big", "input": "Hi"}
SHELL = {"command": ["ls", "-l"], "timeout_ms": 9, "working_directory": "/w"}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path, dialect="vllm") as made:
        yield made


def said(role: str, text: str) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    content = [{"type": kind, "text": text, "annotations": []}]
    return {"type": "message", "id": "msg_1", "role": role, "content": content}


def turn(model: str) -> dict[str, Any]:
    """Write a turn as the client does in the middle of its work."""
    return {
        "model": model,
        "stream": True,
        "input": [
            said("developer", "You work in a terminal."),
            said("developer", "Be careful."),
            said("user", "<cwd>/w</cwd>"),
            said("user", "Fix it."),
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [{"type": "summary_text", "text": "I look."}],
                "encrypted_content": "from elsewhere",
            },
            said("assistant", "Looking.") | {"phase": "commentary"},
            {"type": "custom_tool_call", "call_id": "c1", "name": "apply_patch", "input": "*** x"},
            {"type": "local_shell_call", "call_id": "c2", "action": {"type": "exec", **SHELL}},
            {
                "type": "function_call",
                "call_id": "c3",
                "namespace": "agents",
                "name": "spawn",
                "arguments": "{}",
            },
            {"type": "custom_tool_call_output", "call_id": "c1", "output": "done"},
            {"type": "local_shell_call_output", "id": "c2", "output": "a b"},
            {
                "type": "function_call_output",
                "call_id": "c3",
                "output": [{"type": "input_image", "image_url": "data:image/png;base64,AA"}],
            },
        ],
        "tools": [RUN, PATCH, {"type": "local_shell"}, AGENTS, {"type": "web_search"}],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "thread",
        "client_metadata": {"session_id": "s"},
        "truncation": "auto",
        "max_tool_calls": 9,
        "stream_options": {"include_obfuscation": True},
    }


@pytest.mark.parametrize("model", ["suffice", "big", "gpt-5-codex"])
async def test_a_turn_is_answered_and_nothing_in_it_lost(tmp_path: Path, model: str) -> None:
    more = 'models = {"gpt-5-codex" = "suffice"}\n'
    async with site(tmp_path, more=more, dialect="vllm") as here:
        async with here.http.post(
            here.url + PATH, data=json.dumps(turn(model)).encode()
        ) as response:
            assert response.status == 200, await response.text()
            assert "response.completed" in await response.text()
        ignored = set(response.headers["x-suffice-ignored"].split(", "))
        by_policy = set() if model == "big" else {"reasoning.effort"}
        assert ignored == by_policy | {
            "client_metadata", "encrypted_content", "include", "max_tool_calls", "phase",
            "reasoning.summary", "stream_options.include_obfuscation", "truncation", "web_search",
        }  # fmt: skip
        sent = here.upstream.calls[-1].body
        system, *_, own, first, second, third, media = sent["messages"]
        assert system == {"role": "system", "content": "You work in a terminal.\n\nBe careful."}
        assert own["reasoning_content"] == "I look."
        assert own["content"] == "Looking."
        calls = [
            (c["id"], c["function"]["name"], c["function"]["arguments"]) for c in own["tool_calls"]
        ]
        assert calls == [
            ("c1", "apply_patch", '{"input":"*** x"}'),
            ("c2", "local_shell", json.dumps(SHELL, separators=(",", ":"))),
            ("c3", "agents__spawn", "{}"),
        ]
        outputs = [(m["role"], m["tool_call_id"], m["content"]) for m in (first, second, third)]
        assert outputs[:2] == [("tool", "c1", "done"), ("tool", "c2", "a b")]
        assert media["content"][1]["image_url"] == {"url": "data:image/png;base64,AA"}
        names = [tool["function"]["name"] for tool in sent["tools"]]
        assert names == ["run", "apply_patch", "local_shell", "agents__spawn"]
        assert sent["tools"][1]["function"]["description"].endswith("(lark):\nstart: line+")
        assert sent["tools"][3]["function"]["description"] == "Helpers.\n\nd"
        assert (await here.row())["status"] == "ok"


CALLS = [
    ("run", '{"a":1}', {"type": "function_call", "name": "run", "arguments": '{"a":1}'}),
    (
        "agents__spawn",
        "{}",
        {"type": "function_call", "name": "spawn", "namespace": "agents", "arguments": "{}"},
    ),
    (
        "apply_patch",
        '{"input":"*** x"}',
        {"type": "custom_tool_call", "name": "apply_patch", "input": "*** x"},
    ),
    ("apply_patch", "*** x", {"type": "custom_tool_call", "name": "apply_patch", "input": "*** x"}),
    (
        "local_shell",
        json.dumps(SHELL),
        {"type": "local_shell_call", "action": {"type": "exec", **SHELL, "env": {}}},
    ),
    (
        "shell",
        '{"commands":["ls"]}',
        {
            "type": "shell_call",
            "action": {"commands": ["ls"], "timeout_ms": None, "max_output_length": None},
        },
    ),
    ("made_up", "{}", {"type": "function_call", "name": "made_up", "arguments": "{}"}),
]


@pytest.mark.parametrize(("name", "arguments", "item"), CALLS)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_call_is_the_item_of_its_tool(
    name: str, arguments: str, item: dict[str, Any], streamed: bool
) -> None:
    tools = [RUN, PATCH, {"type": "local_shell"}, {"type": "shell"}, AGENTS]
    writer = ResponseWriter(ASK | {"tools": tools}, request_id="r1")
    call = {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    if streamed:
        head = call | {"index": 0, "function": {"name": name, "arguments": arguments[:3]}}
        rest = {"index": 0, "function": {"arguments": arguments[3:]}}
        chunks = [{"delta": {"tool_calls": [part]}} for part in (head, rest)]
    else:
        chunks = [{"message": message}]
    events = [
        event for part in chunks for event in writer.feed({"choices": [{"index": 0, **part}]})
    ]
    events += writer.end()
    [shown] = writer.result()["output"]
    assert shown["call_id"] == "c1"
    assert {k: v for k, v in shown.items() if k not in ("id", "call_id", "status")} == item
    kinds = [event["type"] for event in events]
    assert kinds.index("response.output_item.added") < kinds.index("response.output_item.done")
    added = next(e["item"] for e in events if e["type"] == "response.output_item.added")
    assert (added["type"], added["id"]) == (shown["type"], shown["id"])
    if item["type"] == "custom_tool_call":
        delta = next(e for e in events if e["type"] == "response.custom_tool_call_input.delta")
        assert delta["delta"] == item["input"]
    history = chat_of_response({"model": "m", "input": [said("user", "x"), shown], "tools": tools})
    sent = history.chat["messages"][-1]["tool_calls"][0]["function"]
    assert sent["name"] == name
    if item["type"] == "function_call":
        assert sent["arguments"] == arguments


def test_names_of_functions_fit_chat_completions_and_stay_apart() -> None:
    names = ["a", "a.b", "a_b", "a:b", "x" * 90, "x" * 91]
    made = [chat_name_of(name) for name in names]
    assert made[0] == "a"
    assert len(set(made)) == len(names)
    assert all(len(name) <= 64 and name.isascii() for name in made)
    assert chat_name_of("b", namespace="a") == "a__b"


@pytest.mark.parametrize(
    ("choice", "names", "sent"),
    [
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "run"}],
            },
            ["run"],
            "required",
        ),
        (
            {"type": "custom", "name": "apply_patch"},
            ["run", "apply_patch"],
            {"type": "function", "function": {"name": "apply_patch"}},
        ),
        ("none", ["run", "apply_patch"], "none"),
    ],
)
def test_a_choice_of_tools_is_kept(choice: Any, names: list[str], sent: Any) -> None:
    chat = chat_of_response(ASK | {"tools": [RUN, PATCH], "tool_choice": choice}).chat
    assert [tool["function"]["name"] for tool in chat["tools"]] == names
    assert chat["tool_choice"] == sent


def test_results_of_a_shell_reach_the_model() -> None:
    result = {"stdout": "a", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}
    items = [
        said("user", "x"),
        {"type": "shell_call", "call_id": "c1", "action": {"commands": ["ls"]}},
        {"type": "shell_call_output", "call_id": "c1", "output": [result], "max_output_length": 9},
        {
            "type": "apply_patch_call",
            "call_id": "c2",
            "operation": {"type": "delete_file", "path": "p"},
        },
        {"type": "apply_patch_call_output", "call_id": "c2", "status": "completed"},
    ]
    messages = chat_of_response({"model": "m", "input": items}).chat["messages"]
    assert [message["role"] for message in messages] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "tool",
    ]
    assert json.loads(messages[2]["content"]) == [result]
    assert (
        messages[3]["tool_calls"][0]["function"]["arguments"] == '{"type":"delete_file","path":"p"}'
    )


def test_pictures_of_parallel_results_wait_for_the_last_of_them() -> None:
    image = [{"type": "input_image", "image_url": "data:image/png;base64,AA"}]
    calls = [
        {"type": "function_call", "call_id": c, "name": "run", "arguments": "{}"} for c in "ab"
    ]
    outputs = [{"type": "function_call_output", "call_id": c, "output": image} for c in "ab"]
    messages = chat_of_response(
        {"model": "m", "input": [said("user", "x"), *calls, *outputs]}
    ).chat["messages"]
    assert [message["role"] for message in messages] == [
        "user",
        "assistant",
        "tool",
        "tool",
        "user",
    ]
    assert len(messages[-1]["content"]) == 4


def test_a_message_of_another_agent_reaches_the_model() -> None:
    """Codex marks the text as encrypted, which it is only where OpenAI has written it."""
    content = [
        {"type": "input_text", "text": "Sender: /root\n"},
        {"type": "encrypted_content", "encrypted_content": "Find the river."},
    ]
    letter = {"type": "agent_message", "id": "amsg_1", "author": "/root", "recipient": "/root/a"}
    body = {"model": "m", "input": [said("user", "x"), {**letter, "content": content}]}
    last = chat_of_response(body).chat["messages"][-1]
    assert last["role"] == "user"
    assert [part["text"] for part in last["content"]] == ["Sender: /root\n", "Find the river."]
    content[1]["encrypted_content"] = "gAAAAABpc2Vjcm"
    with pytest.raises(Problem, match="another service has encrypted"):
        chat_of_response(body)


@pytest.mark.parametrize("role", ["user", "developer"])
def test_what_comes_between_a_call_and_its_output_waits_for_the_output(role: str) -> None:
    calls = [
        {"type": "function_call", "call_id": c, "name": "run", "arguments": "{}"} for c in "ab"
    ]
    outputs = [{"type": "function_call_output", "call_id": c, "output": c} for c in "ab"]
    items = [said("user", "x"), *calls, outputs[0], said(role, "Hurry."), outputs[1]]
    items += [said("assistant", "Done."), said("user", "y")]
    messages = chat_of_response({"model": "m", "input": items}).chat["messages"]
    roles = [message["role"] for message in messages]
    assert roles == ["user", "assistant", "tool", "tool", role, "assistant", "user"]
    assert [m["tool_call_id"] for m in messages[2:4]] == ["a", "b"]


COMPACT = {"type": "compaction_trigger"}
TURN = [said("user", "Fix it.") | {"internal_chat_message_metadata_passthrough": {"a": 1}}]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_conversation_is_compacted_by_its_model(here: Site, stream: bool) -> None:
    """Codex asks for it so where its provider is called OpenAI, and knows no other way there."""

    async def script(call: Call) -> None:
        if call.body["stream"]:
            await call.events()
            await call.write(chunk(reasoning_content="hm") + chunk(content="Half is "))
            await call.write(chunk(content="done.") + chunk(finish="stop") + usage_event())
            await call.write(b"data: [DONE]\n\n")
        else:
            await call.reply(completion("Half is done.", reasoning_content="hm"))

    here.upstream.script = script
    ask = {"model": "big", "input": [*TURN, COMPACT], "tools": [RUN], "stream": stream}
    ask["text"] = {"format": {"type": "json_object"}}
    async with here.http.post(here.url + PATH, json=ask) as response:
        assert response.status == 200, await response.text()
        data = (await response.read()).decode()
    lines = [line[6:] for line in data.splitlines() if line.startswith("data: ")]
    events = [json.loads(line) for line in lines]
    whole = events[-1]["response"] if stream else json.loads(data)
    [item] = whole["output"]
    assert (whole["status"], item["type"], whole["usage"]["output_tokens"] > 0) == (
        *("completed", "compaction"),
        True,
    )
    if stream:
        done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
        assert done == [item]
    sent = here.upstream.calls[0].body
    assert (sent["tool_choice"], "response_format" in sent) == ("none", False)
    assert "summary" in sent["messages"][-1]["content"]
    later = chat_of_response({"model": "m", "input": [*TURN, item, said("user", "Go on.")]})
    texts = [message["content"] for message in later.chat["messages"]]
    assert texts[0] == "Fix it."
    assert texts[1].endswith("Half is done.")
    assert "internal_chat_message_metadata_passthrough" in later.ignored


@pytest.mark.parametrize("summary", ["Half is done.", ""])
async def test_an_older_version_compacts_at_a_path_of_its_own(here: Site, summary: str) -> None:
    async def script(call: Call) -> None:
        await call.reply(completion(summary))

    here.upstream.script = script
    items = [*TURN, said("assistant", "Looking."), said("user", "Faster.")]
    status, whole = await here.post(
        {"model": "big", "input": items, "instructions": "Be brief."}, path=f"{PATH}/compact"
    )
    if not summary:
        assert status == 502
        assert "no whole summary" in whole["error"]["message"]
        return
    assert (status, whole["object"]) == (200, "response.compaction")
    *own, compaction = whole["output"]
    assert own == [items[0], items[2]]
    messages = chat_of_response({"model": "m", "input": [compaction]}).chat["messages"]
    assert messages[0]["content"].endswith("Half is done.")
    assert here.rows()[-1]["status"] == "ok"


def test_a_compaction_without_a_summary_has_failed() -> None:
    writer = ResponseWriter({"model": "m", "input": [COMPACT]}, request_id="r")
    writer.feed({"choices": [{"delta": {"content": " "}, "finish_reason": "stop"}]})
    [last] = writer.end()
    assert last["type"] == "response.failed"
    assert "no summary" in last["response"]["error"]["message"]
    assert last["response"]["output"] == []


async def test_what_an_engine_adds_comes_back_in_the_next_turn(here: Site) -> None:
    signed = {"google": {"thought_signature": "c2ln"}}
    call = {"index": 0, "id": "c1", "type": "function", "extra_content": signed}
    call["function"] = {"name": "run", "arguments": "{}"}
    details = [{"type": "reasoning.encrypted", "data": "x"}]

    async def script(upstream: Call) -> None:
        await upstream.events()
        await upstream.write(chunk(reasoning_content="hm", reasoning_details=details))
        await upstream.write(chunk(tool_calls=[call]) + chunk(finish="tool_calls") + usage_event())
        await upstream.write(b"data: [DONE]\n\n")

    here.upstream.script = script
    stream = await here.client.responses.create(**ASK, tools=[RUN], stream=True)
    final = [event async for event in stream][-1].response
    output = [item.model_dump(exclude_none=True) for item in final.output]
    assert [item["type"] for item in output] == ["reasoning", "function_call"]
    items = [said("user", "x"), *output, {"type": "function_call_output", "output": "4"}]
    items[-1]["call_id"] = output[-1]["call_id"]
    _, own, tool = chat_of_response({"model": "m", "input": items}).chat["messages"]
    assert own["reasoning_details"] == details
    assert own["tool_calls"][0]["extra_content"] == signed
    assert tool["tool_call_id"] == own["tool_calls"][0]["id"] == "c1"


async def test_log_probabilities_and_samples_that_only_a_rung_wants_stay_here(
    tmp_path: Path,
) -> None:
    logprobs = {"content": [{"token": "4", "logprob": -0.1, "top_logprobs": []}]}

    async def script(call: Call) -> None:
        others = [{"index": 1, "message": {"role": "assistant", "content": "5"}}]
        if not call.body["stream"]:
            reply = completion()
            reply["choices"][0]["logprobs"] = logprobs
            reply["choices"] += [others[0] | {"finish_reason": "stop", "logprobs": logprobs}]
            await call.reply(reply)
            return
        await call.events()
        for index, text in enumerate("45"):
            choice = {"index": index, "delta": {"content": text}, "logprobs": logprobs}
            await call.write(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")
            end = {"index": index, "delta": {}, "finish_reason": "stop"}
            await call.write(b"data: " + json.dumps({"choices": [end]}).encode() + b"\n\n")
        await call.write(usage_event() + b"data: [DONE]\n\n")

    async with site(tmp_path) as here:
        toml = here.folder / "suffice.toml"
        old = 'model = "big-model"\n'
        toml.write_text(toml.read_text().replace(old, old + "params = {logprobs = true, n = 2}\n"))
        await here.gateway.worker.reload()
        here.upstream.script = script
        plain, asked = await here.chat(), await here.chat(logprobs=True, n=2)
        assert (len(plain.choices), plain.choices[0].logprobs) == (1, None)
        assert (len(asked.choices), asked.choices[0].logprobs is None) == (2, False)
        assert plain.model_extra["suffice"]["rung"] == "big"
        stream = await here.chat(stream=True)
        choices = [choice async for event in stream for choice in event.choices]
        assert "".join(choice.delta.content or "" for choice in choices) == "4"
        assert all(choice.logprobs is None for choice in choices)
        assert here.upstream.calls[-1].body["logprobs"] is True
