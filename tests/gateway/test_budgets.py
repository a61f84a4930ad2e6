"""A session and a tag may cost what they may, by the header as by the key's default."""

from pathlib import Path

import pytest
from gateway_support import CHAT, Site, site

from suffice.config import parse_config
from suffice.errors import ConfigError
from suffice.gateway.keys import KeyLimits, KeyRights, add_key

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
