"""How a session came out: once for each kind, however late, and only from keys that may say it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway_support import CHAT, Site, site

from suffice.gateway.keys import KeyLimits, KeyRights, add_key
from suffice.ledger import Ledger
from suffice.ledger.outcomes import outcomes_of
from suffice.ledger.retention import prune

ASK = {"model": "big", "messages": [{"role": "user", "content": "Hi"}]}


async def say(here: Site, session: str, score: object = 1, **more: object) -> tuple[int, str]:
    said = {"session": session, "score": score, "kind": "tests", **more}
    status, answer = await here.post(said, path="/v1/outcomes")
    return status, answer.get("status") or answer["error"]["message"]


async def test_the_first_word_of_a_kind_counts_however_late(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.post(ASK, path=CHAT, session_id="run-1")
        assert await say(here, "run-1") == (200, "booked")
        assert await say(here, "run-1") == (200, "repeated")
        status, message = await say(here, "run-1", 0)
        assert status == 409
        assert "another outcome of the kind 'tests'" in message
        assert await say(here, "run-1", 0, kind="ticket") == (200, "booked")
        status, message = await say(here, "run-2")
        assert status == 404
        assert "no request of session 'run-2'" in message
        with Ledger.open(here.ledger) as ledger:
            assert [(o.kind, o.score) for o in outcomes_of(ledger)] == [("tests", 1), ("ticket", 0)]
            assert len(outcomes_of(ledger, kinds=["ticket"])) == 1
            assert "run-1" not in str(outcomes_of(ledger)), "an id may name a person"
            prune(ledger, before=datetime.now(UTC) + timedelta(days=1), audited=True)
            assert outcomes_of(ledger) == (), "what is said of a session goes with it"


async def test_what_is_no_outcome_is_refused(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        for bad in (2, -1, "good", None):
            assert (await say(here, "run-1", bad))[0] == 400
        assert (await say(here, ""))[0] == 400
        assert (await say(here, "run-1", rung="big"))[0] == 400


async def test_it_takes_a_scope_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    coder = add_key(path, "coder", limits=KeyLimits())
    tests = add_key(path, "ci", limits=KeyLimits(), rights=KeyRights(scopes=("outcomes",)))
    said = {"session": "run-1", "score": 1, "kind": "tests"}
    async with site(tmp_path, more=f'keys = "{path}"\n') as here:
        for key, chat, outcome in ((coder, 200, 403), (tests, 403, 200)):
            bearer = {"authorization": f"Bearer {key}"}
            assert (await here.post(ASK, path=CHAT, session_id="run-1", **bearer))[0] == chat
            assert (await here.post(said, path="/v1/outcomes", **bearer))[0] == outcome
