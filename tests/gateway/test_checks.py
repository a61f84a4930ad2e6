"""A checked rung behind the gateway: what passes goes out, what fails goes up, all is booked."""

import asyncio
from pathlib import Path

import aiohttp
import pytest
from gateway_support import LADDER, Call, Site, answer, chunk, completion, site, usage_event

from suffice.certify.bundle import Bundle, check_rungs
from suffice.certify.bundling import settle
from suffice.certify.target import Target
from suffice.config import parse_config
from suffice.errors import ConfigError
from suffice.guarantee import LabelSource
from suffice.ladder import build_ladder
from support import checked_trials

CHECK = '[check.short]\nkind = "regex"\npattern = "^4$"\nusd = "0.001"\n'


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    ask = Target(reference="big", label_source=LabelSource.TARGET, alpha=0.05)
    certified = settle(checked_trials(), ask, say=lambda _stage: None).bundle
    assert certified is not None
    return certified


def calls_of(here: Site) -> list[tuple[str, str]]:
    return [(row["asked"], row["role"]) for row in here.rows()]


async def of_small(call: Call) -> None:
    """Let the small model write at length."""
    if call.body["model"] != "small-model":
        await answer(call)
    elif call.body.get("stream"):
        await call.events()
        for piece in (chunk("It is 4.", role="assistant"), chunk(finish="stop"), usage_event()):
            await call.write(piece)
        await call.write(b"data: [DONE]\n\n")
    else:
        await call.reply(completion("It is 4."))


async def test_an_answer_that_passes_stays_and_its_check_is_paid(
    tmp_path: Path, bundle: Bundle
) -> None:
    async with site(tmp_path, bundle=bundle, more=CHECK) as here:
        given = await here.chat()
        assert given.suffice["rung"] == "small"
        assert calls_of(here) == [("small", "answer"), ("check:short", "check")]
        [first, check] = here.rows()
        assert check["call_picousd"] == 10**9
        assert first["charge_picousd"] == first["call_picousd"] + 10**9


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_fails_goes_up_and_never_out(
    tmp_path: Path, bundle: Bundle, stream: bool
) -> None:
    async with site(tmp_path, bundle=bundle, more=CHECK) as here:
        here.upstream.script = of_small
        if stream:
            parts = [part async for part in await here.chat(stream=True)]
            text = "".join(p.choices[0].delta.content or "" for p in parts if p.choices)
        else:
            text = (await here.chat()).choices[0].message.content
        assert text == "4"
        wanted = [("small", "discarded"), ("check:short", "check"), ("big", "answer")]
        assert calls_of(here) == wanted


async def test_a_check_that_hangs_costs_its_time_and_no_quality(
    tmp_path: Path, bundle: Bundle
) -> None:
    slow = '[check.slow]\nkind = "command"\ncommand = ["sleep", "60"]\ntimeout_s = 0.2\n'
    async with site(tmp_path, bundle=bundle, more=slow) as here:
        given = await here.chat()
        assert given.suffice["rung"] == "big"
        assert here.rows()[1]["call_error"] == "no verdict within 0.2 s"


async def test_a_client_that_leaves_during_the_check_pays_for_the_answer(
    tmp_path: Path, bundle: Bundle
) -> None:
    slow = '[check.slow]\nkind = "command"\ncommand = ["sleep", "60"]\ntimeout_s = 50\n'
    async with site(tmp_path, bundle=bundle, more=slow) as here:
        patience = aiohttp.ClientTimeout(total=1)
        body = {"model": "suffice", "messages": [{"role": "user", "content": "Hi"}]}
        with pytest.raises(asyncio.TimeoutError):
            await here.http.post(here.url + "/v1/chat/completions", json=body, timeout=patience)
        row = await here.row()
        assert (row["status"], row["asked"], row["role"]) == ("cancelled", "small", "discarded")
        assert row["charge_picousd"] == 25 * 10**6


def test_a_certificate_that_needs_a_check_is_not_served_without(bundle: Bundle) -> None:
    ladder = build_ladder(parse_config(LADDER.format(url="http://h/v1", dialect="vllm", ledger="")))
    with pytest.raises(ConfigError, match="only if it passes a check"):
        check_rungs(bundle, ladder, None)
