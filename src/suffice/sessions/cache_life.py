"""How long the cache keeps a prompt, where the request itself says so."""

from collections.abc import Iterator, Mapping
from typing import Any

_TTL_S = {"5m": 300.0, "1h": 3600.0}  # of Anthropic's `cache_control`
_RETENTION_S = {"24h": 86_400.0}  # of OpenAI's `prompt_cache_retention`


def cache_life_of(fields: Mapping[str, Any], *, default_s: float) -> float:
    """Return the seconds that a cache keeps what nobody reads; the longest that is asked for.

    `fields` is the body as the client sent it.
    """
    retention = fields.get("prompt_cache_retention")
    asked = [_TTL_S.get(ttl, 0.0) for ttl in _ttls(fields)]
    asked.append(_RETENTION_S.get(retention, 0.0) if isinstance(retention, str) else 0.0)
    return max(asked) or default_s


def _ttls(fields: Mapping[str, Any]) -> Iterator[str]:
    blocks = [fields, *_objects(fields.get("system")), *_objects(fields.get("tools"))]
    for message in _objects(fields.get("messages")):
        blocks += [message, *_objects(message.get("content"))]
    for block in blocks:
        control = block.get("cache_control")
        ttl = control.get("ttl") if isinstance(control, dict) else None
        if isinstance(ttl, str):
            yield ttl


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
