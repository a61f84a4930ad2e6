"""Sessions through the gateway: a rung is held between boundaries, on every worker and replica."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gateway_support
import pytest
from gateway_support import JSON, Call, Site, answer, completion, running, site
from msgspec import json
from msgspec.structs import replace

from suffice.certify.bundle import Bundle, save_bundle
from suffice.certify.bundling import Certification
from suffice.errors import ConfigError
from suffice.gateway.app import Gateway
from suffice.gateway.keys import KeyLimits, add_key
from suffice.gateway.seats import SeatMemory
from suffice.gateway.serving import Settings
from suffice.gateway.worker import open_worker
from suffice.guarantee.clusters import Per
from suffice.ledger import Ledger
from suffice.ledger.sessions import find_session, forget_sessions, keep_session
from suffice.sessions import AgentState, Prefix
from suffice.sessions.identity import agent_of, hashed
from suffice.types import Request, estimated
from support import make_trials, settle_trials

SESSION = "run-7"
BY_SESSION = 'route_by = "session"\n'
CHEAP = """[price.cheap]
input_usd_per_mtok = 0.1
output_usd_per_mtok = 0.1

[[ladder]]"""
LADDER = gateway_support.LADDER.replace("[[ladder]]", CHEAP, 1).replace(
    'model = "small-model"\nprice = "flat"', 'model = "small-model"\nprice = "cheap"'
)
TOOL_CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}


@pytest.fixture(autouse=True)
def prices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_support, "LADDER", LADDER)


@pytest.fixture(scope="module")
def always_small() -> Bundle:
    """A policy that is certified to send every session to the cheap rung."""
    rows = [t for t in make_trials(requests=300) if t.rung in ("small", "big")]
    right = [replace(trial, quality=1.0, answer="4", group=None) for trial in rows]
    settled = settle_trials(right, per=Per.SESSION)
    assert settled.bundle is not None
    return settled.bundle


@pytest.fixture
async def here(tmp_path: Path, always_small: Bundle) -> AsyncIterator[Site]:
    async with site(tmp_path, more=BY_SESSION, bundle=always_small) as made:
        yield made


def opening(text: str = "Mend the build.") -> list[JSON]:
    return [{"role": "system", "content": "You are an agent."}, {"role": "user", "content": text}]


def next_turn(messages: list[JSON], text: str = "Go on.") -> list[JSON]:
    return [*messages, {"role": "assistant", "content": "4"}, {"role": "user", "content": text}]


async def ask(
    here: Site, messages: list[JSON], *, url: str | None = None, session: str | None = SESSION
) -> tuple[str, str]:
    """Ask with a whole history; returns the rung that answered, and why."""
    headers = {} if session is None else {"x-session-id": session}
    body = {"model": "suffice", "messages": messages}
    at = (url or here.url) + "/v1/chat/completions"
    async with here.http.post(at, json=body, headers=headers) as response:
        assert response.status == 200, await response.text()
        return response.headers["x-suffice-rung"], response.headers.get("x-suffice-choice", "")


def remember(
    here: Site, messages: list[JSON], rung: str, *, ago_s: float = 0.0, **fields: Any
) -> None:
    """Write into the books' database what an earlier request would have left there."""
    now_s = datetime.now(UTC).timestamp() - ago_s
    request = Request(request_id="r", messages=tuple(messages))
    tokens = fields.pop("prompt_tokens", estimated(request.text).tokens)
    state = AgentState(
        rung=rung,
        turns=1,
        time_s=now_s,
        prompt_tokens=tokens,
        prefixes={rung: Prefix(tokens, now_s)},
        **fields,
    )
    body = json.encode(SeatMemory(state=state, estimated_tokens=tokens)).decode()
    with Ledger.open(here.ledger) as ledger:
        at = datetime.fromtimestamp(now_s, UTC)
        session_id = hashed(SESSION.encode())
        keep_session(ledger, session_id, agent=agent_of(request), body=lambda _kept: body, at=at)


async def test_an_agent_keeps_the_rung_that_it_began_on(here: Site) -> None:
    messages = opening()
    assert await ask(here, messages) == ("small", "start")
    for _ in range(3):
        messages = next_turn(messages)
        assert await ask(here, messages) == ("small", "held")


async def test_another_gateway_on_the_same_books_keeps_to_it(
    here: Site, always_small: Bundle
) -> None:
    remember(here, opening(), "big")
    settings = Settings(ladder=here.folder / "suffice.toml", policy=here.folder / "bundle")
    async with running(Gateway(settings)) as (url, _):
        assert await ask(here, next_turn(opening()), url=url) == ("big", "held")
        assert await ask(here, next_turn(opening())) == ("big", "held")


async def test_after_a_pause_the_cheaper_rung_is_taken_when_it_pays(here: Site) -> None:
    remember(here, opening(), "big", ago_s=400)
    assert await ask(here, next_turn(opening())) == ("small", "moved")


async def test_a_tool_loop_is_not_broken_by_a_pause(here: Site) -> None:
    remember(here, opening(), "big", ago_s=400)
    result = {"role": "tool", "tool_call_id": "c1", "content": "4"}
    calling = [*opening(), {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]}]
    assert await ask(here, [*calling, result]) == ("big", "held")
    reminded = [*calling, result, {"role": "user", "content": "A reminder."}]
    assert await ask(here, reminded) == ("big", "held")


async def test_after_a_compaction_a_choice_is_made_anew(here: Site) -> None:
    remember(here, opening(), "big", prompt_tokens=90_000)
    assert await ask(here, next_turn(opening())) == ("small", "moved")


async def test_a_sub_agent_of_the_session_begins_anew(here: Site) -> None:
    remember(here, opening(), "big")
    assert await ask(here, opening("Search the docs.")) == ("small", "start")
    assert await ask(here, next_turn(opening())) == ("big", "held")


async def test_sessions_without_a_name_are_told_apart_by_their_beginning(here: Site) -> None:
    assert await ask(here, opening(), session=None) == ("small", "start")
    assert await ask(here, next_turn(opening()), session=None) == ("small", "held")
    assert await ask(here, opening("Another."), session=None) == ("small", "start")


async def test_the_prompt_that_counts_is_the_engines_own(here: Site) -> None:
    async def counted(call: Call) -> None:
        usage = {"prompt_tokens": 17_000, "completion_tokens": 5, "total_tokens": 17_005}
        await call.reply(completion(usage=usage))

    here.upstream.script = counted
    await ask(here, opening())
    agent = agent_of(Request(request_id="r", messages=tuple(opening())))
    with Ledger.open(here.ledger) as ledger:
        kept = find_session(ledger, hashed(SESSION.encode()), agent=agent)
    assert kept is not None
    memory = json.decode(kept, type=SeatMemory)
    assert memory.state.prompt_tokens == 17_000
    assert memory.estimated_tokens < 100
    here.upstream.script = answer
    assert await ask(here, next_turn(opening())) == ("small", "held")  # no compaction


async def test_the_books_name_the_session(here: Site) -> None:
    await ask(here, opening())
    await ask(here, opening(), session=None)
    rows = here.rows()
    assert [row["session_id"] for row in rows] == [hashed(SESSION.encode()), None]
    assert rows[0]["certificate_id"] is not None


async def test_a_named_rung_leaves_the_session_alone(here: Site) -> None:
    remember(here, opening(), "big")
    _, _ = await here.post({"model": "small", "messages": opening()}, **{"x-session-id": SESSION})
    assert await ask(here, next_turn(opening())) == ("big", "held")


async def test_a_promise_about_requests_is_refused(here: Site, settled: Certification) -> None:
    assert settled.bundle is not None
    save_bundle(here.folder / "bundle", settled.bundle)
    settings = Settings(ladder=here.folder / "suffice.toml", policy=here.folder / "bundle")
    with pytest.raises(ConfigError, match="promises per request"):
        await open_worker(settings)


async def test_sessions_are_forgotten_in_time(here: Site) -> None:
    await ask(here, opening())
    with Ledger.open(here.ledger) as ledger:
        assert await asyncio.to_thread(forget_sessions, ledger, before=datetime.now(UTC)) == 1
    assert await ask(here, next_turn(opening())) == ("small", "start")


# -- reports of other people's gateways ----------------------------------------------------------


async def test_a_pause_is_as_long_as_the_client_has_the_cache_live(here: Site) -> None:
    """OpenRouterTeam/ai-sdk-provider#499: stickiness ended after 5 minutes, the cache after 60."""
    marked = opening()
    marked[0]["content"] = [
        {
            "type": "text",
            "text": "Be an agent.",
            "cache_control": {"type": "ephemeral", "ttl": "1h"},
        }
    ]
    remember(here, marked, "big", ago_s=400)
    assert await ask(here, next_turn(marked)) == ("big", "held")
    later = [marked[0], {"role": "user", "content": "Another task."}]
    remember(here, later, "big", ago_s=4000)
    assert await ask(here, next_turn(later)) == ("small", "moved")


async def test_siblings_that_begin_alike_are_told_apart_by_their_header(here: Site) -> None:
    """router-for-me/CLIProxyAPI#4982: sub-agents of Claude Code fell into one."""
    body = {"model": "suffice", "messages": opening()}
    for agent in ("one", "two"):
        headers = {"x-session-id": SESSION, "x-claude-code-agent-id": agent}
        status, _ = await here.post(body, **headers)
        assert status == 200
    assert len({row["conversation_id"] for row in here.rows()}) == 2
    assert len({row["session_id"] for row in here.rows()}) == 1


async def test_a_session_belongs_to_its_key(tmp_path: Path, always_small: Bundle) -> None:
    """BerriAI/litellm#36146: whoever sent the same session id shared its pin."""
    path = tmp_path / "keys.json"
    alice, mallory = (add_key(path, name, limits=KeyLimits()) for name in ("alice", "mallory"))
    more = BY_SESSION + f'keys = "{path}"\n'
    reasons = []
    async with site(tmp_path, more=more, bundle=always_small) as made:
        for secret in (alice, mallory, alice):
            headers = {"x-session-id": SESSION, "authorization": f"Bearer {secret}"}
            body = {"model": "suffice", "messages": opening()}
            url = made.url + "/v1/chat/completions"
            async with made.http.post(url, json=body, headers=headers) as response:
                reasons.append(response.headers["x-suffice-choice"])
    assert reasons == ["start", "start", "held"]
