"""POST /v1/messages, Anthropic's API: what it asks for, as a chat request.

https://docs.claude.com/en/api/messages. Hints that change no answer are ignored and named.
"""

from typing import Any

from msgspec import Struct

from suffice.gateway.apis.fields import Fields, refused
from suffice.gateway.apis.messages_tools import chat_tools, removed_tools
from suffice.gateway.apis.messages_turns import CACHE, system_turns, turns_of_messages
from suffice.gateway.problems import Problem
from suffice.types import JSON

# Fields without an effect here: engines cache by themselves, keep the whole context, and have one
# speed; thoughts are shown as the engine shows them; no other model answers in place of a rung's.
_HINTS = (
    *("context_management", "speed", "diagnostics", "fallbacks", "fallback_credit_token"),
    *("user_profile_id", "workspace_id", "betas", "anthropic_beta", "anthropic_version"),
)
_SAME = ("temperature", "top_p", "top_k")
# The largest budget of each effort, between the budgets that LiteLLM 1.x gives the efforts low,
# medium, high, xhigh and max (1024, 2048, 4096, 8192, 16384: litellm/constants.py).
_EFFORTS = ((1535, "low"), (3071, "medium"), (6143, "high"), (12287, "xhigh"))


class Translated(Struct, frozen=True, kw_only=True):
    """A chat request, and the names of the hints that it could not keep.

    `effort_name` is where the body asks for an effort, which the gateway may not keep either.
    `custom_tools` are those of `Request`.
    """

    chat: JSON
    ignored: tuple[str, ...] = ()
    effort_name: str = "reasoning_effort"
    custom_tools: dict[str, JSON] = {}


def chat_of_message(
    body: object, *, by_policy: bool, counting: bool = False, caches: bool = False
) -> Translated:
    """Translate a body; raises Problem for what chat completions cannot carry.

    A budget for thinking is a limit: where the policy chooses (`by_policy`) it asks for nothing,
    and a rung that is asked for by name gets the nearest effort. A request that is only `counting`
    tokens needs no `max_tokens`. Marks of what to cache stay for an engine that `caches` by them.
    """
    fields = Fields(body, carry=frozenset({CACHE} if caches else ()))
    fields.ignore(*_HINTS)
    limit = fields.take("max_tokens", int) if counting else fields.need("max_tokens", int)
    removed = removed_tools(fields.peek("messages"))
    chat = {
        "model": fields.need("model", str),
        "messages": [*system_turns(fields), *turns_of_messages(fields)],
        **({} if limit is None else {"max_completion_tokens": limit}),
        **fields.hint(CACHE),
        **fields.same(_SAME),
        **_stop(fields),
        **chat_tools(fields, removed=removed),
        **_effort(fields, by_policy=by_policy),
        **_user(fields),
    }
    if fields.take("stream", bool):
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    _thread(fields)
    fields.only("service_tier", ["auto", "standard_only"], why="there are no tiers here")
    fields.only("mcp_servers", [[]], why="servers of tools would run at the vendor's")
    fields.only("inference_geo", ["global"], why="the operator chooses where models run")
    fields.done()
    in_words = isinstance(body, dict) and "effort" in (body.get("output_config") or {})
    return Translated(
        chat=chat,
        ignored=tuple(sorted(fields.ignored)),
        effort_name="output_config.effort" if in_words else "thinking",
    )


def _thread(fields: Fields) -> None:
    """Take a thread that begins, for it sends the whole history; nothing is kept to go on from."""
    thread = fields.inner("thread")
    if thread is None:
        return
    if thread.any("type") == "continue":
        raise Problem(
            "thread: no message is kept here to go on from",
            status=404,
            code="thread_not_found",
            param="thread.previous_message_id",
            hint="send all messages, or begin a thread; official clients do so by themselves",
        )
    fields.ignored.add("thread")


def _stop(fields: Fields) -> JSON:
    stop = fields.take("stop_sequences", list)
    return {"stop": stop} if stop else {}


def _user(fields: Fields) -> JSON:
    metadata = fields.inner("metadata")
    if metadata is None:
        return {}
    user = metadata.take("user_id", str)
    metadata.any("tags")  # the books have them
    metadata.done()
    return {} if user is None else {"user": user}


def _effort(fields: Fields, *, by_policy: bool) -> JSON:
    """Read what is said of thinking: an effort in words, and else a budget or a switch."""
    config, chat = fields.inner("output_config"), _format(fields, "output_format")  # its older name
    effort = _thinking(fields, by_policy=by_policy)
    if config is not None:
        effort = config.take("effort", str) or effort
        chat |= _format(config, "format")
        config.done()
    return chat if effort is None else chat | {"reasoning_effort": effort}


def _thinking(fields: Fields, *, by_policy: bool) -> str | None:
    thinking = fields.inner("thinking")
    if thinking is None:
        return None
    kind = thinking.need("type", str)
    if kind not in ("enabled", "adaptive", "disabled"):
        raise refused(thinking.path("type"), f"{kind!r} is not known here")
    budget = thinking.need("budget_tokens", int) if kind == "enabled" else 0
    thinking.ignore("display", path=True)
    thinking.done()
    return effort_of_budget({"type": kind, "budget_tokens": budget}, by_policy=by_policy)


def effort_of_budget(thinking: JSON, *, by_policy: bool) -> str | None:
    """Return the effort that a budget or a switch asks for; None where it asks for nothing."""
    kind, budget = thinking.get("type"), thinking.get("budget_tokens")
    if kind == "disabled":
        return "none"
    if kind != "enabled" or by_policy or not isinstance(budget, int):
        return None
    return next((effort for most, effort in _EFFORTS if budget <= most), "max")


def _format(config: Fields, name: str) -> JSON:
    wanted: Any = config.inner(name)
    if wanted is None:
        return {}
    wanted.only("type", ["json_schema"], why="json_schema is the one format")
    schema = {"name": "answer", "schema": wanted.need("schema", dict), "strict": True}
    wanted.done()
    return {"response_format": {"type": "json_schema", "json_schema": schema}}
