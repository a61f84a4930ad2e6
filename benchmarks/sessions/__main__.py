"""What moving requests to a cheaper model costs or saves where sessions share a cached prefix.

Data: requests of real coding-agent sessions, callanjfox/kv-cache-tester, Apache-2.0. The replay
charges each request by what a cache still holds of its prompt: the least of its recorded hit and of
the prompt that the same model last read in the same agent, unless the pause since then was over the
cache's life. The pause is the recorded time that the user or the tools took. Prices are the list
prices of Claude Opus 4.5: $5 input, $6.25 written, $0.50 read, $25 output a million tokens. The
cheaper model costs 60 % of each, as Sonnet does.

The policy's wish is drawn at random, since the trace says nothing about quality: what is measured
is where the wish may be followed. `by_request` follows it on every request, `by_session` for whole
sessions, and `ours` through `suffice.sessions.choose`: at starts, pauses and compactions, where the
switch pays. Each is tuned to the share of requests moved, and repeated over seeds; a saving is a
part of the bill of the reference alone, negative where it is dearer.

python -m benchmarks.sessions --data DATA [--json]
"""

import csv
import gzip
import json
import time
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, NamedTuple

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.inputs import benchmark_parser, data_file
from suffice.sessions import AgentState, AgentTurn, SessionOutlook, TokenRates, after, choose

TRACE = "traces/claude_code_sessions.csv.gz"
BLOCK_TOKENS, LIFE_S = 64, 300.0
DEAR, CHEAP = "opus", "sonnet"
LADDER = (CHEAP, DEAR)
USD_PER_MTOK = {"read": 0.5, "write": 6.25, "output": 25.0}
CHEAP_PRICE = 0.6
SHARES, SEEDS, SESSIONS_PER_BLOCK = (0.1, 0.3, 0.5), 10, 50
RATES = {
    rung: TokenRates(
        read_usd=USD_PER_MTOK["read"] * part / 1e6,
        write_usd=USD_PER_MTOK["write"] * part / 1e6,
        output_usd=USD_PER_MTOK["output"] * part / 1e6,
        cache_life_s=LIFE_S,
    )
    for rung, part in ((DEAR, 1.0), (CHEAP, CHEAP_PRICE))
}


class RecordedCall(NamedTuple):
    """One recorded request: the agent that made it, its turn, and the tokens of its answer."""

    agent: str
    turn: AgentTurn
    output_tokens: int


class RoutedBill(NamedTuple):
    """The dollars of each session under one way to route, and the share of requests moved."""

    session_usd: list[float]
    share: float


Session = list[RecordedCall]
Wish = Callable[[], str]
Route = Callable[[Session, Wish], list[str]]


def main() -> None:
    arguments = benchmark_parser(__package__, __doc__, data=True).parse_args()
    figures = measure(read_sessions(data_file(arguments.data, TRACE)))
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        show(figures)


def read_sessions(path: Path) -> list[Session]:
    """Read the sessions of a trace, each with its requests in their order of time."""
    with gzip.open(path, "rt") as lines:
        rows = list(csv.DictReader(lines))
    return [
        sorted(_calls(requests), key=lambda call: call.turn.time_s)
        for _, requests in groupby(rows, key=lambda row: row["trace"])
    ]


def _calls(rows: Iterable[dict[str, str]]) -> Iterable[RecordedCall]:
    stops: dict[str, str] = {}
    for row in rows:
        agent, think = row["agent"], row["think"]
        turn = AgentTurn(
            time_s=float(row["t"]),
            prompt_tokens=int(row["inp"]),
            shared_tokens=min(int(row["inp"]), int(row["hit_blocks"]) * BLOCK_TOKENS),
            idle_s=float(think) if think not in ("", "None") else None,
            in_tool_loop=stops.get(agent) == "tool_use",
        )
        stops[agent] = row["stop"]
        yield RecordedCall(agent, turn, int(row["out"]))


# -- ways to route ---------------------------------------------------------------------------------


def by_request(session: Session, wish: Wish) -> list[str]:
    """Follow the wish on every request."""
    return [wish() for _ in session]


def by_session(session: Session, wish: Wish) -> list[str]:
    """Follow one wish for the whole session."""
    return [wish()] * len(session)


def ours(session: Session, wish: Wish) -> list[str]:
    """Follow the wish where a session may change its rung and the switch pays."""
    states: dict[str, AgentState] = {}
    rungs = []
    for call in session:
        state = states.get(call.agent)
        choice = choose(
            state, call.turn, wish=wish(), ladder=LADDER, rates=RATES, outlook=SessionOutlook()
        )
        states[call.agent] = after(state, call.turn, rung=choice.rung, escalated=choice.escalated)
        rungs.append(choice.rung)
    return rungs


# -- what they cost --------------------------------------------------------------------------------


def replay(sessions: list[Session], route: Route, *, share: float, seed: int) -> RoutedBill:
    """Charge all sessions under one way to route, with a wish for the cheap rung of this share."""
    random, moved, usd = Random(seed), 0, []
    for session in sessions:
        rungs = route(session, lambda: CHEAP if random.random() < share else DEAR)
        moved += rungs.count(CHEAP)
        usd.append(sum(sum(parts) for parts in session_usd(session, rungs)))
    return RoutedBill(usd, moved / sum(map(len, sessions)))


def session_usd(session: Session, rungs: list[str]) -> Iterable[tuple[float, float, float]]:
    """Yield the dollars of each request of a session: read from the cache, written, put out."""
    states: dict[str, AgentState] = {}
    for call, rung in zip(session, rungs, strict=True):
        state, rates = states.get(call.agent), RATES[rung]
        warm = state.warm_tokens(rung, call.turn, cache_life_s=LIFE_S) if state else 0
        states[call.agent] = after(state, call.turn, rung=rung)
        yield (
            warm * rates.read_usd,
            (call.turn.prompt_tokens - warm) * rates.write_usd,
            call.output_tokens * rates.output_usd,
        )


def measure(sessions: list[Session]) -> dict[str, Any]:
    """Work out every figure of the benchmark."""
    alone = [list(session_usd(session, [DEAR] * len(session))) for session in sessions]
    parts = [sum(column) for column in zip(*(p for s in alone for p in s), strict=True)]
    bill = sum(parts)
    block_usd = blocks([sum(map(sum, session)) for session in alone])
    moved = []
    for share in SHARES:
        row: dict[str, Any] = {"share_moved": share}
        for route in (by_request, by_session, ours):
            wished = share if route is not ours else wish_for(sessions, share)
            runs = [replay(sessions, route, share=wished, seed=seed) for seed in range(SEEDS)]
            ratios = [
                mine / theirs
                for run in runs
                for mine, theirs in zip(blocks(run.session_usd), block_usd, strict=True)
            ]
            row[route.__name__] = {
                "share": fmean(run.share for run in runs),
                "saving": 1 - fmean(sum(run.session_usd) for run in runs) / bill,
                "dearest_block": max(ratios),
            }
        per_share = row["by_session"]["saving"] / row["by_session"]["share"]
        row["saving_ratio"] = row["ours"]["saving"] / (per_share * row["ours"]["share"])
        moved.append(row)
    return {
        "requests": sum(map(len, sessions)),
        "sessions": len(sessions),
        "usd_per_mtok": USD_PER_MTOK,
        "cheap_price": CHEAP_PRICE,
        "cache_life_s": LIFE_S,
        "reference_usd": bill,
        "reference_parts": dict(
            zip(("reads", "writes", "output"), (p / bill for p in parts), strict=True)
        ),
        "moved": moved,
        **speed(sessions),
    }


def wish_for(sessions: list[Session], share: float) -> float:
    """Find the share of wishes at which so many requests are moved: held ones follow no wish."""
    low, high = 0.0, 1.0
    for _ in range(7):
        middle = (low + high) / 2
        got = fmean(replay(sessions, ours, share=middle, seed=seed).share for seed in (97, 98))
        low, high = (middle, high) if got < share else (low, middle)
    return (low + high) / 2


def blocks(usd: list[float]) -> list[float]:
    """Add up the dollars of each block of sessions; a shorter last block counts too."""
    return [sum(usd[i : i + SESSIONS_PER_BLOCK]) for i in range(0, len(usd), SESSIONS_PER_BLOCK)]


def speed(sessions: list[Session]) -> dict[str, Any]:
    """Time the choices alone, and weigh the largest state that a session has left."""
    random = Random(0)
    began_s, count, largest = time.process_time(), 0, 0
    for session in sessions:
        ours(session, lambda: CHEAP if random.random() < 0.3 else DEAR)
        count += len(session)
    spent_s = time.process_time() - began_s
    for session in sessions:
        states: dict[str, AgentState] = {}
        for call in session:
            states[call.agent] = after(states.get(call.agent), call.turn, rung=DEAR)
        states = {agent: after(s, session[-1].turn, rung=CHEAP) for agent, s in states.items()}
        largest = max(largest, *(len(msgspec.json.encode(state)) for state in states.values()))
    return {"choices_per_s": count / spent_s, "largest_state_bytes": largest}


def show(figures: dict[str, Any]) -> None:
    """Print the figures as a table."""
    console = Console()
    parts = ", ".join(f"{name} {part:.0%}" for name, part in figures["reference_parts"].items())
    console.print(f"always the reference: ${figures['reference_usd']:,.0f} ({parts})")
    table = Table("requests moved", "way", "share", "saving", "dearest block of 50 sessions")
    for row in figures["moved"]:
        for name in ("by_request", "by_session", "ours"):
            values = row[name]
            table.add_row(
                f"{row['share_moved']:.0%}",
                name.replace("_", " "),
                f"{values['share']:.1%}",
                f"{values['saving']:.1%}",
                f"{values['dearest_block']:.3f}",
            )
    console.print(table)
    console.print(
        f"{figures['choices_per_s']:,.0f} choices a second, "
        f"{figures['largest_state_bytes']} bytes of state at most"
    )


if __name__ == "__main__":
    main()
