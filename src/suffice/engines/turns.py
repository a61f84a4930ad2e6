"""Messages as templates of open models want them: one system message, at the beginning.

The template of Qwen and others refuses a second system message, a later one, and the role
`developer`; some demand that turns of user and assistant alternate.
"""

import re
from base64 import b32encode
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from suffice.types import JSON

_ORDERS = ("system", "developer")
# Fields of a turn of the assistant that strict servers know; those of the second line where they
# say something.
_SAID = frozenset({"role", "content", "name", "tool_calls"})
_SAID_ALSO = frozenset({"function_call", "refusal", "audio", "prefix"})
_OF_A_CALL = frozenset({"id", "type", "function"})
_MARK = "cache_control"
_BRIDGE = "OK."
_FOLLOWS = "The result follows in the next message."
_INTERRUPTED = "There is no result: the call was interrupted."
_LONGEST_ID = 40  # that OpenAI takes
_ARGUMENTS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NINE = re.compile(r"[a-zA-Z0-9]{9}")
# ai.google.dev/gemini-api/docs/thought-signatures, for calls that another model made.
_UNSIGNED = "skip_thought_signature_validator"


def one_system(messages: Sequence[JSON]) -> list[JSON]:
    """Merge leading system and developer messages; later ones become part of a user's turn."""
    first = next((i for i, m in enumerate(messages) if m.get("role") not in _ORDERS), len(messages))
    plain = first == 0 or (first == 1 and messages[0]["role"] == "system")
    if plain and not any(message.get("role") in _ORDERS for message in messages[first:]):
        return list(messages)
    turns: list[JSON] = []
    if first:
        texts = [_text(message.get("content")) for message in messages[:first]]
        turns.append({"role": "system", "content": "\n\n".join(text for text in texts if text)})
    converted = False  # whether the last turn ends in what was a system message
    for message in messages[first:]:
        role, last = message.get("role"), turns[-1] if turns else {}
        order = role in _ORDERS
        joins = last.get("role") == "user" and (order or (role == "user" and converted))
        if joins:
            turns[-1] = {**last, "content": _joined(last.get("content"), message.get("content"))}
        else:
            turns.append({**message, "role": "user"} if order else message)
        converted = order or (joins and converted and role != "user")
    return turns


def ordered(messages: Sequence[JSON], order: str) -> list[JSON]:
    """Add an order after those that open a conversation."""
    first = next((i for i, m in enumerate(messages) if m.get("role") not in _ORDERS), len(messages))
    return [*messages[:first], {"role": "system", "content": order}, *messages[first:]]


def plain_texts(messages: Sequence[JSON]) -> list[JSON]:
    """Write a content of texts alone as one text, for servers that take no list of them."""
    return [
        {**message, "content": _text(message["content"])} if _is_texts(message) else message
        for message in messages
    ]


def with_results(messages: Sequence[JSON]) -> list[JSON]:
    """Give every call of a tool a result, as most servers demand: one without was interrupted.

    The calls of the last message are still to be made.
    """
    backwards: list[JSON] = []
    answered: set[str] = set()  # by what comes before the next turn of the assistant
    results = 0  # that come directly
    for message in reversed(messages):
        role = message.get("role")
        if role == "tool":
            result_id = message.get("tool_call_id")
            answered |= {result_id} if isinstance(result_id, str) else set()
        elif role == "assistant":
            missing = [one for one in dict.fromkeys(_call_ids(message)) if one not in answered]
            if missing and backwards:
                place = len(backwards) - results
                backwards[place:place] = map(_interrupted, reversed(missing))
            answered = set()
        results = results + 1 if role == "tool" else 0
        backwards.append(message)
    return backwards[::-1]


def results_beside_calls(messages: Sequence[JSON]) -> list[JSON]:
    """Move results of tools directly after the turn that made the calls, as most servers demand.

    Between them may stand what a client noted meanwhile, or the second half of a turn that it
    wrote down in two. Where an id was used twice, a result belongs to the last call before it.
    """
    calls: dict[str, list[int]] = {}  # the turns with a call of this id that has no result yet
    results: dict[int, list[JSON]] = {}  # of a turn, by its index
    placed: set[int] = set()  # indices of these results
    turn, misplaced = -1, False
    for index, message in enumerate(messages):
        role = message.get("role")
        if role == "tool":
            answered = message.get("tool_call_id")
            if isinstance(answered, str) and calls.get(answered):
                caller = calls[answered].pop()
                results.setdefault(caller, []).append(message)
                placed.add(index)
                misplaced |= caller != turn
        else:
            turn = index
            for call_id in _call_ids(message):
                calls.setdefault(call_id, []).append(index)
    turns: list[JSON] = []
    for index, message in enumerate(messages if misplaced else ()):
        if index not in placed:
            turns += [message, *results.get(index, ())]
    return turns or list(messages)


def sound_calls(messages: Sequence[JSON]) -> list[JSON]:
    """Write calls of earlier turns as all servers take them: others lock a session for good.

    Arguments become a JSON object, which holds what is none; an empty list of calls is left out,
    and a turn without calls has a content (llama.cpp, templates).
    """
    return [_sound_turn(message) for message in messages]


def text_results(messages: Sequence[JSON]) -> list[JSON]:
    """Move pictures and files in results of tools into the message of the user after them.

    Most servers take text alone in a result.
    """
    turns: list[JSON] = []
    media: list[JSON] = []  # of the results that come directly before
    for message in messages:
        if message.get("role") == "tool":
            content = message.get("content")
            texts, others = _parted(content) if isinstance(content, list) else ([], [])
            media += others
            turns.append({**message, "content": texts or _FOLLOWS} if others else message)
            continue
        if media and message.get("role") == "user":
            turns.append({**message, "content": [*media, *_parts(message.get("content"))]})
        else:
            turns += [{"role": "user", "content": media}, message] if media else [message]
        media = []
    return [*turns, {"role": "user", "content": media}] if media else turns


def bridged_results(messages: Sequence[JSON]) -> list[JSON]:
    """Let the assistant speak between a result of a tool and the user, as Mistral demands."""
    turns: list[JSON] = []
    for message in messages:
        if turns and turns[-1].get("role") == "tool" and message.get("role") == "user":
            turns.append({"role": "assistant", "content": _BRIDGE})
        turns.append(message)
    return turns


def without_marks(messages: Sequence[JSON]) -> list[JSON]:
    """Leave out what says where a prompt is cached."""
    return [_unmarked(message) for message in messages]


def without_thoughts(
    messages: Sequence[JSON], *, wanted: frozenset[str] = frozenset()
) -> list[JSON]:
    """Leave out what an assistant thought, and whatever else a reply holds and no request may.

    A turn of which nothing is left is left out. The fields `wanted` stay.
    """
    turns = [_plain_turn(message, wanted) for message in messages]
    return [turn for turn in turns if not _is_empty(turn)]


def with_thoughts(messages: Sequence[JSON]) -> list[JSON]:
    """Give every turn of the assistant a thought, a blank where another engine answered."""
    return [_thoughtful_turn(message) for message in messages]


def signed_calls(messages: Sequence[JSON], *, in_details: bool = False) -> list[JSON]:
    """Sign calls that came without a signature, as Gemini demands: one of a turn is enough.

    OpenRouter has the signatures of calls `in_details` of the turn's reasoning.
    """
    signed = _signed_in_details if in_details else _signed_turn
    return [signed(message) if _calls(message) else message for message in messages]


def named_results(messages: Sequence[JSON]) -> list[JSON]:
    """Name the tool in each of its results, as Gemini demands."""
    names: dict[str, Any] = {}
    turns: list[JSON] = []
    for message in messages:
        for call in _calls(message):
            names[call["id"]] = (call.get("function") or {}).get("name")
        answered = message.get("tool_call_id")
        name = names.get(answered) if isinstance(answered, str) else None
        turns.append({**message, "name": name} if name and not message.get("name") else message)
    return turns


def with_call_ids(messages: Sequence[JSON], *, of: Callable[[str], str]) -> list[JSON]:
    """Rewrite the ids of tool calls, in the calls and in their results alike."""
    return [_with_ids(message, of) for message in messages]


def short_id(call_id: str) -> str:
    """Shorten an id to what OpenAI takes."""
    if len(call_id) <= _LONGEST_ID:
        return call_id
    return f"{call_id[: _LONGEST_ID - 17]}_{_digest(call_id)[:16]}"


def nine_id(call_id: str) -> str:
    """Write an id as Mistral's API takes it: nine letters or digits."""
    return call_id if _NINE.fullmatch(call_id) else _digest(call_id)[:9]


def _digest(text: str) -> str:
    return b32encode(blake2b(text.encode("utf-8", "replace"), digest_size=10).digest()).decode()


def _sound_turn(message: JSON) -> JSON:
    calls = message.get("tool_calls")
    if message.get("role") != "assistant":
        return message
    if not calls:
        said = message.get("content") is not None or any(map(message.get, _SAID_ALSO))
        if said and "tool_calls" not in message:
            return message
        kept = {name: value for name, value in message.items() if name != "tool_calls"}
        return kept if said else {**kept, "content": ""}
    if not isinstance(calls, list):
        return message
    sound = [_sound_call(call) for call in calls]
    same = all(map(lambda a, b: a is b, calls, sound))
    return message if same else {**message, "tool_calls": sound}


def _sound_call(call: Any) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return call
    told = function.get("arguments")
    if isinstance(told, dict):
        arguments = msgspec.json.encode(told).decode()
    elif _is_object(told):
        return call
    else:
        arguments = msgspec.json.encode({"INVALID_JSON": told}).decode() if told else "{}"
    return {**call, "function": {**function, "arguments": arguments}}


def _is_object(text: Any) -> bool:
    try:
        _ARGUMENTS.decode(text)
    except (msgspec.DecodeError, TypeError, RecursionError):
        return False
    return True


def _parted(parts: list[Any]) -> tuple[list[Any], list[Any]]:
    """Part a content into its texts and all else."""
    is_text = [not isinstance(part, dict) or "text" in part for part in parts]
    texts = [part for part, text in zip(parts, is_text, strict=True) if text]
    return texts, [part for part, text in zip(parts, is_text, strict=True) if not text]


def _unmarked(message: JSON) -> JSON:
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    if _MARK not in message and not any(isinstance(p, dict) and _MARK in p for p in parts):
        return message
    plain = {name: value for name, value in message.items() if name != _MARK}
    if parts:
        plain["content"] = [
            {name: value for name, value in part.items() if name != _MARK}
            if isinstance(part, dict)
            else part
            for part in parts
        ]
    return plain


def _is_empty(turn: JSON) -> bool:
    said = ("content", "tool_calls", "function_call", "refusal", "audio")
    return turn.get("role") == "assistant" and not any(turn.get(name) for name in said)


def _plain_turn(message: JSON, wanted: frozenset[str]) -> JSON:
    calls = message.get("tool_calls")
    if message.get("role") != "assistant" or not (calls or message.keys() - _SAID):
        return message
    known = _SAID | wanted
    kept = {
        name: value
        for name, value in message.items()
        if name in known or (name in _SAID_ALSO and value)
    }
    if not isinstance(calls, list):
        return kept
    known = _OF_A_CALL | wanted
    plain = [
        {name: value for name, value in call.items() if name in known}
        if isinstance(call, dict) and call.keys() - known
        else call
        for call in calls
    ]
    return {**kept, "tool_calls": plain}


def _thoughtful_turn(message: JSON) -> JSON:
    if message.get("role") != "assistant" or message.get("reasoning_content"):
        return message
    texts = [message.get(name) for name in ("reasoning", "reasoning_text", "thinking")]
    thought = next((text for text in texts if text and isinstance(text, str)), " ")
    return {**message, "reasoning_content": thought}


def _signed_turn(message: JSON) -> JSON:
    first, *others = message["tool_calls"]
    if any(call.get("extra_content") for call in _calls(message)) or not isinstance(first, dict):
        return message
    signed = {**first, "extra_content": {"google": {"thought_signature": _UNSIGNED}}}
    return {**message, "tool_calls": [signed, *others]}


def _signed_in_details(message: JSON) -> JSON:
    details = message.get("reasoning_details") or []
    kinds = [detail.get("type") for detail in details if isinstance(detail, dict)]
    if "reasoning.encrypted" in kinds:
        return message
    signature = {"type": "reasoning.encrypted", "data": _UNSIGNED, "format": "google-gemini-v1"}
    detail = {**signature, "id": _calls(message)[0]["id"], "index": 0}
    return {**message, "reasoning_details": [*details, detail]}


def _calls(message: JSON) -> list[JSON]:
    calls = message.get("tool_calls") if message.get("role") == "assistant" else None
    made = [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    return [call for call in made if isinstance(call.get("id"), str)]


def _call_ids(message: JSON) -> list[str]:
    return [call["id"] for call in _calls(message)]


def _interrupted(call_id: str) -> JSON:
    return {"role": "tool", "tool_call_id": call_id, "content": _INTERRUPTED}


def _with_ids(message: JSON, of: Callable[[str], str]) -> JSON:
    result_id, calls = message.get("tool_call_id"), message.get("tool_calls")
    if isinstance(result_id, str):
        return {**message, "tool_call_id": of(result_id)}
    if not isinstance(calls, list):
        return message
    named = [
        {**call, "id": of(call["id"])}
        if isinstance(call, dict) and isinstance(call.get("id"), str)
        else call
        for call in calls
    ]
    return {**message, "tool_calls": named}


def _is_texts(message: JSON) -> bool:
    content = message.get("content")
    return isinstance(content, list) and all(
        isinstance(part, dict) and isinstance(part.get("text"), str) for part in content
    )


def _joined(content: Any, more: Any) -> Any:
    """Join texts with a blank line between, and lists of parts to a list."""
    if isinstance(content, str) and isinstance(more, str):
        return f"{content}\n\n{more}"
    return [*_parts(content), *_parts(more)]


def _parts(content: Any) -> list[JSON]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    return "\n\n".join(p["text"] for p in parts if isinstance(p, dict) and "text" in p)
