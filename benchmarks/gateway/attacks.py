"""Scripted attacks: what one client, one bad file or one frozen server can do to everybody else.

Each returns its figures, and whether they are within what is promised; None means that this machine
lacks what the attack needs.
"""

import asyncio
import re
import time
from collections.abc import Callable
from decimal import Decimal
from http import HTTPStatus
from typing import Any

from benchmarks.gateway.arena import LAG_MS, Arena, Figures, Finding
from benchmarks.gateway.bed import Bed, say
from benchmarks.gateway.failover import failover, pooled_failover
from benchmarks.gateway.intrusions import (
    dropped_lines,
    echoed_words,
    long_responses,
    poisoned_requests,
    task_code,
    unpriced_fields,
    web_page,
)
from benchmarks.gateway.mishaps import dead_worker, drain, half_copied, moved_ledger, pooler
from benchmarks.gateway.ours import Policies
from benchmarks.gateway.postgres import database
from benchmarks.gateway.probes import (
    chat_body,
    endless_heads,
    half_sent,
    lag_p99_ms,
    lags,
    post,
    request,
    seconds_until,
    status_of,
    status_of_all,
    statuses,
    watched,
)
from benchmarks.gateway.processes import Running
from suffice.gateway.keys import KeyLimits, add_key, revoke_key
from suffice.ledger import Ledger, totals

REPLICAS = 3
BUDGET_USD = Decimal("0.05")
PARALLEL = 200
PER_MINUTE = 10
GROWTH_MB = 300
FROZEN_S = 25.0  # deadline, patience with the database, and connecting anew
LONGEST = 200  # tokens of an answer, at $10 a million
RESERVE_USD = Decimal("0.0025")  # of one such request: its answer, and the bytes of its prompt


def limits_over_replicas(arena: Arena) -> Finding | None:
    """Spend one small budget, and one rate, through three gateways on one PostgreSQL at once."""
    limits = {
        "poor": KeyLimits(budget_usd_per_day=BUDGET_USD),
        "slow": KeyLimits(requests_per_minute=PER_MINUTE),
    }
    path, keys = arena.keys("limits", limits)
    with database() as server:
        if server is None:
            say("no PostgreSQL here: replicas cannot be attacked")
            return None
        lines = f'keys = "{path}"\n'
        with arena.gateways("limits", number=REPLICAS, ledger=server.url, lines=lines) as replicas:
            questions = [arena.question(max_tokens=LONGEST) for _ in range(PARALLEL)]
            poor = asyncio.run(statuses(replicas, questions, key=keys["poor"]))
            questions = [arena.question(max_tokens=LONGEST) for _ in range(3 * PER_MINUTE)]
            slow = asyncio.run(statuses(replicas, questions, key=keys["slow"]))
        with Ledger.open(server.url, read_only=True) as ledger:
            spent = {row.key: row.spend for row in totals(ledger, by="key_id")}["poor"]
    passed = slow[HTTPStatus.OK]
    return Finding(
        right=spent.known_usd <= BUDGET_USD + RESERVE_USD
        and spent.unknown_count == 0
        and spent.known_usd > BUDGET_USD * Decimal("0.7")
        and passed == PER_MINUTE,
        figures={
            "budget_usd": float(BUDGET_USD),
            "spent_usd": float(spent.known_usd),
            "answered": poor[HTTPStatus.OK],
            "per_minute": PER_MINUTE,
            "passed": passed,
        },
    )


def floods(arena: Arena) -> Finding:
    """Send what is dear to read, from one client, and watch what another one gets meanwhile."""
    prose = "x" + " " * 400 + "y"
    bodies = {
        "blanks": chat_body(prose * 2000),
        "digits": chat_body("7" * 20_000 + "%"),
        "objects": b'{"model": "suffice", "messages": [' + b"{}," * 5_000_000 + b"{}]}",
        "nesting": b'{"model": "suffice", "messages": ' + b"[" * 900 + b"]" * 900 + b"}",
        "prompt": chat_body("Is it so? " * 1_500_000),
    }
    figures: Figures = {}
    policy = arena.policies.defers
    with arena.gateways("floods", policy=policy) as [server]:
        idle = server.resident_bytes
        for name, body in bodies.items():
            before = lags(server.port)
            watch = asyncio.run(watched(server, [body] * 4))
            figures[name] = {
                "loop_lag_p99_ms": lag_p99_ms(before, lags(server.port)),
                "healthz_p99_ms": watch.p99_ms,
                "statuses": watch.statuses,
                "grown_mb": round((watch.peak_bytes - idle) / 1e6),
            }
    worst_ms = max(figure["loop_lag_p99_ms"] for figure in figures.values())
    grown_mb = max(figure["grown_mb"] for figure in figures.values())
    figures |= {"worst_p99_ms": worst_ms, "grown_mb": grown_mb}
    return Finding(right=worst_ms <= LAG_MS and grown_mb <= GROWTH_MB, figures=figures)


def heads(arena: Arena) -> Finding:
    """Send endless headers, then hold a thousand requests half sent, without a key."""
    with arena.gateways("heads") as [server]:
        idle = server.resident_bytes
        sent = asyncio.run(endless_heads(server.port))
        grown_mb = round((server.resident_bytes - idle) / 1e6)
        served_s = asyncio.run(half_sent(server.port))
    return Finding(
        right=grown_mb <= GROWTH_MB and served_s is not None,
        figures={"sent_mb": round(sent / 1e6), "grown_mb": grown_mb, "served_after_s": served_s},
    )


def bad_files(arena: Arena) -> Finding:
    """Break the configuration in four ways; each time add a key, revoke it, and mend the file."""
    path, keys = arena.keys("files", {"alice": KeyLimits()})
    eyes = arena.watcher(path)
    fine = re.compile(r"^suffice_reload_failing{.*} 0$", re.M)
    figures: Figures = {}
    with arena.gateways("files", lines=f'keys = "{path}"\n') as [server]:
        config = arena.ready.folder / "files0" / "suffice.toml"
        good, question = config.read_bytes(), [arena.question()]
        spoilt = {
            "nan_price": good + b"[price.odd]\ninput_usd_per_mtok = nan\n",
            "no_utf8": good + b"# \xff\n",
            "nan_amount": good.replace(b"[gateway]\n", b'[gateway]\nassumed_usd = "NaN"\n'),
            "deep": good + b"x = " + b"[" * 5000 + b"\n",
        }
        for name, bad in spoilt.items():
            config.write_bytes(bad)
            time.sleep(2)
            secret = add_key(path, name, limits=KeyLimits())
            in_s = _seconds_until_status(server, question, key=secret, status=HTTPStatus.OK)
            revoke_key(path, name)
            out_s = _seconds_until_status(
                server, question, key=secret, status=HTTPStatus.UNAUTHORIZED
            )
            ready = status_of(server.port, "/readyz")
            config.write_bytes(good + f"# {name}\n".encode())
            mended_s = seconds_until(
                lambda: bool(
                    fine.search(request(server.port, "GET", "/metrics", None, key=eyes)[1].decode())
                )
            )
            figures[name] = {
                "added_after_s": in_s,
                "revoked_after_s": out_s,
                "mended_after_s": mended_s,
                "readyz": ready,
            }
        served = status_of_all(server, question, keys["alice"])
    right = served == HTTPStatus.OK and all(
        None not in figure.values() and figure["readyz"] == HTTPStatus.OK
        for figure in figures.values()
    )
    return Finding(right=right, figures=figures)


def _seconds_until_status(
    server: Running, question: list[dict[str, Any]], *, key: str, status: int
) -> float | None:
    return seconds_until(lambda: status_of_all(server, question, key) == status)


def forged_feedback(arena: Arena) -> Finding:
    """Praise the answers that another key got, one's own twice, and a rung that never answered."""
    path, keys = arena.keys("forged", {"alice": KeyLimits(), "mallory": KeyLimits()})
    with arena.gateways("forged", lines=f'keys = "{path}"\n') as [server]:
        answer = post(server.port, "/v1/chat/completions", arena.question(), key=keys["alice"])
        mark = {"request_id": answer[1]["suffice"]["request_id"], "score": 1}
        tries = {
            "of_another": post(server.port, "/v1/feedback", mark, key=keys["mallory"])[0],
            "of_a_rung": post(
                server.port, "/v1/feedback", mark | {"rung": "none"}, key=keys["alice"]
            )[0],
            "own": post(server.port, "/v1/feedback", mark, key=keys["alice"])[0],
            "again": post(server.port, "/v1/feedback", mark, key=keys["alice"])[0],
            "dashboard": status_of(server.port, "/", key=keys["mallory"]),
        }
    expected = {"of_another": 404, "of_a_rung": 400, "own": 200, "again": 409, "dashboard": 403}
    return Finding(right=tries == expected, figures=tries)


def frozen_database(arena: Arena) -> Finding | None:
    """Freeze PostgreSQL under load: every client must get an answer or an error in time."""
    with database() as server:
        if server is None:
            say("no PostgreSQL here: none can be frozen")
            return None
        with arena.gateways("frozen", ledger=server.url, lines="deadline_s = 5\n") as [gateway]:
            questions = [arena.question() for _ in range(5)]
            asyncio.run(statuses([gateway], questions, key="any"))
            server.freeze()
            began_s = time.monotonic()
            during = asyncio.run(statuses([gateway], questions, key="any"))
            took_s = time.monotonic() - began_s
            ready = status_of(gateway.port, "/readyz")
            server.thaw()
            back_s = seconds_until(lambda: status_of_all(gateway, questions[:1], "any") == 200)
    return Finding(
        right=took_s <= FROZEN_S and ready == 503 and back_s is not None,
        figures={
            "statuses": dict(during),
            "longest_s": round(took_s, 1),
            "readyz": ready,
            "recovered_after_s": back_s,
        },
    )


ATTACKS: tuple[Callable[[Arena], Finding | None], ...] = (
    *(limits_over_replicas, floods, long_responses, heads, bad_files, forged_feedback),
    *(
        frozen_database,
        failover,
        pooled_failover,
        pooler,
        dropped_lines,
        poisoned_requests,
        dead_worker,
        unpriced_fields,
    ),
    *(echoed_words, task_code, web_page, half_copied, drain, moved_ledger),
)


def run_attacks(ready: Bed, policies: Policies, *, only: str | None) -> tuple[Figures, bool]:
    """Make every attack in turn, or one; the figures, and whether all were withstood."""
    arena, findings = Arena(ready, policies), dict[str, Finding | None]()
    for attack in ATTACKS:
        if only in (None, attack.__name__):
            say(f"attack: {attack.__name__}")
            findings[attack.__name__] = attack(arena)
    figures = {
        name: finding and {"right": finding.right, **finding.figures}
        for name, finding in findings.items()
    }
    return figures, all(finding is None or finding.right for finding in findings.values())
