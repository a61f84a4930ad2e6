"""The most tokens that a prompt may come to, before any engine has counted them."""

from typing import Any, NamedTuple

import msgspec

from suffice.types import JSON, Request


class MediumSize(NamedTuple):
    """What a medium may come to: a token holds `characters` of its base64, and none is smaller."""

    least_tokens: int
    characters: int


# An image in full resolution; a sound; a film; a document of some 50 pages, or a text in base64.
MEDIA = {
    "image_url": MediumSize(5_000, 16),
    "input_audio": MediumSize(5_000, 16),
    "audio_url": MediumSize(100_000, 16),
    "video_url": MediumSize(100_000, 16),
    "file": MediumSize(100_000, 1),
}
_UNREAD = ("prediction", "metadata", "logit_bias")  # by the model; it sees others as JSON


def most_prompt_tokens(request: Request) -> int:
    """Count what an engine reads at most: messages, tools, schemas, documents."""
    read = [
        value
        for name, value in request.params.items()
        if isinstance(value, dict | list) and name not in _UNREAD
    ]
    return most_tokens(*request.messages) + sum(len(msgspec.json.encode(value)) for value in read)


def most_tokens(*values: JSON) -> int:
    """Count what messages or their parts come to at most: a token is hardly ever below a byte."""
    tokens, rest = 0, list[Any](values)
    while rest:
        value = rest.pop()
        if isinstance(value, str):
            tokens += len(value.encode())
        elif isinstance(value, list):
            rest += value
        elif isinstance(value, dict):
            for name, inner in value.items():
                if name in MEDIA:
                    size = MEDIA[name]
                    tokens += max(size.least_tokens, _characters(inner) // size.characters)
                elif name != "type":
                    rest.append(inner)
    return tokens


def _characters(medium: Any) -> int:
    """Return the length of a medium: its data or address, as a text or inside an object."""
    inner = medium.values() if isinstance(medium, dict) else (medium,)
    return sum(len(value) for value in inner if isinstance(value, str))
