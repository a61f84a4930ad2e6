"""Tags of a request: the words that the books keep sums by, from wherever clients write them."""

from collections.abc import Iterable, Mapping
from typing import Any

from suffice.gateway.keys import Key
from suffice.ledger.tags import tags_in, tags_of

HEADERS = (b"x-suffice-tags", b"x-suffice-tag", b"x-litellm-tags")
_OBJECTS = ("metadata", "litellm_metadata")  # of OpenAI and Anthropic; of LiteLLM


def request_tags(
    headers: Mapping[bytes, bytes],
    fields: Mapping[str, Any],
    *,
    key: Key | None,
    metadata: Iterable[str],
) -> tuple[str, ...]:
    """Return the tags of headers and body, or those of the key where neither has any.

    `fields` is the body as the client sent it. Of its metadata `tags` counts, and each name in
    `metadata` makes a tag NAME:VALUE.
    """
    words = [headers.get(name, b"").decode("utf-8", "replace") for name in HEADERS]
    words = [tag for text in words for tag in tags_in(text)]
    for place in _OBJECTS:
        inner = fields.get(place)
        inner = inner if isinstance(inner, dict) else {}
        sent = inner.get("tags")
        words += tags_in(sent) if isinstance(sent, str) else ()
        words += [one for one in sent if isinstance(one, str)] if isinstance(sent, list) else ()
        named = ((name, inner.get(name)) for name in metadata)
        words += [f"{name}:{value}" for name, value in named if value and isinstance(value, str)]
    return tags_of(words) or (tags_in(key.tag) if key else ())


def without_tags(params: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what engines refuse: LiteLLM's fields, and tags among the metadata."""
    rest = {name: value for name, value in params.items() if not name.startswith("litellm_")}
    metadata = rest.get("metadata")
    if isinstance(metadata, dict) and "tags" in metadata:
        rest["metadata"] = {name: value for name, value in metadata.items() if name != "tags"}
    return rest
