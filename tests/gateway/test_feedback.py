"""Feedback comes from whom the answer was given to, once, and stands behind every other mark."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from gateway_support import CHAT, Site, site

from suffice.gateway.keys import KeyLimits, KeyRights, add_key
from suffice.ledger import Label, Ledger, Score, scores_of

ASK = {"model": "suffice", "messages": [{"role": "user", "content": "Hi"}]}


async def ask(here: Site, secret: str) -> str:
    _, answer = await here.post(ASK, path=CHAT, authorization=f"Bearer {secret}")
    return answer["suffice"]["request_id"]


async def say(here: Site, secret: str, request_id: str, **fields: object) -> int:
    said = {"request_id": request_id, "score": 1.0, **fields}
    status, _ = await here.post(said, path="/v1/feedback", authorization=f"Bearer {secret}")
    return status


async def test_only_the_key_that_asked_may_speak_and_once(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    alice, mallory = (add_key(path, name, limits=KeyLimits()) for name in ("alice", "mallory"))
    deaf = add_key(path, "deaf", limits=KeyLimits(), rights=KeyRights(scopes=("chat",)))
    async with site(tmp_path, more=f'keys = "{path}"\n') as here:
        request_id = await ask(here, alice)
        assert await say(here, mallory, request_id) == 404
        assert await say(here, deaf, request_id) == 403
        assert await say(here, alice, request_id, rung="small") == 400
        said = await asyncio.gather(*(say(here, alice, request_id) for _ in range(5)))
        assert sorted(said) == [200, 409, 409, 409, 409]
        with Ledger.open(here.ledger, read_only=True) as ledger:
            assert list(scores_of(ledger)) == [(request_id, None)]


async def test_feedback_counts_as_a_request_of_the_minute(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    alice = add_key(path, "alice", limits=KeyLimits(requests_per_minute=3, parallel_requests=1))
    async with site(tmp_path, more=f'keys = "{path}"\n') as here:
        request_id = await ask(here, alice)
        assert [await say(here, alice, "guess") for _ in range(3)] == [404, 404, 429]
        assert request_id


async def test_a_mark_of_another_kind_is_not_replaced(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        _, answer = await here.post(ASK, path=CHAT)
        request_id, rung = answer["suffice"]["request_id"], answer["suffice"]["rung"]
        mark = Score(
            request_id=request_id,
            time=datetime.now(UTC),
            quality=0.0,
            label=Label.SCORER,
            rung=rung,
        )
        here.gateway.worker.books.ledger.score([mark])
        assert (await here.post({"request_id": request_id, "score": 1}, path="/v1/feedback"))[
            0
        ] == 200
        with Ledger.open(here.ledger, read_only=True) as ledger:
            assert scores_of(ledger)[request_id, rung].quality == 0.0


async def test_a_key_opens_what_its_scopes_say(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    chat = add_key(path, "chat", limits=KeyLimits())
    eyes = add_key(
        path, "eyes", limits=KeyLimits(), rights=KeyRights(scopes=("metrics", "dashboard"))
    )
    admin = add_key(path, "admin", limits=KeyLimits(), rights=KeyRights(scopes=("admin",)))

    async def get(here: Site, where: str, secret: str) -> int:
        headers = {"authorization": f"Bearer {secret}"}
        async with here.http.get(here.url + where, headers=headers) as reply:
            return reply.status

    async with site(tmp_path, more=f'keys = "{path}"\n') as here:
        for where in ("/metrics", "/"):
            assert [await get(here, where, one) for one in (chat, eyes, admin)] == [403, 200, 200]
        statuses = []
        for one in (chat, eyes, admin):
            status, _ = await here.post(ASK, path=CHAT, authorization=f"Bearer {one}")
            statuses.append(status)
        assert statuses == [200, 403, 200]
        assert await get(here, "/v1/models", eyes) == 200


async def test_a_key_asks_for_its_models_alone_by_whatever_name(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    only = add_key(path, "only", limits=KeyLimits(), rights=KeyRights(models=("small",)))
    head = {"authorization": f"Bearer {only}"}
    more = f'keys = "{path}"\nmodels = {{"tiny" = "small", "gpt" = "big"}}\n'
    async with site(tmp_path, more=more) as here:
        for model, status in (("small", 200), ("tiny", 200), ("gpt", 403), ("suffice", 403)):
            assert (await here.post(ASK | {"model": model}, **head))[0] == status
        forced = head | {"x-suffice-rung": "big"}
        assert (await here.post(ASK, **forced))[0] == 403
        async with here.http.get(here.url + "/v1/models", headers=head) as reply:
            assert [model["id"] for model in (await reply.json())["data"]] == ["small"]
