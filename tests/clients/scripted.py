"""The scripted engine behind `make test-clients`: it calls one tool, and then tells its result."""

import json
from typing import Any

from gateway_support import DONE, Call, chunk, completion, event, usage_event

WORD = "river-rhine"
SAY = "Say the river."
SHELL = {"command": f"echo {WORD}", "description": "say it"}
PICTURE = "picture.png"
HEAD_WORK = "Work for thirty turns."  # begins a prompt of the long session

# The prompts that a client is given, and for each the tools by which it can be met. The engine
# calls the first one that the client offers.
PLANS: dict[str, dict[str, Any]] = {
    SAY: {
        "Bash": SHELL,
        "bash": SHELL,
        "exec_command": {"cmd": f"echo {WORD}"},
        "shell": {"command": ["echo", WORD]},
        "run_shell_command": {**SHELL, "is_background": False},
        "river": {"country": "Germany"},
    },
    "Let an agent name the river.": {
        name: {"description": "say it", "prompt": SAY, "subagent_type": "general-purpose"}
        for name in ("Agent", "Task", "task")
    },
    "Look at the picture.": {
        "Read": {"file_path": PICTURE},
        "view_image": {"path": PICTURE},
        "read": {"filePath": PICTURE},
    },
}
_ANSWER_TOOLS = ("final_result", "River", "json_tool_call", "final_answer", "json")


async def engine(call: Call) -> None:
    """Answer a chat request, or a completion of bare text."""
    body = call.body
    if "messages" not in body:
        await _complete_text(call)
        return
    name, arguments = tool_call(body)
    if name:
        function = {"name": name, "arguments": json.dumps(arguments)}
        part = {"id": f"call_{len(body['messages'])}", "type": "function", "function": function}
        delta: dict[str, Any] = {"tool_calls": [{"index": 0, **part}]}
        whole = completion("", tool_calls=[part])
        whole["choices"][0] |= {"finish_reason": "tool_calls"}
        whole["choices"][0]["message"]["content"] = None
    else:
        delta = {"content": answer(body)}
        whole = completion(answer(body))
    if not body.get("stream"):
        await call.reply(whole)
        return
    await call.events()
    finish = "tool_calls" if name else "stop"
    await call.write(chunk(role="assistant", **delta) + chunk(finish=finish))
    await call.write(usage_event(9000, 25) + DONE)


def tool_call(body: dict[str, Any]) -> tuple[str, Any]:
    """Return the tool to call, with its arguments; an empty name for none."""
    tools = {tool["function"]["name"]: tool["function"] for tool in body.get("tools") or ()}
    prompt, results = _state(body)
    if not results and body.get("tool_choice") != "none":
        for name, arguments in PLANS.get(prompt, {}).items():
            if name in tools:
                return name, arguments
    for name in _ANSWER_TOOLS:  # some clients take an answer of a given form as a tool's arguments
        if name in tools:
            properties = tools[name].get("parameters", {}).get("properties", {})
            return name, dict.fromkeys(properties, WORD)
    return "", None


def answer(body: dict[str, Any]) -> str:
    """Return the text that ends a turn; JSON where the client gives a schema."""
    form = body.get("response_format") or {}
    if form.get("type") in ("json_schema", "json_object"):
        schema = form.get("json_schema", {}).get("schema", {})
        return json.dumps(dict.fromkeys(schema.get("properties") or ("river",), WORD))
    prompt, results = _state(body)
    if "JSON object" in json.dumps(body["messages"]) and not body.get("tools"):
        return json.dumps({"river": WORD})
    if "picture" in prompt:
        return f"It shows {WORD}." if "data:image/" in json.dumps(body["messages"]) else "Nothing."
    if results:
        return f"The tool said {results[-1]}"
    return f"The river is {WORD}." if not body.get("tools") or not prompt else "No such tool."


def _state(body: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the last prompt of the plans, and the results of tools since then."""
    prompt, results = "", []
    for message in body["messages"]:
        text = json.dumps(message.get("content"), ensure_ascii=False)
        here = [name for name in PLANS if name in text] if message["role"] == "user" else []
        if here:
            prompt, results = max(here, key=text.rindex), []
        elif message["role"] == "tool" or (message["role"] == "user" and WORD in text):
            results.append(_text(message["content"]))
    return prompt, results


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content or ())


async def _complete_text(call: Call) -> None:
    text = f" The river is {WORD}."
    choice = {"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}
    usage = {"prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 15}
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "served-model"}
    if not call.body.get("stream"):
        await call.reply({**head, "choices": [choice], "usage": usage})
        return
    await call.events()
    await call.write(event({**head, "choices": [choice]}))
    await call.write(event({**head, "choices": [], "usage": usage}) + DONE)
