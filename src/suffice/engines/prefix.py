"""Going on from the start of an answer: a prompt as the model reads it, and a raw completion.

Chat endpoints part reasoning from text and close an answer once it is given back to them, so a
prefix that ends inside the reasoning goes through `/v1/completions`.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from msgspec import Struct

from suffice.engines.dialect import Dialect
from suffice.engines.finishes import finish_of
from suffice.errors import EngineError, EngineProtocolError, EngineRefused
from suffice.types import JSON, Effort, Finish, Rung

Prompt = str | list[int]
Ask = Callable[[str, JSON], Awaitable[JSON]]

# The fields of a chat request that a raw completion takes too; the rest is about messages.
_RAW_FIELDS = """
    model temperature top_p top_k min_p typical_p seed stop stop_token_ids presence_penalty
    frequency_penalty repetition_penalty repeat_penalty logit_bias cache_prompt cache_salt priority
"""
_SAMPLING = frozenset(_RAW_FIELDS.split())


class RawChat(Struct, frozen=True, kw_only=True):
    """A chat as it would be sent to a server of a dialect, and the rung that it is for."""

    body: JSON
    rung: Rung
    dialect: Dialect


class Raw(Struct, frozen=True, kw_only=True):
    """A raw completion: its text with all tags, why it ended, and its tokens' log-probabilities."""

    text: str
    finish: Finish
    logprobs: tuple[float, ...] | None


def cannot_extend(who: str) -> EngineError:
    """Return the error of an engine that cannot go on from the start of an answer."""
    return EngineError(
        f"{who} cannot go on from the start of an answer",
        hint="early stop needs an embedded engine, or dialect llamacpp or vllm",
    )


async def lay_out(ask: Ask, layout: RawChat, *, written: str) -> Prompt:
    """Return a chat and the start of its answer as the prompt that the model reads.

    `ask` posts JSON to a path of the server. Raises EngineError where the server has no such path.
    """
    renders = layout.dialect.renders
    if renders is None:
        raise cannot_extend(f"the {layout.dialect.name} API")
    try:
        if renders == "apply-template":
            return f"{(await ask('/apply-template', _chat(layout)))['prompt']}{written}"
        start = (await ask("/tokenize", _chat(layout)))["tokens"]
        prefix = {"model": layout.rung.model, "prompt": written, "add_special_tokens": False}
        return [*start, *((await ask("/tokenize", prefix))["tokens"] if written else ())]
    except (KeyError, TypeError) as error:
        raise cannot_extend(f"what answered as a {layout.dialect.name} server") from error
    except EngineRefused as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        raise cannot_extend(f"this {layout.dialect.name} server") from error


def _chat(layout: RawChat) -> JSON:
    """Build what a server is asked to lay out a chat.

    vLLM makes template arguments of the effort when it answers a chat, and not when it tokenizes.
    """
    body, effort = layout.body, layout.rung.effort
    arguments = dict(body.get("chat_template_kwargs") or {})
    if layout.dialect.renders == "tokenize" and effort is not None:
        thinks = effort is not Effort.NONE
        arguments = {"reasoning_effort": effort.value, "enable_thinking": thinks} | arguments
    chat = {"model": body["model"], "messages": body["messages"]}
    chat |= {"tools": body["tools"]} if body.get("tools") else {}
    return chat | {"add_generation_prompt": True, "chat_template_kwargs": arguments}


def raw_body(layout: RawChat, prompt: Prompt) -> JSON:
    """Build the raw completion that goes on from a prompt."""
    body = layout.body
    raw = {field: value for field, value in body.items() if field in _SAMPLING}
    raw |= {"prompt": prompt, "stream": False}
    limit = body.get(layout.dialect.limits[0])
    if limit is not None:
        raw["max_tokens"] = limit
    if body.get("logprobs"):
        raw["logprobs"] = 1
    return raw


def read_raw(reply: JSON) -> Raw:
    """Read a raw completion; raises EngineProtocolError for what is none."""
    try:
        choice = reply["choices"][0]
        return Raw(
            text=str(choice["text"]),
            finish=finish_of(choice["finish_reason"]),
            logprobs=_logprobs(choice.get("logprobs") or {}),
        )
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise EngineProtocolError(
            f"the engine sent what is no completion: {str(reply)[:200]}",
            hint="does it serve /v1/completions for this model?",
        ) from error


def _logprobs(table: JSON) -> tuple[float, ...] | None:
    """Read them as llama.cpp writes them (in the form of a chat), or as OpenAI once did."""
    content = table.get("content")
    values = table.get("token_logprobs") if content is None else [e["logprob"] for e in content]
    return tuple(float(value) for value in values or () if value is not None) or None
