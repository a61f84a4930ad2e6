"""What goes wrong: broken upstreams, clients that leave, full queues and disks, a kill."""

import asyncio
import json
import logging
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import openai
import pytest
from gateway_support import CHAT, DONE, Call, Site, answer, chunk, site, usage_event
from postgres_server import new_schema

from suffice.config import GatewayConfig
from suffice.errors import EngineUnreachable, LedgerError
from suffice.gateway import concurrency as slots
from suffice.gateway import worker as workers
from suffice.gateway.app import Gateway
from suffice.gateway.protocol import BoundedProtocol
from suffice.gateway.server_config import ServerConfig
from suffice.gateway.serving import Settings
from suffice.ledger import Ledger, Status, entries


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as made:
        yield made


async def breaks_off(call: Call) -> None:
    await call.events()
    await call.write(chunk("The answer is "))


async def malformed(call: Call) -> None:
    await breaks_off(call)
    await call.write(b'data: {"choices": [}\n\n')
    await call.gone()


async def error_inside(call: Call) -> None:
    await breaks_off(call)
    await call.write(b'data: {"error": {"message": "out of memory", "code": 500}}\n\n')


async def silent(call: Call) -> None:
    await breaks_off(call)
    await call.gone()


@pytest.mark.parametrize("script", [breaks_off, malformed, error_inside])
async def test_a_broken_stream_is_an_error_and_never_an_end(here: Site, script: object) -> None:
    here.upstream.script = script
    with pytest.raises(openai.APIError):  # at once, where all of it came in one piece
        assert await _finishes(await here.chat(stream=True)) == ["never comes so far"]
    row = await here.row()
    assert (row["status"], row["rung"], row["output_source"]) == ("failed", None, "estimated")
    assert row["charge_picousd"] > 0
    assert row["charge_estimated"]


async def test_a_broken_stream_ends_with_a_closed_connection(
    here: Site, caplog: pytest.LogCaptureFixture
) -> None:
    uvicorns = logging.getLogger("uvicorn.error")
    uvicorns.addHandler(caplog.handler)
    caplog.set_level(logging.ERROR, "uvicorn.error")
    here.upstream.script = breaks_off
    body = {"model": "big", "messages": [{"role": "user", "content": "x"}], "stream": True}
    async with here.http.post(f"{here.url}/v1/chat/completions", json=body) as response:
        seen = b""
        with suppress(aiohttp.ClientPayloadError):
            async for piece in response.content.iter_any():
                seen += piece
            pytest.fail("the body came to a normal end")
    assert b"[DONE]" not in seen
    last = seen.strip().rpartition(b"data: ")[2]
    assert json.loads(last)["error"]["code"] == "upstream_broken"
    await asyncio.sleep(0.05)
    uvicorns.removeHandler(caplog.handler)
    assert not caplog.records, "an operator reads no error without a cause"


@pytest.mark.parametrize("streamed", [False, True])
async def test_when_the_client_leaves_the_upstream_is_left_and_charged(
    here: Site, streamed: bool
) -> None:
    left = asyncio.Event()

    async def script(call: Call) -> None:
        if call.body["stream"]:
            await breaks_off(call)
        await call.gone()
        left.set()

    here.upstream.script = script
    body = {"model": "big", "messages": [{"role": "user", "content": "x"}], "stream": streamed}
    asking = asyncio.create_task(here.http.post(f"{here.url}/v1/chat/completions", json=body))
    while not here.upstream.calls:
        await asyncio.sleep(0.01)
    if streamed:
        response = await asking
        await response.content.readany()
        response.close()
    else:
        asking.cancel()
    async with asyncio.timeout(1):
        await left.wait()
    row = await here.row()
    assert (row["status"], row["rung"], row["error"]) == ("cancelled", None, "the client left")
    if streamed:
        assert (row["output_tokens"], row["output_source"]) == (4, "estimated")
    else:  # nobody knows what was generated: unknown is not 0
        assert row["charge_picousd"] is None
    assert here.gateway.worker.serving.places.idle


async def test_a_request_past_its_deadline_is_told_so_and_booked(tmp_path: Path) -> None:
    async with site(tmp_path, more="deadline_s = 0.2\n") as here:
        here.upstream.script = Call.gone
        status, body = await here.post({"model": "big", "messages": [{"role": "user"}]})
        assert (status, body["error"]["code"]) == (504, "deadline")
        row = await here.row()
        assert (row["status"], row["error"]) == ("failed", "the deadline passed")


async def test_a_full_line_turns_away_with_a_time_to_come_back(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await go.wait()
        await answer(call)

    async with site(tmp_path, more="rung_concurrency = 1\nrung_queue = 1\n") as here:
        here.upstream.script = script
        asking = [asyncio.create_task(here.chat()) for _ in range(2)]
        while here.gateway.worker.serving.places.slots["big"].waiting < 1:
            await asyncio.sleep(0.01)
        with pytest.raises(openai.RateLimitError) as caught:
            await here.chat()
        assert caught.value.response.headers["retry-after"] == "1"
        go.set()
        await asyncio.gather(*asking)
        statuses = [row["status"] for row in here.rows()]
        assert sorted(statuses) == ["ok", "ok", "refused"]
        assert len(here.upstream.calls) == 2


async def test_a_client_that_leaves_the_line_costs_nothing(tmp_path: Path) -> None:
    async with site(tmp_path, more="rung_concurrency = 1\n") as here:
        here.upstream.script = Call.gone
        first, second = (asyncio.create_task(here.chat()) for _ in range(2))
        line = here.gateway.worker.serving.places.slots["big"]
        while line.waiting < 1 or not here.upstream.calls:
            await asyncio.sleep(0.01)
        second.cancel()
        row = await here.row()
        assert (row["status"], row["charge_picousd"], row["asked"]) == ("refused", 0, None)
        first.cancel()
        while not here.gateway.worker.serving.places.idle:
            await asyncio.sleep(0.01)


async def test_a_rung_that_keeps_failing_is_left_alone_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    down, now_s = True, 1000.0
    monkeypatch.setattr(slots, "time", SimpleNamespace(monotonic=lambda: now_s))

    async def script(call: Call) -> None:
        if down and call.body["model"] == "small-model":
            await call.reply({"error": "down"}, status=503)
        else:
            await answer(call)

    async with site(tmp_path, more="breaker_failures = 2\nbreaker_open_s = 10\n") as here:
        here.upstream.script = script
        for wait_s in (0.0, 0.0, 0.0, 9.9):
            now_s += wait_s
            given = await here.chat(model="small")
            assert given.model_extra["suffice"]["rung"] == "big"  # the next one up stands in
        models = [call.body["model"] for call in here.upstream.calls]
        assert models.count("small-model") == 2
        down, now_s = False, now_s + 0.2
        given = await here.chat(model="small")
        assert given.model_extra["suffice"]["rung"] == "small"


async def test_a_trial_that_lasts_refuses_nobody_where_calls_failed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that is back takes seconds for an answer: others were refused meanwhile."""
    monkeypatch.setattr(slots, "TRIAL_WAIT_S", 0.1)
    down = True

    async def script(call: Call) -> None:
        if down:
            await call.reply({"error": "down"}, status=503)
        else:
            await asyncio.sleep(0.5)
            await answer(call)

    more = "breaker_failures = 2\nbreaker_open_s = 0.3\nfailover = false\n"
    ask = {"model": "small", "messages": [{"role": "user", "content": "x"}]}
    async with site(tmp_path, more=more) as here:
        here.upstream.script = script
        assert [(await here.post(ask))[0] for _ in range(2)] == [502] * 2
        down = False
        await asyncio.sleep(0.35)
        replies = await asyncio.gather(*(here.post(ask) for _ in range(6)))
    assert [status for status, _ in replies] == [200] * 6


@pytest.mark.parametrize("silent", [False, True])
async def test_after_silence_a_trial_has_to_end_first(
    monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    monkeypatch.setattr(slots, "TRIAL_WAIT_S", 0.02)
    config = GatewayConfig(breaker_failures=1, breaker_open_s=0.05)
    circuit = slots.Circuit("small", config)
    circuit.note(failed=True, silent=silent)
    await asyncio.sleep(0.06)
    await circuit.admit()
    refused = pytest.raises(EngineUnreachable) if silent else nullcontext()
    with refused:
        await circuit.admit()


@pytest.mark.parametrize(("status", "shown"), [(400, 400), (422, 422), (401, 502), (500, 502)])
async def test_what_the_upstream_refuses_is_told_without_its_secrets(
    here: Site, status: int, shown: int
) -> None:
    async def script(call: Call) -> None:
        await call.reply({"error": f"no: {call.headers['authorization']}"}, status=status)

    here.upstream.script = script
    got, body = await here.post({"model": "big", "messages": [{"role": "user", "content": "x"}]})
    assert got == shown
    assert "sk-upstream-secret" not in json.dumps(body) + json.dumps(await here.row())
    assert "127.0.0.1" not in json.dumps(body)
    assert (await here.row())["status"] == "failed"


async def test_nothing_is_answered_unbooked_and_no_row_is_lost_to_a_full_disk(
    here: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await here.chat()
    full = LedgerError("the disk is full", retryable=True)

    def append_many(self: Ledger, batch: object) -> None:
        raise full

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "append_many", append_many)
        status, body = await here.post({"model": "big", "messages": [{"role": "user"}]})
        assert (status, body["error"]["code"]) == (503, "ledger_unavailable")
        asked = len(here.upstream.calls)
        assert (await here.post({"model": "big", "messages": [{"role": "user"}]}))[0] == 503
        assert len(here.upstream.calls) == asked  # refused before any money is spent
        async with here.http.get(f"{here.url}/readyz") as response:
            assert response.status == 503
    for _ in range(300):
        if len(here.rows()) == 2:
            break
        await asyncio.sleep(0.02)
    answered, late = here.rows()
    assert (answered["status"], late["status"], late["rung"]) == ("ok", "failed", None)
    assert late["charge_picousd"] == 25_000_000  # it was spent all the same
    await here.chat()


async def test_a_bad_configuration_is_not_taken_over(
    here: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "UPKEEP_S", 0.02)
    toml = here.folder / "suffice.toml"
    good = toml.read_text()
    toml.write_text(good.replace('reference = "big"', 'reference = "biggest"'))
    await here.gateway.worker.reload()
    assert "biggest" in str(here.gateway.worker.reload_error)
    await here.chat()
    toml.write_text(good + 'models = {fresh = "small"}\n')
    await here.gateway.worker.reload()
    assert here.gateway.worker.reload_error is None
    assert (await here.chat(model="fresh")).model_extra["suffice"]["rung"] == "small"


async def test_requests_that_run_finish_while_the_gateway_drains(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await call.events()
        await call.write(chunk("a"))
        await go.wait()
        await call.write(chunk(finish="stop") + usage_event() + DONE)

    async with site(tmp_path) as here:
        here.upstream.script = script
        stream = await here.chat(stream=True)
        here.server.should_exit = True
        asyncio.get_running_loop().call_later(0.5, go.set)
        assert await _finishes(stream) == ["stop"]
        assert (await here.row())["status"] == "ok"


async def _finishes(stream: object) -> list[str]:
    reasons = [part.choices[0].finish_reason async for part in stream]
    return [reason for reason in reasons if reason]


def test_answered_requests_survive_a_kill(tmp_path: Path) -> None:
    booked = asyncio.run(_answer_and_stop(tmp_path, signal.SIGKILL))
    assert booked["answered"] <= booked["rows"]


def test_what_several_workers_get_can_be_sent_to_them() -> None:
    settings = Settings(ladder=Path("suffice.toml"), workers=2)
    config = ServerConfig(partial(Gateway, settings), factory=True, http=BoundedProtocol)
    assert pickle.loads(pickle.dumps(config)).http is BoundedProtocol


@pytest.mark.slow
def test_several_workers_share_a_port_and_the_books(tmp_path: Path) -> None:
    booked = asyncio.run(_answer_and_stop(tmp_path, signal.SIGTERM, "--workers", "2"))
    assert booked["answered"] == booked["rows"]


async def _answer_and_stop(folder: Path, how: signal.Signals, *options: str) -> dict[str, set[str]]:
    async with site(folder) as here:  # for its upstream and its configuration
        toml, books = folder / "suffice.toml", folder / "apart.db"
        toml.write_text(toml.read_text().replace(str(folder / "books.db"), str(books)))
        command = ["-m", "suffice", "serve", "--ladder", toml, "--port", "0", *options]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, stderr=subprocess.PIPE
        )
        url = ""
        while not url:
            line = (await process.stderr.readline()).decode()
            assert line, "it did not start"
            url = line.split()[-1] if "serves on" in line else ""
        here.url = url
        answered = await _ask_until_answered(here)
        process.send_signal(how)
        said = await process.stderr.read()
        await process.wait()
    assert b"Traceback" not in said
    with sqlite3.connect(books) as connection:
        rows = {row[0] for row in connection.execute("SELECT request_id FROM suffice_requests")}
    connection.close()
    return {"answered": answered, "rows": rows}


async def _ask_until_answered(here: Site) -> set[str]:
    body = {"model": "big", "messages": [{"role": "user", "content": "x"}]}
    first = await here.post(body)  # the port is bound already: it waits for the start
    answers = [first, *await asyncio.gather(*(here.post(body) for _ in range(30)))]
    assert {status for status, _ in answers} == {200}
    return {answer["suffice"]["request_id"] for _, answer in answers}


async def test_the_books_may_be_in_postgresql(tmp_path: Path, postgresql: str) -> None:
    where = new_schema(postgresql)
    async with site(tmp_path, ledger=where) as here:
        await asyncio.gather(*(here.chat() for _ in range(5)))
    with Ledger.open(where, read_only=True) as ledger:
        booked = list(entries(ledger))
    assert [entry.status for entry in booked] == [Status.OK] * 5


def test_a_gateway_says_what_is_wrong_before_it_listens(tmp_path: Path) -> None:
    (tmp_path / "suffice.toml").write_text('reference = "none"\n')
    command = [sys.executable, "-m", "suffice", "serve", "--ladder", tmp_path / "suffice.toml"]
    began_s = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert time.monotonic() - began_s < 60


async def _echo(call: Call) -> None:
    """Refuse a request in its own words, as several servers do."""
    told = {"error": {"message": f"bad input: {call.body['messages'][0]['content']}"}}
    await call.reply(told, status=400)


async def _limit(call: Call) -> None:
    told = {"error": {"message": "quota used up until 08:00", "type": "rate_limit_error"}}
    await call.reply(told, status=429)


async def _mumble(call: Call) -> None:
    await call.events()
    await call.write(b"data: the secret answer, in no JSON\n\n")


@pytest.mark.parametrize(("script", "stream"), [(_echo, False), (_echo, True), (_mumble, True)])
@pytest.mark.parametrize("kept", [False, True])
async def test_errors_in_the_books_hold_no_words_of_others_unless_text_is_kept(
    tmp_path: Path, script: object, stream: bool, kept: bool
) -> None:
    more = f"failover = false\nstore_text = {str(kept).lower()}\n"
    async with site(tmp_path, more=more) as here:
        here.upstream.script = script
        ask = {"model": "small", "messages": [{"role": "user", "content": "a secret prompt"}]}
        async with here.http.post(here.url + CHAT, json=ask | {"stream": stream}) as reply:
            await reply.read()
        row = await here.row()
        assert row["call_error"]
        assert ("secret" in f"{row['error']} {row['call_error']}") is kept


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kept", [False, True])
async def test_what_an_engine_says_of_an_account_is_kept_for_the_operator(
    tmp_path: Path, stream: bool, kept: bool
) -> None:
    """When a quota opens again stands in no code and no type."""
    more = f"failover = false\nstore_text = {str(kept).lower()}\n"
    async with site(tmp_path, more=more) as here:
        here.upstream.script = _limit
        ask = {"model": "small", "messages": [{"role": "user", "content": "Hello"}]}
        async with here.http.post(here.url + CHAT, json=ask | {"stream": stream}) as reply:
            assert reply.status == 429
        assert "08:00" in (await here.row())["error"]
