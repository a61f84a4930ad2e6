"""The gateway against the LiteLLM proxy and a bare pass-through: same stub, same core, one run.

Load generator and stub share one core, the proxy has the other. Ours decides by a certified policy
and keeps its books and metrics while it is measured. 32 connections unless said otherwise; requests
of about 300 bytes; streams of 50 chunks.
- `throughput_ratio`, `passthrough_ratio`: our answers a second over LiteLLM's, and over those of
  the pass-through, which is the limit in Python (benchmarks/gateway/passthrough.py);
- `added_latency_ms`, `passthrough_latency_ms`: at concurrency 1, our percentiles and those of the
  pass-through, less the median without a proxy;
- `decision_ms`: deciding alone, timed inside the serving process (benchmarks/gateway/timed.py);
- `rss_growth`: resident memory at the end over that after the first tenth of the requests, less 1;
- `ledger_rows_missing`: answers that have no row; `token_sum_error`: how far the ledger's sums of
  tokens are from the stub's own count, over all kinds and rungs; `picousd_sum_error`: the same
  in millionths of a millionth of a dollar.
LiteLLM lives in an environment of its own, made when absent; without it its figures are null.

python -m benchmarks.gateway --json [--soak | --faults [--attack NAME] | --drift | --schema]
"""

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from benchmarks.gateway import litellm_proxy as gateway_litellm
from benchmarks.gateway import ours as gateway_ours
from benchmarks.gateway.bed import Bed, bed, say
from benchmarks.gateway.env import Absent, Installed
from benchmarks.gateway.load import LoadSize, LoadTarget
from benchmarks.gateway.ours import Policies, Setup
from benchmarks.gateway.processes import Broken, Command, Running, free_port, python, running
from benchmarks.gateway.soak import soak, soak_figures
from benchmarks.inputs import benchmark_parser

CONNECTIONS = 32
ROUNDS = 3  # of each measurement; the median counts
WARM_S = 1.0
DECISIONS = 5_000
SOAK, SHORT_SOAK = 200_000, 40_000
KINDS = ("json", "stream")
PERCENTILES = (("p50", 50), ("p99", 99))
MUST_BE_ZERO = ("ledger_rows_missing", "token_sum_error", "picousd_sum_error")

Figures = dict[str, Any]


class ServerSpeed(Struct, frozen=True, kw_only=True):
    """What was measured of one server."""

    json_rps: float
    stream_rps: float
    json_p50_ms: float
    json_p99_ms: float
    stream_p50_ms: float
    stream_p99_ms: float
    resident_mb: float | None


class Ours(Struct, frozen=True, kw_only=True):
    """What was measured of our gateway, and what its books came to."""

    speed: ServerSpeed
    books: Figures


def main() -> None:
    """Print the figures; exit status 1 when the run broke or something is not 0 that must be."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    try:
        with bed() as ready:
            figures, right = _figures(options, ready)
    except Broken as error:
        print(f"the benchmark broke off: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    print(json.dumps(figures, indent=None if options.json else 2))
    raise SystemExit(0 if right else 1)


def _options() -> argparse.Namespace:
    parser = benchmark_parser(__package__, __doc__, data=False)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--soak", action="store_true", help=f"{SOAK:,} requests, not {SHORT_SOAK:,}")
    what.add_argument("--faults", action="store_true", help="break everything, and check the books")
    what.add_argument("--drift", action="store_true", help="let a rung become worse")
    what.add_argument("--schema", action="store_true", help="run schemathesis on the served API")
    parser.add_argument("--attack", help="of --faults: one attack alone")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement")
    parser.add_argument("--requests", type=int, help="of the soak, for a trial run")
    parser.add_argument("--litellm-env", type=Path, default=gateway_litellm.DEFAULT_FOLDER)
    return parser.parse_args()


def _figures(options: argparse.Namespace, ready: Bed) -> tuple[Figures, bool]:
    say("certifying policies on the packaged outcomes")
    policies = gateway_ours.fit_policies(ready.folder)
    if options.faults:
        from benchmarks.gateway.attacks import run_attacks
        from benchmarks.gateway.faults import run_faults

        attacks, withstood = run_attacks(ready, policies, only=options.attack)
        if options.attack is not None:
            return {"attacks": attacks}, withstood
        faults, survived = run_faults(ready, policies)
        return {"attacks": attacks, "faults": faults}, withstood and survived
    if options.drift:
        from benchmarks.gateway.drift import run_drift

        return run_drift(ready, policies)
    if options.schema:
        from benchmarks.gateway.schema import run_schema

        return run_schema(ready, policies)
    figures = _compare(options, ready, policies)
    return figures, not any(figures[name] for name in MUST_BE_ZERO)


def _compare(options: argparse.Namespace, ready: Bed, policies: Policies) -> Figures:
    speeds: dict[str, ServerSpeed | None] = {}
    seconds = options.seconds
    direct = LoadTarget(name="direct", port=ready.stub.port, model="small")
    speeds["direct"] = _speed(ready, direct, None, seconds=seconds)
    with running(_passthrough_command(ready), core=ready.cores.proxy) as server:
        target = LoadTarget(name="passthrough", port=server.port, model="small")
        speeds["passthrough"] = _speed(ready, target, server, seconds=seconds)
    litellm = gateway_litellm.installed(options.litellm_env)
    speeds["litellm"] = _litellm_speed(ready, litellm, seconds=seconds)
    ours = _ours(ready, policies, options)
    speeds["ours"] = ours.speed
    return {
        **_ratios(speeds),
        "decision_ms": _decision_ms(ready, policies),
        **ours.books,
        "deferring_rps": _deferring_rps(ready, policies, seconds=seconds),
        "memory_ratio": _over(speeds, "litellm", "resident_mb"),
        "speeds": {name: speed and _rounded(speed) for name, speed in speeds.items()},
        "stub_is_the_limit": _stub_bound(speeds),
        "litellm": _litellm_note(litellm),
        **_machine(ready),
    }


def _speed(
    ready: Bed, target: LoadTarget, server: Running | None, *, seconds: float
) -> ServerSpeed:
    """Measure a server at concurrency 1 and 32, streaming and not; each the median of rounds."""
    say(f"measuring {target.name}")
    runs = {
        (streamed, connections): [
            ready.load(
                msgspec.structs.replace(target, streamed=streamed),
                LoadSize(connections=connections, seconds=seconds, warm_s=WARM_S),
            )
            for _ in range(ROUNDS)
        ]
        for connections in (1, CONNECTIONS)
        for streamed in (False, True)
    }
    return ServerSpeed(
        json_rps=median(run.rps for run in runs[False, CONNECTIONS]),
        stream_rps=median(run.rps for run in runs[True, CONNECTIONS]),
        json_p50_ms=median(run.latency_ms(50) for run in runs[False, 1]),
        json_p99_ms=median(run.latency_ms(99) for run in runs[False, 1]),
        stream_p50_ms=median(run.latency_ms(50) for run in runs[True, 1]),
        stream_p99_ms=median(run.latency_ms(99) for run in runs[True, 1]),
        resident_mb=None if server is None else server.resident_bytes / 1e6,
    )


def _passthrough_command(ready: Bed) -> Command:
    port = free_port()
    app = "benchmarks.gateway.passthrough:app"
    quiet = ("--log-level", "warning", "--no-access-log")
    return Command(
        name="passthrough",
        arguments=python("-m", "uvicorn", app, "--port", str(port), *quiet),
        port=port,
        ready="/stub/counts",
        folder=ready.folder,
        environment={"UPSTREAM": f"http://127.0.0.1:{ready.stub.port}"},
    )


def _litellm_speed(
    ready: Bed, litellm: Installed | Absent, *, seconds: float
) -> ServerSpeed | None:
    if isinstance(litellm, Absent):
        say(litellm.reason)
        return None
    command, key = gateway_litellm.serve(
        litellm, folder=ready.folder, port=free_port(), upstream=ready.stub.port, model="small"
    )
    with running(command, core=ready.cores.proxy) as server:
        headers = {"authorization": f"Bearer {key}"}
        target = LoadTarget(name="litellm", port=server.port, model="small", headers=headers)
        return _speed(ready, target, server, seconds=seconds)


def _ours(ready: Bed, policies: Policies, options: argparse.Namespace) -> Ours:
    """Measure ours, then soak the same process, and check its books over all of that."""
    gateway_ours.reset_stub(ready.stub.port)
    first = next(ready.tags) + 1
    questions = gateway_ours.questions(policies.groups)
    setup = Setup(name="ours", upstream=ready.stub.port, policy=policies.routes)
    with ready.gateway(setup) as server:
        target = LoadTarget(name="ours", port=server.port, model="suffice", questions=questions)
        speed = _speed(ready, target, server, seconds=options.seconds)
        requests = options.requests or (SOAK if options.soak else SHORT_SOAK)
        soaked = soak(ready, target, server, requests=requests)
    books = soak_figures(
        soaked,
        ready.folder / setup.name / "suffice.db",
        served=gateway_ours.stub_counts(ready.stub.port),
        answered=next(ready.tags) - first,
    )
    return Ours(speed=speed, books=books)


def _deferring_rps(ready: Bed, policies: Policies, *, seconds: float) -> float:
    """Measure the policy that also looks at the cheap rung's answers, not streamed."""
    say("measuring ours with a policy that defers")
    setup = Setup(name="defers", upstream=ready.stub.port, policy=policies.defers)
    questions = gateway_ours.questions(policies.groups)
    with ready.gateway(setup) as server:
        target = LoadTarget(name="defers", port=server.port, model="suffice", questions=questions)
        limits = LoadSize(connections=CONNECTIONS, seconds=seconds, warm_s=WARM_S)
        return round(ready.load(target, limits).rps, 1)


def _decision_ms(ready: Bed, policies: Policies) -> dict[str, float]:
    """Time every decision of a run at concurrency 1, the first tenth left out."""
    say("timing decisions")
    setup = Setup(name="timed", upstream=ready.stub.port, policy=policies.defers)
    taken = ready.folder / "decisions.json"
    command = gateway_ours.serve(setup, folder=ready.folder, port=free_port(), timed=taken)
    with running(command, core=ready.cores.proxy) as server:
        questions = gateway_ours.questions(policies.groups)
        target = LoadTarget(name="timed", port=server.port, model="suffice", questions=questions)
        ready.load(target, LoadSize(connections=1, requests=DECISIONS))
    if not taken.is_file():
        raise Broken("the timed gateway wrote no decisions when it ended")
    steady_ms = 1000 * np.array(json.loads(taken.read_text("utf-8")))[DECISIONS // 10 :]
    return {name: round(float(np.percentile(steady_ms, at)), 3) for name, at in PERCENTILES}


def _ratios(speeds: Mapping[str, ServerSpeed | None]) -> Figures:
    return {
        "throughput_ratio": {kind: _over(speeds, "litellm", f"{kind}_rps") for kind in KINDS},
        "passthrough_ratio": {kind: _over(speeds, "passthrough", f"{kind}_rps") for kind in KINDS},
        "added_latency_ms": _added_ms(speeds, "ours"),
        "passthrough_latency_ms": _added_ms(speeds, "passthrough"),
    }


def _added_ms(speeds: Mapping[str, ServerSpeed | None], name: str) -> dict[str, float]:
    """Return what a server adds to an answer without a proxy, at concurrency 1."""
    server, direct = speeds[name], speeds["direct"]
    assert server is not None
    assert direct is not None
    return {
        "p50": round(server.json_p50_ms - direct.json_p50_ms, 3),
        "p99": round(server.json_p99_ms - direct.json_p50_ms, 3),
    }


def _over(speeds: Mapping[str, ServerSpeed | None], other: str, figure: str) -> float | None:
    """Divide our figure by another server's; None where that one was not measured."""
    ours, theirs = speeds["ours"], speeds[other]
    if ours is None or theirs is None:
        return None
    over: float = getattr(ours, figure) / getattr(theirs, figure)
    return round(over, 3)


def _stub_bound(speeds: Mapping[str, ServerSpeed | None]) -> list[str]:
    """Name what came so near to the stub's own speed that the stub may have held it back."""
    direct = speeds["direct"]
    return [
        f"{name} {kind}"
        for name, speed in speeds.items()
        for kind in KINDS
        if speed is not None and name != "direct"
        if getattr(speed, f"{kind}_rps") > 0.7 * getattr(direct, f"{kind}_rps")
    ]


def _litellm_note(litellm: Installed | Absent) -> dict[str, str | None]:
    if isinstance(litellm, Absent):
        return {"version": None, "note": litellm.reason}
    return {"version": litellm.version, "note": None}


def _rounded(speed: ServerSpeed) -> dict[str, float | None]:
    values = msgspec.structs.asdict(speed)
    return {name: None if value is None else round(value, 3) for name, value in values.items()}


def _machine(ready: Bed) -> Figures:
    cores = ready.cores
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {sys.version.split()[0]}",
        "cores": "apart" if cores.load != cores.proxy else "one core for all: ratios mean little",
    }


if __name__ == "__main__":
    main()
