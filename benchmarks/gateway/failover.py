"""A database that fails over: its primary is killed under load, and a standby takes its place."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from http import HTTPStatus

import aiohttp
from msgspec import Struct

from benchmarks.gateway import ours
from benchmarks.gateway.arena import Arena, Figures, Finding
from benchmarks.gateway.bed import say
from benchmarks.gateway.postgres import Replicated, pooled, replicated
from benchmarks.gateway.probes import seconds_until, status_of
from benchmarks.gateway.processes import Running
from suffice.ledger import Ledger, entries

CLIENTS = 8
BEFORE_S, AWAY_S, AFTER_S = 3.0, 3.0, 6.0  # before the kill, until the standby is promoted, after
DEADLINE_S = 5.0
LONGEST_S = 25.0  # deadline, patience with the database, and connecting anew


class _Ended(Struct, frozen=True, kw_only=True):
    """How one request ended: its status, its id in the books, and when it began and ended."""

    status: int
    request_id: str | None
    began_s: float
    ended_s: float


def failover(arena: Arena) -> Finding | None:
    """Kill PostgreSQL's primary under load and promote its standby: no row lost, none twice."""
    with replicated() as servers:
        if servers is None:
            say("no PostgreSQL here: none can fail over")
            return None
        return _failed_over(arena, servers, ledger=servers.url, take_over=servers.promote)


def pooled_failover(arena: Arena) -> Finding | None:
    """Do as `failover` with gateways that know PgBouncer alone, which is led to the standby."""
    with replicated() as servers:
        if servers is None:
            say("no PostgreSQL here: none can fail over")
            return None
        with pooled(servers.primary.url) as pooler:
            if pooler is None:
                say("no PgBouncer here")
                return None

            def take_over() -> None:
                servers.promote()
                pooler.repoint(servers.standby.url)

            return _failed_over(arena, servers, ledger=pooler.url, take_over=take_over)


def _failed_over(
    arena: Arena, servers: Replicated, *, ledger: str, take_over: Callable[[], None]
) -> Finding:
    lines = f"deadline_s = {DEADLINE_S}\n"
    begun = ours.stub_counts(arena.ready.stub.port).begun
    with arena.gateways("failover", number=2, ledger=ledger, lines=lines) as gateways:
        ends, killed_s = asyncio.run(_under_load(arena, gateways, servers, take_over=take_over))
        ready_s = [seconds_until(partial(_is_ready, server)) for server in gateways]
        calls = ours.stub_counts(arena.ready.stub.port).begun - begun
        with Ledger.open(servers.standby.url, read_only=True) as books:
            seconds_until(lambda: _booked_calls(books).total() >= calls)
            booked = _booked_calls(books)
    answered = [end for end in ends if end.status == HTTPStatus.OK]
    later_s = [end.ended_s - killed_s for end in answered if end.began_s > killed_s]
    missing = {end.request_id for end in answered} - booked.keys()
    longest_s = max(end.ended_s - end.began_s for end in ends)
    figures: Figures = {
        "requests": len(ends),
        "statuses": dict(Counter(end.status for end in ends)),
        "longest_s": round(longest_s, 1),
        "answered_again_after_s": round(min(later_s), 1) if later_s else None,
        "engine_calls": calls,
        "booked_calls": booked.total(),
        "booked_requests": len(booked),
        "answered_and_not_booked": len(missing),
    }
    whole = calls == booked.total() == len(booked) and not missing
    right = None not in ready_s and bool(later_s) and longest_s <= LONGEST_S and whole
    return Finding(right=right, figures=figures)


async def _under_load(
    arena: Arena,
    gateways: list[Running],
    servers: Replicated,
    *,
    take_over: Callable[[], None],
) -> tuple[list[_Ended], float]:
    """Send requests one after another from several clients while the primary dies."""
    over = asyncio.Event()

    async def client(session: aiohttp.ClientSession, gateway: Running) -> list[_Ended]:
        ends, url = [], f"http://127.0.0.1:{gateway.port}/v1/chat/completions"
        while not over.is_set():
            began_s = time.monotonic()
            async with session.post(url, json=arena.question()) as reply:
                await reply.read()
                name = reply.headers.get("x-suffice-request-id")
                end = _Ended(
                    status=reply.status,
                    request_id=name,
                    began_s=began_s,
                    ended_s=time.monotonic(),
                )
            ends.append(end)
            await asyncio.sleep(0.05)
        return ends

    async with aiohttp.ClientSession() as session:
        clients = [asyncio.create_task(client(session, gateways[i % 2])) for i in range(CLIENTS)]
        await asyncio.sleep(BEFORE_S)
        await asyncio.to_thread(servers.primary.kill)
        killed_s = time.monotonic()
        await asyncio.sleep(AWAY_S)
        await asyncio.to_thread(take_over)
        await asyncio.sleep(AFTER_S)
        over.set()
        ends = [end for ends in await asyncio.gather(*clients) for end in ends]
    return ends, killed_s


def _is_ready(server: Running) -> bool:
    return status_of(server.port, "/readyz") == HTTPStatus.OK


def _booked_calls(ledger: Ledger) -> Counter[str]:
    """Count the calls to an engine that the books hold, by request."""
    return Counter(row.request_id for row in entries(ledger) for _ in row.attempts)
