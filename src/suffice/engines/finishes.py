"""Why an answer ended: the words of all engines, as clients of the OpenAI API know them."""

from suffice.types import JSON, Finish

FINISHES = {
    "stop": Finish.STOP,
    "end": Finish.STOP,
    "end_turn": Finish.STOP,
    "stop_sequence": Finish.STOP,
    "eos": Finish.STOP,
    "eos_token": Finish.STOP,
    "complete": Finish.STOP,
    "completed": Finish.STOP,
    "finished": Finish.STOP,
    "length": Finish.LENGTH,
    "max_tokens": Finish.LENGTH,
    "max_output_tokens": Finish.LENGTH,
    "max_length": Finish.LENGTH,
    "incomplete": Finish.LENGTH,
    "model_length": Finish.LENGTH,  # Mistral: the context is full
    "model_context_window_exceeded": Finish.LENGTH,  # Anthropic, Zhipu
    "tool_calls": Finish.TOOL_CALLS,
    "tool_use": Finish.TOOL_CALLS,
    "tool_call": Finish.TOOL_CALLS,
    "tool-calls": Finish.TOOL_CALLS,
    "function_call": Finish.TOOL_CALLS,
    "function_calls": Finish.TOOL_CALLS,
    "content_filter": Finish.CONTENT_FILTER,
    "guardrail_intervened": Finish.CONTENT_FILTER,  # Bedrock
    "image_safety": Finish.CONTENT_FILTER,
    "content-filter": Finish.CONTENT_FILTER,
    "content_filtered": Finish.CONTENT_FILTER,  # Bedrock
    "error_toxic": Finish.CONTENT_FILTER,  # Cohere
    "refusal": Finish.CONTENT_FILTER,
    "safety": Finish.CONTENT_FILTER,
    "recitation": Finish.CONTENT_FILTER,
    "prohibited_content": Finish.CONTENT_FILTER,
    "blocklist": Finish.CONTENT_FILTER,
    "spii": Finish.CONTENT_FILTER,
    "sensitive": Finish.CONTENT_FILTER,  # Zhipu
    "user_cancel": Finish.CANCELLED,  # Cohere
    "abort": Finish.CANCELLED,  # vLLM, SGLang
    "cancelled": Finish.CANCELLED,
    "insufficient_system_resource": Finish.CANCELLED,  # DeepSeek
}
FAILURES = frozenset({"error", "network_error"})
_SHOWN = frozenset({Finish.STOP, Finish.LENGTH, Finish.CONTENT_FILTER})


def finish_of(reason: str) -> Finish:
    """Return what a reason to finish means; OTHER for one that is not known here."""
    return FINISHES.get(reason.lower(), Finish.OTHER)


def forces_call(body: JSON) -> bool:
    """Whether a chat request forces the model to call a tool."""
    return body.get("tool_choice") not in (None, "auto", "none")


def shown_finish(reason: str, *, called: bool, forced: bool) -> str:
    """Return the reason that clients are told, of the few that strict ones know.

    Agents go on by it: it is `tool_calls` for an answer that calls, and for no other; but after a
    call that was `forced` OpenAI says `stop`. A reason that is not known here stays as it is.
    """
    finish = finish_of(reason)
    if reason == "function_call" or (reason == "stop" and forced):
        return reason
    if finish in (Finish.STOP, Finish.TOOL_CALLS):
        return (Finish.TOOL_CALLS if called else Finish.STOP).value
    return finish.value if finish in _SHOWN else reason
