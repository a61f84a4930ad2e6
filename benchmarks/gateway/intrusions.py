"""Scripted intrusions: what a request may hold or come from to spend, freeze, run or read more."""

import asyncio
import http.client
import json
from collections import Counter
from decimal import Decimal
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.gateway import ours
from benchmarks.gateway.arena import LAG_MS, Arena, Figures, Finding
from benchmarks.gateway.probes import lag_p99_ms, lags, post, request, statuses, watched
from benchmarks.gateway.processes import Running
from benchmarks.gateway.stub import Fault, Manner
from suffice.bench.sources import load_tasks
from suffice.errors import SufficeError
from suffice.gateway.keys import KeyLimits

ITEMS = 10_000  # outputs of tools, and as many calls that came after them
DROPPED = 6
CANARY = "zebra-umbrella-4711"
_UNPRICED: dict[str, Any] = {
    "n_predict": 100_000,
    "ignore_eos": True,
    "best_of": 5000,
    "service_tier": "priority",
    "web_search_options": {},
}


def long_responses(arena: Arena) -> Finding:
    """Send /v1/responses many outputs of tools before the calls that they belong to."""
    outputs: list[dict[str, str]] = [
        {"type": "function_call_output", "call_id": f"c{i}", "output": "x" * 100}
        for i in range(ITEMS)
    ]
    calls = [
        {"type": "function_call", "call_id": f"c{i}", "name": "f", "arguments": "{}"}
        for i in range(ITEMS)
    ]
    body = msgspec.json.encode({"model": "suffice", "input": outputs + calls})
    with arena.gateways("responses") as [server]:
        before = lags(server.port)
        watch = asyncio.run(watched(server, [body], path="/v1/responses"))
        lag_ms = lag_p99_ms(before, lags(server.port))
    figures = {
        "sent_mb": round(len(body) / 1e6, 1),
        "took_s": watch.took_s,
        "loop_lag_p99_ms": lag_ms,
        "statuses": watch.statuses,
    }
    return Finding(right=lag_ms <= LAG_MS and watch.took_s < 5, figures=figures)


def dropped_lines(arena: Arena) -> Finding:
    """Let the engine drop its connections: no call may be made twice that may have been paid."""
    with arena.gateways("dropped", lines="breaker_failures = 1000000\n", max_retries=3) as [server]:
        stub = arena.ready.stub.port
        begun = ours.stub_counts(stub).begun
        _manner(arena, "cut")
        questions = [arena.question() for _ in range(DROPPED)]
        ended = asyncio.run(statuses([server], questions, key="any"))
        asked = ours.stub_counts(stub).begun - begun
        _manner(arena, "none")
        rows = ours.booked(arena.ready.folder / "dropped0" / "suffice.db")
    figures = {
        "requests": DROPPED,
        "asked": asked,
        "rows": len(rows),
        "statuses": dict(ended),
    }
    return Finding(right=asked == DROPPED == len(rows) and ended[200] == 0, figures=figures)


def poisoned_requests(arena: Arena) -> Finding:
    """Send requests that every engine refuses: nobody else's may be turned away for that."""
    with arena.gateways("poisoned", lines="breaker_failures = 3\nbreaker_open_s = 30\n") as [
        server
    ]:
        _manner(arena, "400")
        bad = asyncio.run(statuses([server], [arena.question() for _ in range(20)], key="mallory"))
        _manner(arena, "none")
        good = asyncio.run(statuses([server], [arena.question() for _ in range(5)], key="alice"))
    figures = {"refused": dict(bad), "others": dict(good)}
    return Finding(right=good[200] == 5 and bad[200] == 0, figures=figures)


def unpriced_fields(arena: Arena) -> Finding:
    """Ask for what lifts a limit of tokens, or costs more than the price of the rung says."""
    limits = {"poor": KeyLimits(budget_usd_per_day=Decimal("0.05"))}
    path, keys = arena.keys("unpriced", limits)
    figures: Figures = {}
    with arena.gateways("unpriced", lines=f'keys = "{path}"\n') as [server]:
        for name, value in _UNPRICED.items():
            body = arena.question(max_tokens=20, **{name: value})
            status, _ = post(server.port, "/v1/chat/completions", body, key=keys["poor"])
            passed = name in ours.stub_counts(arena.ready.stub.port).fields
            figures[name] = "passed on" if passed else "left out" if status == 200 else status
    refused = {"best_of": 429, "web_search_options": 400}
    expected = dict.fromkeys(_UNPRICED, "left out") | refused
    return Finding(right=figures == expected, figures=figures)


def echoed_words(arena: Arena) -> Finding:
    """Let the engine repeat the prompt in its errors, and look for it where it must not be."""
    path, keys = arena.keys("echo", {"alice": KeyLimits()})
    eyes = arena.watcher(path)
    with arena.gateways("echo", lines=f'keys = "{path}"\nlog_format = "json"\n') as [server]:
        for fault in ("400", "echo", "malformed", "500"):
            _manner(arena, fault)
            for streamed in (False, True):
                body = arena.question(stream=streamed)
                body["messages"].insert(0, {"role": "system", "content": CANARY})
                request(
                    server.port,
                    "POST",
                    "/v1/chat/completions",
                    msgspec.json.encode(body),
                    key=keys["alice"],
                )
        _manner(arena, "none")
        pages = [request(server.port, "GET", name, None, key=eyes)[1] for name in ("/metrics", "/")]
        log = server.log
    home = arena.ready.folder / "echo0"
    places = {"log": log.read_bytes(), "metrics": pages[0], "dashboard": pages[1]}
    places["books"] = b"".join(p.read_bytes() for p in home.glob("suffice.db*"))
    figures: Figures = {name: text.count(CANARY.encode()) for name, text in places.items()}
    return Finding(right=not any(figures.values()), figures=figures)


def web_page(arena: Arena) -> Finding:
    """Ask as a page in a visitor's browser can: forms, foreign origins, Basic, another host."""
    path, keys = arena.keys("page", {"alice": KeyLimits()})
    lines = f'keys = "{path}"\nhosts = ["127.0.0.1"]\n'
    bearer = {"authorization": f"Bearer {keys['alice']}"}
    tries = {
        "honest": bearer,
        "form": bearer | {"content-type": "text/plain"},
        "origin": bearer | {"origin": "https://evil.example"},
        "basic": {"authorization": "Basic YWxpY2U6eA=="},
        "host": bearer | {"host": "evil.example"},
    }
    with arena.gateways("page", lines=lines) as [server]:
        figures: Figures = {
            name: _posted(server, arena.question(), headers) for name, headers in tries.items()
        }
    refused = all(400 <= figures[name] < 500 for name in tries if name != "honest")
    return Finding(right=figures["honest"] == HTTPStatus.OK and refused, figures=figures)


def _posted(server: Running, body: dict[str, Any], headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    headers = {"content-type": "application/json"} | headers
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    return connection.getresponse().status


def task_code(arena: Arena) -> Finding:
    """Name code in a file of tasks: it must not even be read without --allow-code."""
    path, mark = arena.ready.folder / "tasks.jsonl", arena.ready.folder / "ran"
    scorers = ("builtins:exec", "os:system", "pathlib:Path.touch")
    outcomes: Counter[str] = Counter()
    for scorer in scorers:
        task = {"id": "a", "prompt": f"touch {mark}", "scorer": scorer, "target": "x"}
        path.write_text(json.dumps(task) + "\n", "utf-8")
        try:
            load_tasks(path)
            outcomes["taken"] += 1
        except SufficeError:
            outcomes["refused"] += 1
    right = outcomes["refused"] == len(scorers) and not Path(mark).exists()
    return Finding(right=right, figures=dict(outcomes))


def _manner(arena: Arena, fault: Fault) -> None:
    models = tuple(ours.MODELS.values())
    ours.set_manner(arena.ready.stub.port, Manner(fault=fault, models=models))
