"""POST /v1/responses: what it asks for, as a chat request.

https://platform.openai.com/docs/api-reference/responses/create. Hints that change no answer are
ignored and named.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from suffice.gateway.apis.fields import Fields, keeps_nothing, refused, wrong
from suffice.gateway.apis.messages_request import Translated
from suffice.gateway.apis.responses_items import COMPACT, ItemReader
from suffice.gateway.apis.responses_tools import loaded_tools, read_choice, read_tools
from suffice.types import JSON

_SAME = (
    "frequency_penalty", "parallel_tool_calls", "presence_penalty", "prompt_cache_key",
    "prompt_cache_retention", "safety_identifier", "seed", "service_tier", "stop", "temperature",
    "top_k", "top_p", "user",
)  # fmt: skip
# Fields without an effect here: notes of the client's, when to shorten a conversation (it is never
# shortened), and limits to tools that do not run here.
_HINTS = ("client_metadata", "context_management", "max_tool_calls", "prompt_cache_options")
# What may be added to a response: sealed reasoning, and results of tools that do not run here.
_ADDITIONS = frozenset(
    {
        "reasoning.encrypted_content",
        "web_search_call.results",
        "web_search_call.action.sources",
        "file_search_call.results",
        "code_interpreter_call.outputs",
        "computer_call_output.output.image_url",
        "message.input_image.image_url",
    }
)
_LOGPROBS = "message.output_text.logprobs"
STATE = ("previous_response_id", "conversation")


def chat_of_response(body: object, *, history: Sequence[JSON] | None = None) -> Translated:
    """Translate a body; raises Problem for what chat completions cannot carry.

    `history` are the items that it goes on from; None where the gateway keeps none.
    """
    fields = Fields(body)
    logprobs = _read_additions(fields, kept=history is not None)
    fields.ignore(*_HINTS)
    truncation = fields.take("truncation", str) or "disabled"
    if truncation != "disabled":  # a conversation is never cut short here
        fields.ignored.add("truncation")
    table = read_tools(fields, loaded=loaded_tools([*(history or ()), *_items(fields)]))
    conversation = _conversation(fields, history or ())
    chat = {
        "model": fields.need("model", str),
        "messages": [*_instructions(fields), *conversation.end()],
        **fields.same(_SAME),
        **_limits(fields),
        **logprobs,
        **_reasoning(_updated(fields, "reasoning", conversation)),
        **_format(_updated(fields, "text", conversation)),
        **read_choice(fields, table),
        **_stream(fields),
    }
    if is_compaction(body):
        chat.pop("response_format", None)
        chat |= {"tool_choice": "none"} if "tools" in chat else {}
    if "tools" not in chat:
        chat.pop("parallel_tool_calls", None)  # engines refuse it without tools
    fields.take("metadata", dict)  # a note to oneself, which the response repeats
    fields.done()
    ignored = tuple(sorted(fields.ignored))
    return Translated(
        chat=chat,
        ignored=ignored,
        effort_name="reasoning.effort",
        custom_tools=table.customs,
    )


def is_compaction(body: object) -> bool:
    """Whether a body asks for a summary in place of its conversation."""
    items = body.get("input") if isinstance(body, dict) else None
    listed = items if isinstance(items, list) else []
    return any(isinstance(item, dict) and item.get("type") == COMPACT for item in listed)


def _read_additions(fields: Fields, *, kept: bool) -> JSON:
    """Refuse what is kept elsewhere, and return the log-probabilities that are asked for."""
    for name in STATE:
        if fields.any(name) is not None:
            raise keeps_nothing(name)
    if fields.take("store", bool) and not kept:
        raise keeps_nothing("store")
    fields.only("prompt", why="prompts are kept at their vendor's")
    fields.only("background", [False], why="an answer is given at once here")
    additions = fields.take("include", list) or []
    for name in additions:
        if not isinstance(name, str) or name not in {*_ADDITIONS, _LOGPROBS}:
            why = f"{name!r} cannot be added to a response"
            raise refused(fields.path("include"), why)
    if {*additions} - {_LOGPROBS}:
        fields.ignored.add("include")
    most = fields.take("top_logprobs", int) or 0
    wanted = most > 0 or _LOGPROBS in additions
    return {"logprobs": True, "top_logprobs": most} if wanted else {}


def _instructions(fields: Fields) -> Iterator[JSON]:
    text = fields.take("instructions", str)
    if text is not None:
        yield {"role": "system", "content": text}


def _conversation(fields: Fields, history: Sequence[JSON]) -> ItemReader:
    items = fields.any("input")
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    if not isinstance(items, list) or not (items or history):
        raise wrong("input", "a text, or a list of one item or more")
    conversation = ItemReader()
    for i, item in enumerate(history):
        conversation.add(fields.of(item, at=f"history[{i}]"))
    for i, item in enumerate(items):
        conversation.add(fields.of(item, at=f"input[{i}]"))
    return conversation


def _updated(fields: Fields, name: str, conversation: ItemReader) -> Fields | None:
    """Take an object of settings, with what items of the conversation have changed in it."""
    value, update = fields.any(name), conversation.settings.get(name)
    if update and (value is None or isinstance(value, dict)):
        value = {**(value or {}), **update}
    return None if value is None else fields.of(value, at=fields.path(name))


def _items(fields: Fields) -> list[Any]:
    items = fields.peek("input")
    return items if isinstance(items, list) else []


def _limits(fields: Fields) -> JSON:
    limit = fields.take("max_output_tokens", int)
    return {} if limit is None else {"max_completion_tokens": limit}


def _reasoning(reasoning: Fields | None) -> JSON:
    if reasoning is None:
        return {}
    effort = reasoning.take("effort", str)
    reasoning.ignore("summary", "generate_summary", "context", path=True)
    reasoning.only("mode", ["standard"], why="engines have one mode")
    reasoning.done()
    return {} if effort is None else {"reasoning_effort": effort}


def _format(text: Fields | None) -> JSON:
    if text is None:
        return {}
    chat, wanted = text.same(["verbosity"]), text.inner("format")
    text.done()
    if wanted is None:
        return chat
    kind = wanted.need("type", str)
    if kind == "json_schema":
        schema = wanted.same(["name", "description", "schema", "strict"])
        chat["response_format"] = {"type": kind, "json_schema": schema}
    elif kind == "json_object":
        chat["response_format"] = {"type": kind}
    elif kind != "text":
        raise refused(wanted.path("type"), f"there is no format {kind!r} here")
    wanted.done()
    return chat


def _stream(fields: Fields) -> JSON:
    streamed, options = fields.take("stream", bool), fields.inner("stream_options")
    if options is not None:
        options.ignore("include_obfuscation", path=True)
        options.done()
    return {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
