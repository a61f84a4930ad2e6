"""A second call to a slow rung, through a real server: who answers, and what both calls cost."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from gateway_support import Call, Script, Site, answer, site

HEDGED = "hedge_after_s = {big = 0.05}\n"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path, more=HEDGED) as made:
        yield made


def in_turn(*scripts: Script) -> Script:
    """Do for each call what its script says."""
    left = list(scripts)

    async def script(call: Call) -> None:
        await left.pop(0)(call)

    return script


def after_two_calls(here: Site, script: Script) -> Script:
    async def waiting(call: Call) -> None:
        while len(here.upstream.calls) < 2:
            await asyncio.sleep(0.01)
        await script(call)

    return waiting


def hedges(here: Site) -> dict[str, float]:
    lines = [
        line
        for line in here.gateway.worker.exposition().splitlines()
        if line.startswith("suffice_hedges_total{")
    ]
    return {line.split('outcome="')[1].split('"')[0]: float(line.split()[-1]) for line in lines}


def connections(here: Site) -> int:
    return len({id(call.writer) for call in here.upstream.calls})


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_silent_upstream_is_asked_again_and_both_calls_are_in_the_books(
    here: Site, streamed: bool
) -> None:
    left = asyncio.Event()

    async def silent(call: Call) -> None:
        await call.gone()
        left.set()

    here.upstream.script = in_turn(silent, answer)
    given = await here.chat(stream=streamed)
    if streamed:
        assert [part.choices[0].delta.content async for part in given] == ["4", None]
    else:
        assert given.choices[0].message.content == "4"
        assert given.model_extra["suffice"]["estimated"]
    async with asyncio.timeout(1):
        await left.wait()
    assert connections(here) == 2
    assert here.upstream.calls[0].body == here.upstream.calls[1].body
    lost, kept = here.rows()
    assert (lost["role"], lost["output_source"]) == ("discarded", "estimated")
    assert (kept["role"], kept["output_source"]) == ("answer", "reported")
    assert lost["input_tokens"] == kept["input_tokens"] == 20
    assert lost["output_tokens"] == (0 if streamed else 5)  # no chunk came; else like the other
    assert kept["charge_picousd"] == lost["call_picousd"] + kept["call_picousd"]
    assert kept["call_picousd"] == 25_000_000
    assert lost["call_picousd"] == (20_000_000 if streamed else 25_000_000)
    assert (kept["status"], kept["rung"], kept["charge_estimated"]) == ("ok", "big", 1)
    assert hedges(here) == {"won": 1}
    assert here.gateway.worker.serving.places.idle


async def test_the_first_call_may_still_win(here: Site) -> None:
    here.upstream.script = in_turn(after_two_calls(here, answer), Call.gone)
    given = await here.chat()
    assert given.choices[0].message.content == "4"
    assert [(row["role"], row["call_picousd"]) for row in here.rows()] == [
        ("discarded", 25_000_000),
        ("answer", 25_000_000),
    ]
    assert hedges(here) == {"lost": 1}


async def test_an_answer_in_time_is_asked_for_once(tmp_path: Path) -> None:
    async with site(tmp_path, more="hedge_after_s = {big = 60}\n") as here:
        await here.chat()
        assert [part async for part in await here.chat(stream=True)]
        assert len(here.upstream.calls) == 2
        assert hedges(here) == {}


async def test_only_the_named_rung_is_hedged(here: Site) -> None:
    async def late(call: Call) -> None:
        await asyncio.sleep(0.2)
        await answer(call)

    here.upstream.script = late
    await here.chat(model="small")
    assert len(here.upstream.calls) == 1


async def test_a_refused_call_leaves_it_to_the_other(here: Site) -> None:
    refused = asyncio.Event()

    async def refuses(call: Call) -> None:
        await call.reply({"error": "no"}, status=429)
        refused.set()

    async def late(call: Call) -> None:
        await refused.wait()
        await asyncio.sleep(0.1)
        await answer(call)

    here.upstream.script = in_turn(after_two_calls(here, refuses), late)
    await here.chat()
    assert [(row["role"], row["call_picousd"]) for row in here.rows()] == [
        ("discarded", 0),  # what is refused is not billed
        ("answer", 25_000_000),
    ]


async def test_there_is_no_second_call_without_a_slot(tmp_path: Path) -> None:
    async def late(call: Call) -> None:
        await asyncio.sleep(0.3)
        await answer(call)

    async with site(tmp_path, more=HEDGED + "rung_concurrency = 1\n") as here:
        here.upstream.script = late
        await here.chat()
        assert len(here.upstream.calls) == 1
        assert hedges(here) == {"no_slot": 1}


async def test_a_client_that_leaves_stops_both_and_both_are_booked(here: Site) -> None:
    here.upstream.script = Call.gone
    asking = asyncio.create_task(here.chat())
    while len(here.upstream.calls) < 2:
        await asyncio.sleep(0.01)
    asking.cancel()
    rows = [await here.row(), *here.rows()][1:]
    assert [(row["status"], row["call_picousd"]) for row in rows] == [("cancelled", None)] * 2
    assert here.gateway.worker.serving.places.idle
    assert hedges(here) == {"failed": 1}
