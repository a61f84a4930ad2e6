"""Scripted mishaps: processes that die, files that are half there, databases that move or pool."""

import asyncio
import os
import shutil
import signal
import time
from http import HTTPStatus
from pathlib import Path

from benchmarks.gateway.arena import Arena, Finding
from benchmarks.gateway.bed import say
from benchmarks.gateway.postgres import database, pooled
from benchmarks.gateway.probes import gauge, seconds_until, status_of, status_of_all, statuses
from benchmarks.gateway.processes import Running
from suffice.ledger import Ledger, totals
from suffice.ledger.events import events

DRAIN_S = 3.0
POOLED = 200  # requests through the pooler, at once


def dead_worker(arena: Arena) -> Finding:
    """Kill one of two workers while the configuration is bad, and then the parent of both."""
    with arena.gateways("workers", arguments=("--workers", "2")) as [server]:
        question = [arena.question()]
        before = _children(server)
        config = arena.ready.folder / "workers0" / "suffice.toml"
        config.write_bytes(config.read_bytes() + b"\xff = nan\n")
        victim = max(before)
        os.kill(victim, signal.SIGKILL)
        back_s = seconds_until(lambda: len(_children(server) - before) >= 1)
        served = asyncio.run(statuses([server], question * 20, key="any"))
        os.kill(server.process.pid, signal.SIGKILL)
        free_s = seconds_until(lambda: status_of(server.port, "/healthz") is None)
    figures = {"respawned_after_s": back_s, "served": served[200], "port_free_after_s": free_s}
    right = back_s is not None and served[200] == 20 and free_s is not None
    return Finding(right=right, figures=figures)


def half_copied(arena: Arena) -> Finding:
    """Copy another certificate over the served one, file by file, with seconds in between."""
    folder = arena.ready.folder / "served_policy"
    shutil.copytree(arena.policies.routes, folder)
    with arena.gateways("copied", policy=folder) as [server]:
        ledger = str(arena.ready.folder / "copied0" / "suffice.db")
        first = _certificates(ledger)
        for path in sorted(arena.policies.defers.iterdir()):
            shutil.copy(path, folder / path.name)
            time.sleep(2)
        taken_s = seconds_until(lambda: len(_certificates(ledger)) > len(first))
        failing = gauge(server.port, "suffice_reload_failing")
        served = status_of_all(server, [arena.question()], "any")
    figures = {"taken_after_s": taken_s, "reload_failing": failing, "status": served}
    right = taken_s is not None and failing == [0.0] and served == HTTPStatus.OK
    return Finding(right=right, figures=figures)


def _certificates(ledger: str) -> list[object]:
    with Ledger.open(ledger, read_only=True) as books:
        return [event.state for event in events(books) if event.subject.startswith("certificate")]


def drain(arena: Arena) -> Finding:
    """End a gateway by SIGTERM: it must say that it is going, and serve on until it has gone."""
    with arena.gateways("drain", lines=f"drain_delay_s = {DRAIN_S}\n") as [server]:
        question = [arena.question()]
        server.process.terminate()
        began_s = time.monotonic()
        unready_s = seconds_until(lambda: status_of(server.port, "/readyz") == 503)
        served, last_s = 0, 0.0
        while time.monotonic() < began_s + DRAIN_S + 5:
            if status_of(server.port, "/healthz") is None:
                break
            last_s = time.monotonic() - began_s
            served += status_of_all(server, question, "any") == HTTPStatus.OK
            time.sleep(0.2)
        status = server.process.wait(30)
    figures = {
        "unready_after_s": unready_s,
        "served_until_s": round(last_s, 1),
        "served": served,
        "exit_status": status,
    }
    right = unready_s is not None and last_s >= DRAIN_S - 1 and status in (0, -signal.SIGTERM)
    return Finding(right=right, figures=figures)


def moved_ledger(arena: Arena) -> Finding:
    """Move the file of the books away under a gateway, and put it back."""
    with arena.gateways("moved") as [server]:
        ledger = arena.ready.folder / "moved0" / "suffice.db"
        away = ledger.with_suffix(".away")
        ledger.rename(away)
        unready_s = seconds_until(lambda: status_of(server.port, "/readyz") == 503)
        status = status_of_all(server, [arena.question()], "any")
        away.rename(ledger)
        back_s = seconds_until(lambda: status_of(server.port, "/readyz") == 200)
    figures = {"unready_after_s": unready_s, "status": status, "ready_again_after_s": back_s}
    right = unready_s is not None and back_s is not None and status != HTTPStatus.OK
    return Finding(right=right, figures=figures)


def pooler(arena: Arena) -> Finding | None:
    """Keep the books of two gateways behind PgBouncer, in transaction mode, on two connections."""
    with database() as server:
        if server is None:
            say("no PostgreSQL here: none can be pooled")
            return None
        with pooled(server.url) as through:
            if through is None:
                say("no PgBouncer here")
                return None
            with arena.gateways("pooled", number=2, ledger=through.url) as gateways:
                questions = [arena.question() for _ in range(POOLED)]
                answered = asyncio.run(statuses(gateways, questions, key="any"))
            with Ledger.open(through.url, read_only=True) as ledger:
                rows = totals(ledger)[0].requests
    figures = {"statuses": dict(answered), "rows": rows}
    right = answered[200] == POOLED and rows == POOLED
    return Finding(right=right, figures=figures)


def _children(server: Running) -> set[int]:
    """List the workers of a server: its children that run Python, less multiprocessing's helper."""
    children = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            command = (path.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == server.process.pid and b"resource_tracker" not in command:
            children.add(int(path.parent.name))
    return children
