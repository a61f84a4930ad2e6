"""Which session a request belongs to, by what agents and proxies send."""

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec.structs import replace

from suffice.types import Request

# The first that is there counts. Claude Code; Codex; common; LiteLLM.
HEADERS = (
    b"x-claude-code-session-id",
    b"session_id",
    b"session-id",
    b"x-session-id",
    b"x-litellm-session-id",
    b"x-session-affinity",
    b"x-opencode-session",
)
FIELDS = (
    "session_id",
    "litellm_session_id",
    "conversation",
    "conversation_id",
    "prompt_cache_key",
)
AGENT_HEADERS = (b"x-claude-code-agent-id", b"thread-id")  # Claude Code and Codex name agents so
_CLAUDE_CODE_USER = re.compile(r"session_([0-9a-fA-F-]{36})")
_LONGEST = 1_000
_NO_HEADERS: Mapping[bytes, bytes] = {}
LEAST_KEY_BYTES, MOST_KEY_BYTES = 16, 64


def session_of(
    headers: Mapping[bytes, bytes], fields: Mapping[str, Any], *, header: str | None = None
) -> str | None:
    """Return a hash of the session's id; None where the client sends none.

    `fields` is the body as the client sent it, and `header` one more header, read first. The id
    itself is not kept: it may name a person.
    """
    named = () if header is None else (header.lower().encode(),)
    for name in (*named, *HEADERS):
        sent = headers.get(name, b"").strip()
        if sent:
            return hashed(sent)
    metadata = fields.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    for source in (fields, metadata):
        for name in FIELDS:
            value = source.get(name)
            value = value.get("id") if isinstance(value, dict) else value
            if isinstance(value, str) and value:
                return hashed(value.encode("utf-8", "replace"))
    user = metadata.get("user_id", fields.get("user"))
    return _session_of_user(user) if isinstance(user, str) else None


def agent_of(request: Request, headers: Mapping[bytes, bytes] = _NO_HEADERS) -> str:
    """Name an agent by a hash of its beginning, which all its turns share.

    Sub-agents that began alike are told apart where the client names them in a header.
    """
    start = msgspec.json.encode(beginning_of(request).messages)
    names = (headers.get(name, b"").strip() for name in AGENT_HEADERS)
    named = next(filter(None, names), b"")[:_LONGEST]
    return blake2b(named + start, digest_size=12).hexdigest()


def beginning_of(request: Request) -> Request:
    """Return the request with all up to its first user message: what an agent began with."""
    first = next((i for i, m in enumerate(request.messages) if m.get("role") == "user"), 0)
    return replace(request, messages=request.messages[: first + 1])


def hashed(session: bytes) -> str:
    """Return the form in which an id is kept: 24 hexadecimal digits."""
    return blake2b(session[:_LONGEST], digest_size=12).hexdigest()


def keyed(name: str, key: bytes) -> str:
    """Return a hash of an id that nobody can confirm a guess of without the key."""
    return blake2b(name.encode(), key=key, digest_size=12).hexdigest()


def owned(session: str, key: str | None) -> str:
    """Return the name of one key's session in the books: other keys may send the same id."""
    if key is None:
        return session
    return blake2b(f"{key}/{session}".encode(), digest_size=12).hexdigest()


def _session_of_user(user: str) -> str | None:
    """Find the session in Anthropic's `user_id`: Claude Code writes it there, plain or as JSON."""
    if user.startswith("{"):
        try:
            inner = msgspec.json.decode(user)
        except msgspec.DecodeError:
            return None
        named = inner.get("session_id") if isinstance(inner, dict) else None
        return hashed(named.encode("utf-8", "replace")) if isinstance(named, str) else None
    match = _CLAUDE_CODE_USER.search(user)
    return hashed(match[1].encode()) if match else None
