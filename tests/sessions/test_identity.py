"""The session of a request, as agents and proxies send it, and the agent within."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suffice.sessions.identity import agent_of, beginning_of, hashed, session_of
from suffice.types import Request

ID = "0f3c7a52-8d9e-4b1a-9c55-1e2d3f4a5b6c"
ANTHROPIC = f"user_{'a' * 64}_account_{ID[::-1]}_session_{ID}"


@pytest.mark.parametrize(
    ("headers", "fields"),
    [
        ({b"x-claude-code-session-id": ID.encode()}, {}),
        ({b"session_id": ID.encode()}, {}),
        ({b"x-session-id": b" " + ID.encode()}, {}),
        ({b"x-litellm-session-id": ID.encode()}, {}),
        ({b"x-session-affinity": ID.encode()}, {}),
        ({b"x-opencode-session": ID.encode()}, {}),
        ({}, {"conversation_id": ID}),
        ({}, {"metadata": {"user_id": ANTHROPIC}}),
        ({}, {"user": ANTHROPIC}),
        ({}, {"metadata": {"user_id": f'{{"device_id": "d", "session_id": "{ID}"}}'}}),
        ({}, {"prompt_cache_key": ID}),
        ({}, {"metadata": {"session_id": ID}}),
        ({}, {"litellm_session_id": ID}),
        ({}, {"conversation": {"id": ID}}),
        ({}, {"conversation": ID, "prompt_cache_key": "another"}),
        ({b"x-run": ID.encode(), b"session_id": b"another"}, {}),
    ],
)
def test_each_way_to_name_a_session_is_read(
    headers: dict[bytes, bytes], fields: dict[str, object]
) -> None:
    assert session_of(headers, fields, header="X-Run") == hashed(ID.encode())


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"user": "alice"},
        {"user": 7, "metadata": None},
        {"metadata": {"user_id": "{broken"}},
        {"metadata": {"user_id": "[1]"}},
        {"metadata": {"user_id": '{"session_id": 3}'}},
        {"conversation": None, "prompt_cache_key": ""},
    ],
)
def test_a_request_that_names_none_has_none(fields: dict[str, object]) -> None:
    assert session_of({}, fields) is None


@given(st.dictionaries(st.text(), st.recursive(st.none() | st.text(), st.lists, max_leaves=4)))
def test_any_body_is_read_and_no_id_is_kept_in_the_open(fields: dict[str, object]) -> None:
    kept = session_of({}, {**fields, "session_id": "secret of alice"})
    assert kept is not None
    assert "alice" not in kept
    session_of({}, fields)


def test_an_agent_is_its_beginning() -> None:
    start = ({"role": "system", "content": "Search."}, {"role": "user", "content": "Find x."})
    later = (*start, {"role": "assistant", "content": "Found."}, {"role": "user", "content": "y"})
    first, then = (Request(request_id="r", messages=messages) for messages in (start, later))
    assert beginning_of(then).messages == start
    assert agent_of(first) == agent_of(then)
    other = Request(request_id="r", messages=({"role": "system", "content": "Plan."}, start[1]))
    assert agent_of(other) != agent_of(first)
    assert agent_of(Request(request_id="r", messages=()))


@pytest.mark.parametrize("header", [b"x-claude-code-agent-id", b"thread-id"])
def test_agents_that_begin_alike_are_told_apart_by_their_header(header: bytes) -> None:
    """All agents of Codex begin with the same instructions and the same folder."""
    request = Request(request_id="r", messages=({"role": "user", "content": "<cwd>/w</cwd>"},))
    first, other = ({header: name, b"session-id": b"s"} for name in (b"one", b"two"))
    assert agent_of(request, first) == agent_of(request, first)
    assert len({agent_of(request, headers) for headers in (first, other, {})}) == 3
