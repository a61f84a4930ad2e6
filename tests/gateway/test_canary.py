"""Words of a prompt or an answer show nowhere but to their client, whatever fails on the way."""

import asyncio
import json
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path

import aiohttp
import pytest
from gateway_support import CHAT, Call, Site, answer, chunk, event, site

WORD = "zebra-umbrella-4711"
ASK = {"model": "big", "messages": [{"role": "user", "content": f"Say {WORD}."}]}


def refuses(status: int) -> Callable[[Call], Awaitable[None]]:
    async def script(call: Call) -> None:
        said = f"cannot read: {call.body['messages'][0]['content']}"
        error = {"message": said, "code": said, "type": said, "param": said}
        await call.reply({"error": error, "detail": said}, status=status)

    return script


async def mumbles(call: Call) -> None:
    await call.events()
    await call.write(f"data: {WORD}, in no JSON\n\n".encode())


async def breaks_off(call: Call) -> None:
    await call.events()
    await call.write(chunk(f"It is {WORD}"))


async def errs_inside(call: Call) -> None:
    await breaks_off(call)
    await call.write(event({"error": {"message": f"at {WORD}", "code": 500, "type": WORD}}))


async def no_json(call: Call) -> None:
    data = f"<html>{WORD}</html>".encode()
    await call.head(**{"content-type": "text/html", "content-length": str(len(data))})
    await call.write(data)


async def odd_json(call: Call) -> None:
    await call.reply({"choices": [{"message": {"content": {WORD: WORD}}}], "usage": {WORD: WORD}})


async def odd_head(call: Call) -> None:
    await call.reply({"error": WORD}, status=503, **{"retry-after": WORD, "x-word": WORD})


async def stalls(call: Call) -> None:
    await breaks_off(call)
    await call.gone()


SCRIPTS = (
    *(refuses(status) for status in (400, 404, 409, 422, 500, 502, 503)),
    *(mumbles, breaks_off, errs_inside, no_json, odd_json, odd_head, stalls),
)
BODIES: tuple[bytes, ...] = tuple(
    text.encode()
    for text in (
        f'{{"model": "big", "messages": {WORD}',
        json.dumps(ASK | {WORD: WORD}),
        json.dumps(ASK | {"temperature": WORD}),
        json.dumps(ASK | {"max_tokens": WORD}),
        json.dumps(ASK | {"messages": WORD}),
        json.dumps(ASK | {"messages": [{"role": WORD, "content": WORD}]}),
        json.dumps(ASK | {"messages": [{"role": "user", "content": [{"type": WORD}]}]}),
        json.dumps(ASK | {"tools": [{"type": "function", "function": {"name": [WORD]}}]}),
        json.dumps(ASK | {"stream": WORD}),
        json.dumps({"model": WORD, "input": WORD}),
    )
)
PATHS = (CHAT, "/v1/messages", "/v1/responses", f"/v1/{WORD}")


@pytest.mark.parametrize("log_format", ["text", pytest.param("json", marks=pytest.mark.slow)])
async def test_no_failure_shows_words_to_anybody_but_their_client(
    tmp_path: Path,
    log_format: str,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    more = (
        f'log_format = "{log_format}"\ndeadline_s = 1\nfailover = false\nbreaker_failures = 1000\n'
    )
    async with site(tmp_path, more=more) as here:
        await fail_in_every_way(here)
        here.upstream.script = answer
        pages = [await text_of(here, path) for path in ("/metrics", "/", "/readyz", "/v1/models")]
        async with here.http.post(here.url + CHAT, json=ASK | {"model": "suffice"}) as reply:
            pages.append(await reply.text())
        with closing(sqlite3.connect(here.ledger)) as database:
            pages.append("\n".join(database.iterdump()))
    pages += [caplog.text, *capsys.readouterr()]
    assert not [page[max(0, page.find(WORD) - 300) :][:400] for page in pages if WORD in page]


async def fail_in_every_way(here: Site) -> None:
    for script in SCRIPTS:
        here.upstream.script = script
        await asyncio.gather(
            *(send(here, CHAT, json.dumps(ASK | {"stream": on}).encode()) for on in (False, True))
        )
    here.upstream.script = refuses(400)
    for path in PATHS:
        await asyncio.gather(*(send(here, path, body) for body in BODIES))


async def send(here: Site, path: str, body: bytes) -> None:
    headers = {"content-type": "application/json", "anthropic-version": "2023-06-01"}
    with suppress(aiohttp.ClientError):
        async with here.http.post(here.url + path, data=body, headers=headers) as reply:
            await reply.read()


async def text_of(here: Site, path: str) -> str:
    async with here.http.get(here.url + path) as reply:
        return await reply.text()
