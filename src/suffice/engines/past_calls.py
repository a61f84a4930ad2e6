"""Calls of tools in earlier turns, and their results, as servers take them."""

import re
from base64 import b32encode
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from suffice.engines.turns import SAID_ALSO
from suffice.types import JSON

_INTERRUPTED = "There is no result: the call was interrupted."
_LONGEST_ID = 40  # that OpenAI takes
_ARGUMENTS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NINE = re.compile(r"[a-zA-Z0-9]{9}")
# ai.google.dev/gemini-api/docs/thought-signatures, for calls that another model made.
_UNSIGNED = "skip_thought_signature_validator"


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
        said = message.get("content") is not None or any(map(message.get, SAID_ALSO))
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
