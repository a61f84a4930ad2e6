"""What an answer costs beside its tokens at their usual rates: searches of the web, and tiers."""

import re

from msgspec.structs import replace

from suffice.types import ASKED_TIER, JSON, Count, CountSource, Usage

_UNLIMITED = 5  # searches that one field or tool stands for, where it sets no limit
_FIELDS = (
    "web_search_options",  # OpenAI, Perplexity
    "search_parameters",  # xAI
    "enable_search",  # Qwen
    "search_options",
)
_TOOL = re.compile(r"(web|x|browser)_?search|builtin_function")  # the last one is Moonshot's


def most_searches(params: JSON) -> int:
    """Count the searches that the fields of a request allow; 0 where they ask for none.

    `max_tool_calls` bounds those of all tools together (Responses API), `max_uses` those of one
    tool (Anthropic).
    """
    count = sum(_UNLIMITED for name in _FIELDS if params.get(name) not in (None, False))
    for tool in _tables(params.get("tools")):
        if _TOOL.search(str(tool.get("type"))):
            count += _limit(tool.get("max_uses")) or _UNLIMITED
    plugins = _tables(params.get("plugins"))  # OpenRouter
    count += sum(_UNLIMITED for plugin in plugins if plugin.get("id") == "web")
    return min(count, _limit(params.get("max_tool_calls")) or count)


def with_surcharges(usage: Usage, body: JSON, *, reported: object, tier: object = None) -> Usage:
    """Add what a body asks for and the engine does not report: its tier, and one search.

    OpenAI charges a fee for a request that searches, and counts no search. `tier` is what the reply
    names.
    """
    tier = tier or usage.service_tier
    if not tier and isinstance(body.get("service_tier"), str):
        tier = body["service_tier"] + ASKED_TIER
    if isinstance(tier, str) and tier != usage.service_tier:
        usage = replace(usage, service_tier=tier)
    if not most_searches(body) or "search" in str(reported):
        return usage
    return replace(usage, kinds={**usage.kinds, "web_searches": Count(1, CountSource.ESTIMATED)})


def _limit(value: object) -> int | None:
    """Read a limit of calls; what is none does not bound them."""
    return value if type(value) is int and value > 0 else None


def _tables(values: object) -> list[JSON]:
    return [v for v in values if isinstance(v, dict)] if isinstance(values, list) else []
