"""How a session came out: once for each kind, however late, and only from keys that may say it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from gateway_support import CHAT, Site, site
from postgres_server import new_books

from suffice.gateway.keys import KeyLimits, KeyRights, add_key, rotate_key
from suffice.ledger import Ledger, entries
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
            prune(ledger, before=datetime.now(UTC) + timedelta(days=1), sampled=True)
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


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_keys_that_send_one_session_id_do_not_share_its_outcome(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    where = new_books(database, tmp_path, request)
    path, scopes = tmp_path / "keys.json", {"a": "chat", "b": "chat", "ci": "metrics"}
    secrets = {
        name: add_key(path, name, limits=KeyLimits(), rights=KeyRights(scopes=(scope, "outcomes")))
        for name, scope in scopes.items()
    }
    async with site(tmp_path, ledger=where, more=f'keys = "{path}"\n') as here:

        async def says(name: str, session: str, score: float, **more: str) -> object:
            said = {"session": session, "score": score, "kind": "tests", **more}
            bearer = {"authorization": f"Bearer {secrets[name]}"}
            status, answer = await here.post(said, path="/v1/outcomes", **bearer)
            return answer["status"] if status == 200 else (status, answer["error"]["param"])

        for name, session in (("a", "default"), ("b", "default"), ("a", "only a")):
            bearer = {"authorization": f"Bearer {secrets[name]}"}
            assert (await here.post(ASK, path=CHAT, session_id=session, **bearer))[0] == 200
        assert await says("a", "default", 0) == "booked"
        with Ledger.open(where, read_only=True) as ledger:
            session_of = {entry.key_id: entry.session_id for entry in entries(ledger)}
            rows = {entry.session_id for entry in entries(ledger)}
        assert len(rows) == 3
        assert await says("b", "default", 1) == "booked"
        assert await says("ci", "default", 1) == (409, "key")
        assert await says("ci", "default", 1, key="b") == "repeated"
        assert await says("ci", "default", 1, key="a") == (409, "score")
        assert await says("b", "only a", 0) == (404, "session")
        assert await says("ci", "only a", 1) == "booked"
        assert await says("a", "only a", 1) == "repeated"
        with Ledger.open(where, read_only=True) as ledger:
            scores = [(o.session_id == session_of["b"], o.score) for o in outcomes_of(ledger)]
    assert scores == [(False, 0), (True, 1), (False, 1)]


async def test_a_session_under_a_keyed_hash_gets_its_outcome(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a" * 32)
    async with site(tmp_path, more=f'id_key_file = "{tmp_path / "secret"}"\n') as here:
        await here.post(ASK, path=CHAT, session_id="run-1")
        assert await say(here, "run-1") == (200, "booked")
        with Ledger.open(here.ledger, read_only=True) as ledger:
            [outcome] = outcomes_of(ledger)
        assert outcome.session_id == here.rows()[0]["session_id"]


async def test_a_rotated_key_keeps_its_sessions(tmp_path: Path) -> None:
    """The name of a key stays when its secret changes, and sessions belong to the name."""
    path = tmp_path / "keys.json"
    rights = KeyRights(scopes=("chat", "outcomes"))
    keys = [add_key(path, "app", limits=KeyLimits(), rights=rights)]
    keys.append(rotate_key(path, "app", overlap=timedelta(hours=1)))
    async with site(tmp_path, more=f'keys = "{path}"\n') as here:
        for key in keys:
            bearer = {"authorization": f"Bearer {key}"}
            assert (await here.post(ASK, path=CHAT, session_id="run-1", **bearer))[0] == 200
        first, second = here.rows()
        assert first["session_id"] == second["session_id"]
        said = {"session": "run-1", "score": 1, "kind": "tests"}
        for key, status in zip(keys, ("booked", "repeated"), strict=True):
            bearer = {"authorization": f"Bearer {key}"}
            assert (await here.post(said, path="/v1/outcomes", **bearer))[1]["status"] == status
