"""A session whose policy goes by a check stays while answers pass, and moves up at a boundary."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import gateway_support
import pytest
from gateway_support import CHAT, JSON, LADDER, Call, Site, answer, completion, site
from msgspec.structs import replace

from suffice.certify.bundle import Bundle
from suffice.certify.bundling import settle
from suffice.certify.target import Target
from suffice.guarantee import LabelSource, Per
from support import checked_trials

CHECK = '[check.short]\nkind = "regex"\npattern = "^4$"\nusd = "0.001"\n'
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
CHEAP = """[price.cheap]
input_usd_per_mtok = 0.1
output_usd_per_mtok = 0.1

[[ladder]]"""


@pytest.fixture(autouse=True)
def prices(monkeypatch: pytest.MonkeyPatch) -> None:
    small = 'model = "small-model"\nprice = "flat"'
    ladder = LADDER.replace("[[ladder]]", CHEAP, 1).replace(small, small.replace("flat", "cheap"))
    monkeypatch.setattr(gateway_support, "LADDER", ladder)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    ask = Target(reference="big", label_source=LabelSource.TARGET, alpha=0.05, per=Per.SESSION)
    trials = [replace(trial, cluster=trial.request_id) for trial in checked_trials()]
    certified = settle(trials, ask, say=lambda _stage: None).bundle
    assert certified is not None
    assert any("moves up at its next boundary" in limit for limit in certified.certificate.limits)
    return certified


@pytest.fixture
async def here(tmp_path: Path, bundle: Bundle) -> AsyncIterator[Site]:
    async with site(tmp_path, bundle=bundle, more='route_by = "session"\n' + CHECK) as made:
        yield made


async def ask(here: Site, turns: int = 1, *, more: tuple[JSON, ...] = ()) -> tuple[str, str]:
    """Ask as the given turn of one session; returns the rung, and why it answers."""
    messages: list[JSON] = [{"role": "user", "content": "Mend the build. " * 40}]
    for _ in range(turns - 1):
        messages += [{"role": "assistant", "content": "4"}, {"role": "user", "content": "Go on."}]
    body = {"model": "suffice", "messages": [*messages, *more]}
    url, session = here.url + CHAT, {"x-session-id": "s"}
    async with here.http.post(url, json=body, headers=session) as response:
        assert response.status == 200, await response.text()
        return response.headers["x-suffice-rung"], response.headers["x-suffice-choice"]


def pause(here: Site, *, seconds: float = 400) -> None:
    """Let time pass for the session: what is remembered of it happened earlier."""
    with sqlite3.connect(here.ledger) as books:
        [(text,)] = books.execute("SELECT body FROM suffice_sessions").fetchall()
        body = json.loads(text)
        body["state"]["time_s"] -= seconds
        prefixes = body["state"]["prefixes"]
        body["state"]["prefixes"] = {r: [n, at - seconds] for r, (n, at) in prefixes.items()}
        books.execute("UPDATE suffice_sessions SET body = ?", [json.dumps(body)])
    books.close()


def checks(here: Site) -> int:
    return sum(row["role"] == "check" for row in here.rows())


async def wordy(call: Call) -> None:
    """Let the small model write what does not pass."""
    small = call.body["model"] == "small-model"
    await (call.reply(completion("It is 4.")) if small else answer(call))


async def calls_a_tool(call: Call) -> None:
    await call.reply(completion("", tool_calls=[CALL]))


async def test_while_answers_pass_the_session_stays(here: Site) -> None:
    assert await ask(here) == ("small", "start")
    assert await ask(here, 2) == ("small", "held")
    pause(here)
    assert await ask(here, 3) == ("small", "held")
    first, check = here.rows()[:2]
    assert (first["asked"], check["asked"]) == ("small", "check:short")
    assert first["charge_picousd"] == first["call_picousd"] + 10**9, "its check is paid"
    assert first["certificate_id"] is not None


async def test_after_a_failure_it_moves_up_at_the_next_boundary_for_good(here: Site) -> None:
    here.upstream.script = wordy
    assert await ask(here) == ("small", "start")
    assert here.rows()[-1]["asked"] == "check:short"
    assert await ask(here, 2) == ("small", "held"), "no boundary yet"
    pause(here)
    result = ({"role": "assistant", "content": None, "tool_calls": [CALL]},
              {"role": "tool", "tool_call_id": "c1", "content": "4"})  # fmt: skip
    assert await ask(here, 2, more=result) == ("small", "held"), "never in a tool loop"
    pause(here)
    assert await ask(here, 4) == ("big", "escalated")
    pause(here)
    assert await ask(here, 5) == ("big", "held")
    assert checks(here) == 3, "answers of the reference need no check"


@pytest.mark.parametrize("first", ["small-model", "big-model"])
async def test_requests_at_the_same_time_do_not_undo_a_way_up(here: Site, first: str) -> None:
    """A retry that was sent before the way up may be answered before it, or after it."""
    here.upstream.script = wordy
    assert await ask(here) == ("small", "start")
    done = {"small-model": asyncio.Event(), "big-model": asyncio.Event()}

    async def waits(call: Call) -> None:
        model = call.body["model"]
        if model != first:
            await done[first].wait()
        await answer(call)

    here.upstream.script = waits
    earlier = asyncio.create_task(ask(here, 2)) if first == "big-model" else None
    while earlier is not None and len(here.upstream.calls) < 2:
        await asyncio.sleep(0.01)
    pause(here)
    way_up = asyncio.create_task(ask(here, 2))
    while len(here.upstream.calls) < (3 if earlier else 2):
        await asyncio.sleep(0.01)
    if earlier is None:
        pause(here, seconds=-400)
        earlier = asyncio.create_task(ask(here, 2))
    tasks = {"small-model": earlier, "big-model": way_up}
    await tasks[first]
    done[first].set()
    assert [await earlier, await way_up] == [("small", "held"), ("big", "escalated")]
    assert await ask(here, 3) == ("big", "held")
    pause(here)
    assert await ask(here, 4) == ("big", "held")


async def test_without_a_verdict_it_moves_up(tmp_path: Path, bundle: Bundle) -> None:
    slow = '[check.slow]\nkind = "command"\ncommand = ["sleep", "60"]\ntimeout_s = 0.2\n'
    more = 'route_by = "session"\n' + slow
    async with site(tmp_path, bundle=bundle, more=more) as here:
        assert await ask(here) == ("small", "start")
        pause(here)
        assert await ask(here, 2) == ("big", "escalated")


async def test_a_call_of_a_tool_is_not_checked_and_leaves_no_verdict(here: Site) -> None:
    await ask(here)
    here.upstream.script = calls_a_tool
    assert await ask(here, 2) == ("small", "held")
    assert checks(here) == 1
    here.upstream.script = answer
    pause(here)
    assert await ask(here, 3) == ("big", "escalated")


@pytest.mark.parametrize("streams", ["hold", "route"])
async def test_streams_pass_as_they_come_and_are_checked_before_they_end(
    tmp_path: Path, bundle: Bundle, streams: str
) -> None:
    more = f'route_by = "session"\ndefer_streams = "{streams}"\n' + CHECK
    async with site(tmp_path, bundle=bundle, more=more) as here:
        session = {"x-session-id": "s"}
        parts = [part async for part in await here.chat(stream=True, extra_headers=session)]
        assert "".join(p.choices[0].delta.content or "" for p in parts if p.choices) == "4"
        rows = [(row["asked"], row["role"]) for row in here.rows()]
        assert rows == [("small", "answer"), ("check:short", "check")]
        [(body,)] = sqlite3.connect(here.ledger).execute("SELECT body FROM suffice_sessions")
        assert json.loads(body)["state"]["passed"] is True
