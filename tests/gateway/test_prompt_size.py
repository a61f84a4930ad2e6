"""A prompt's reserve is above what engines count, whatever a client writes in it."""

from typing import Any

import msgspec
import pytest

from suffice.gateway.prompt_size import MEDIA, most_prompt_tokens
from suffice.types import JSON, Request


def tokens_of(*content: Any, params: JSON | None = None) -> int:
    messages = tuple({"role": "", "content": part} for part in content)
    return most_prompt_tokens(Request(request_id="r", messages=messages, params=params or {}))


def test_the_prompt_is_all_that_an_engine_reads() -> None:
    tools = [{"type": "function", "function": {"name": "abc"}}]
    request = Request(
        request_id="r",
        messages=(
            {"role": "assistant", "content": "1234"},
            {"role": "user", "content": [{"type": "text", "text": "ä"}]},
        ),
        params={"tools": tools, "max_tokens": 5, "metadata": {"a": "b"}},
    )
    roles = len("assistant") + len("user")
    assert most_prompt_tokens(request) == roles + 4 + 2 + len(msgspec.json.encode(tools))


def test_a_text_that_looks_like_an_image_counts_whole() -> None:
    text = "data:image/png;base64," + "word " * 1000
    assert tokens_of(text) == len(text)
    assert tokens_of([{"type": "text", "text": text}]) == len(text)


def test_empty_messages_cost_what_their_roles_do() -> None:
    request = Request(request_id="r", messages=({"role": "user", "content": ""},) * 1000)
    assert most_prompt_tokens(request) == 4000


@pytest.mark.parametrize(
    ("part", "least"),
    [
        ({"image_url": {"url": "https://example.org/a.png", "detail": "high"}}, 1_500),
        ({"image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}, 1_500),
        ({"image_url": "https://example.org/a.png"}, 1_500),
        ({"file": {"file_id": "file-1"}}, 50_000),
        ({"file": {"file_data": "data:application/pdf;base64,JVBERi0="}}, 50_000),
        ({"video_url": {"url": "https://example.org/a.mp4"}}, 50_000),
    ],
)
def test_a_medium_counts_what_it_may_come_to_not_its_address(part: JSON, least: int) -> None:
    assert tokens_of([{"type": next(iter(part)), **part}]) >= least


def test_a_large_medium_counts_by_its_size() -> None:
    image = {"image_url": {"url": "x" * 1_600_000}}
    assert tokens_of([image]) == 100_000
    text_file = {"file": {"file_data": "x" * 1_600_000}}
    assert tokens_of([text_file]) == 1_600_000
    assert tokens_of([{"image_url": None}]) == MEDIA["image_url"].least_tokens


@pytest.mark.parametrize("name", ["response_format", "functions", "documents"])
def test_schemas_and_documents_count_with_the_names_in_them(name: str) -> None:
    value = {"properties": {"x" * 5000: {"enum": list(range(1000))}}}
    assert tokens_of("", params={name: value}) == len(msgspec.json.encode(value))
