"""A session and a tag may cost what they may, by the header as by the key's default."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from gateway_support import CHAT, Site, site

from suffice.config import parse_config
from suffice.errors import ConfigError
from suffice.gateway.keys import KeyLimits, KeyRights, add_key
from suffice.ledger import Attempt, Entry, Ledger, Role, Status, entries
from suffice.types import Charge

ASK = {"model": "big", "messages": [{"role": "user", "content": "Hi"}]}  # costs $0.000025


async def status_of(here: Site, **headers: str) -> tuple[int, str]:
    status, answer = await here.post(ASK, path=CHAT, **headers)
    return status, "" if status == 200 else answer["error"]["message"]


async def test_a_session_ends_at_its_budget(tmp_path: Path) -> None:
    async with site(tmp_path, more='session_budget_usd = "0.00005"\n') as here:
        got = [await status_of(here, session_id="one") for _ in range(3)]
        assert [status for status, _ in got] == [200, 200, 429]
        assert "the budget of this session is spent: $0.00005" in got[-1][1]
        assert (await status_of(here, session_id="two"))[0] == 200
        assert (await status_of(here))[0] == 200


async def test_a_tag_ends_at_its_budget_however_it_is_named(tmp_path: Path) -> None:
    """BerriAI/litellm#27480: tags in a header were booked, and their budget was not held."""
    path = tmp_path / "keys.json"
    web = add_key(path, "web", limits=KeyLimits(), rights=KeyRights(tag="web"))
    other = add_key(path, "other", limits=KeyLimits())
    more = f'tag_budget_usd_per_day = {{web = "0.00005"}}\nkeys = "{path}"\n'
    async with site(tmp_path, more=more) as here:
        by_key = {"authorization": f"Bearer {web}"}
        by_header = {"authorization": f"Bearer {other}", "x-suffice-tag": "web"}
        assert (await status_of(here, **by_key))[0] == 200
        assert (await status_of(here, **by_header))[0] == 200
        for headers in (by_key, by_header):
            status, message = await status_of(here, **headers)
            assert status == 429
            assert "the tag 'web' today" in message
        assert (await status_of(here, authorization=f"Bearer {other}"))[0] == 200


@pytest.mark.parametrize("budget", ["session_budget_usd = 0", "tag_budget_usd_per_day = {a = -1}"])
def test_a_budget_of_nothing_is_refused(budget: str) -> None:
    ladder = '[engine.e]\nkind = "openai"\nurl = "http://h/v1"\n[[ladder]]\nname = "big"\n'
    ladder += 'engine = "e"\nmodel = "m"\n[gateway]\n'
    with pytest.raises(ConfigError, match="budget"):
        parse_config(f'reference = "big"\n{ladder}{budget}\n')


async def test_a_session_of_another_key_is_another_session(tmp_path: Path) -> None:
    """BerriAI/litellm#36146: two keys that chose one id for their sessions shared its state."""
    path = tmp_path / "keys.json"
    keys = [add_key(path, name, limits=KeyLimits()) for name in ("one", "two")]
    more = f'session_budget_usd = "0.00002"\nkeys = "{path}"\n'
    async with site(tmp_path, more=more) as here:
        for key in keys:
            by_key = {"authorization": f"Bearer {key}", "session_id": "s"}
            assert (await status_of(here, **by_key))[0] == 200
            assert (await status_of(here, **by_key))[0] == 429


async def test_a_budget_of_a_tag_begins_anew_every_day(tmp_path: Path) -> None:
    """BerriAI/litellm#27481: once over its budget, a tag was refused for ever."""
    now = datetime.now(UTC)
    spent: dict[str, Any] = {
        "tags": ("web",),
        "status": Status.OK,
        "rung": "big",
        "reference_rung": "big",
    }
    attempt = Attempt(rung="big", role=Role.ANSWER, charge=Charge(usd=Decimal(9)))
    async with site(tmp_path, more='tag_budget_usd_per_day = {web = "0.00005"}\n') as here:
        for days in (1, 2):
            at = now - timedelta(days=days)
            entry = Entry(request_id=f"old{days}", time=at, attempts=(attempt,), **spent)
            here.gateway.worker.books.ledger.append(entry)
        assert (await status_of(here, **{"x-suffice-tags": "web"}))[0] == 200
        today = Entry(request_id="new", time=now, attempts=(attempt,), **spent)
        here.gateway.worker.books.ledger.append(today)
        status, message = await status_of(here, **{"x-suffice-tags": "web"})
    assert (status, "the tag 'web' today is spent" in message) == (429, True)


async def test_tags_come_from_wherever_clients_write_them(tmp_path: Path) -> None:
    """LiteLLM's metadata, OpenAI's, several headers; the key's own only where there are none."""
    path = tmp_path / "keys.json"
    secret = add_key(path, "web", limits=KeyLimits(), rights=KeyRights(tag="web, night"))
    by_key = {"authorization": f"Bearer {secret}"}
    messages: dict[str, Any] = {"model": "big", "messages": ASK["messages"], "max_tokens": 9}
    async with site(tmp_path, more=f'keys = "{path}"\n') as here:
        await here.post(ASK, path=CHAT, **by_key)
        await here.post(ASK, path=CHAT, **by_key, **{"x-suffice-tags": "b, a,,b"})
        litellm = {"metadata": {"tags": ["c", "d"], "team": "core", "trace": "9"}}
        await here.post(ASK | litellm, path=CHAT, **by_key, **{"x-litellm-tags": "a"})
        for body in ({"litellm_metadata": {"tags": ["e"]}}, {"metadata": {"tags": "g"}}):
            status, _ = await here.post(messages | body, path="/v1/messages", **by_key)
            assert status == 200
        asked = {"model": "big", "input": "Hi", "litellm_metadata": {"tags": "f"}}
        assert (await here.post(asked, path="/v1/responses", **by_key))[0] == 200
        await here.post({"model": "nobody", "messages": []}, path=CHAT, **by_key)
    with Ledger.open(here.ledger, read_only=True) as books:
        booked = [entry.tags for entry in entries(books)]
    assert booked == [
        ("night", "web"),
        ("a", "b"),
        ("a", "c", "d", "team:core"),
        ("e",),
        ("g",),
        ("f",),
        ("night", "web"),
    ]


async def test_what_is_in_flight_is_reserved(tmp_path: Path) -> None:
    """Twenty at once overspend a budget by one request at most, and a refusal keeps nothing."""
    more = 'tag_budget_usd_per_day = {web = "0.00005"}\nsession_budget_usd = "0.00005"\n'
    async with site(tmp_path, more=more) as here:
        for headers in ({"x-suffice-tags": "other,web"}, {"session_id": "s"}):
            asks = (status_of(here, **headers) for _ in range(20))
            statuses = [status for status, _ in await asyncio.gather(*asks)]
            assert 1 <= statuses.count(200) <= 2
            assert set(statuses) == {200, 429}
            while (await status_of(here, **headers))[0] == 200:
                statuses.append(200)
            assert statuses.count(200) == 2
        _, message = await status_of(here, session_id="s")
        assert "the budget of this session is spent" in message
