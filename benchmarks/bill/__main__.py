"""What `suffice bill` takes for a million requests, and whether it knows what agents cost.

Logs are generated, each with its invoice: saved API responses, the spend log of a gateway, session
files of an agent whose messages are logged three times. `--peer` names the command `frugon` of
another environment, which reads the first of them on the same machine. With `--data`, real agent
sessions are billed at the prices of Opus, and requests and sessions are moved to a model at
60 % of its price.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from benchmarks.inputs import benchmark_parser
from suffice.bill.charges import charge_records
from suffice.bill.prices import find_price
from suffice.bill.replay import (
    Caching,
    lay_out_steps,
    replay,
    share_of_requests,
    share_of_sessions,
)
from suffice.logs.read import read_logs
from suffice.meter import Price

SESSIONS = "traces/claude_code_sessions.csv.gz"
STEPS = 50  # requests of a session
BLOCKS = 3  # lines that an agent logs of a message
START_S = 1_772_000_000
CHEAPER = Decimal("0.6")
SHARES = (0.1, 0.3, 0.5)
SEEDS = range(5)
RATES = {"gpt-5": (1.25, 0.125, 1.25, 10.0), "claude-opus-4-5": (5.0, 0.5, 6.25, 25.0)}


def main() -> None:
    """Generate the logs, bill them in processes of their own, and print the figures."""
    parser = benchmark_parser(__package__, __doc__, data=True)
    parser.add_argument("--requests", type=int, default=1_000_000, help="requests of a log")
    parser.add_argument("--peer", default="", metavar="COMMAND", help="frugon of its own venv")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("responses", "gateway", "agent"):
            for count in (options.requests // 10, options.requests):
                path = Path(folder) / f"{name}.jsonl"
                invoice = write_log(path, name, count)
                figures[f"{name} {count:,}"] = measure(path, invoice)
                if name == "responses" and options.peer:
                    command = [options.peer, "analyze", str(path), "--no-report"]
                    figures[f"frugon {count:,}"] = run(command)[0]
                path.unlink()
    if (options.data / SESSIONS).is_file():
        figures["agents"] = agents(options.data / SESSIONS)
    if options.json:
        print(json.dumps(figures))
    else:
        for key, value in figures.items():
            print(f"{key:22} {value}")


def measure(path: Path, invoice: float) -> dict[str, float]:
    """Bill a log as a user would; seconds, peak memory in GB, and the error against the invoice."""
    size = path.stat().st_size
    figures, out = run([sys.executable, "-m", "suffice", "bill", str(path), "--json"])
    billed = float(json.loads(out)["whole"]["usd"])
    return {**figures, "log_gb": round(size / 1e9, 2), "error": abs(billed / invoice - 1)}


def run(command: list[str]) -> tuple[dict[str, float], bytes]:
    """Run a command; wall and processor seconds, peak memory, and what it printed."""
    start_s = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        process = os.posix_spawnp(
            command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, out.fileno(), 1)]
        )
        _, status, used = os.wait4(process, 0)
        if status:
            raise SystemExit(f"{command[0]} ended with {os.waitstatus_to_exitcode(status)}")
        out.seek(0)
        printed = out.read()
    return {
        "seconds": round(time.perf_counter() - start_s, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_gb": round(used.ru_maxrss * 1024 / 1e9, 3),
    }, printed


def write_log(path: Path, name: str, count: int) -> float:
    """Write one generated log; returns its invoice in dollars."""
    model = "claude-opus-4-5" if name == "agent" else "gpt-5"
    fresh, read, write, out = RATES[model]
    invoice = 0.0
    row = {"responses": _response, "gateway": _spend, "agent": _messages}[name]
    with path.open("w") as file:
        for number, (prompt, warm, output) in enumerate(_requests(count)):
            cached = (prompt - warm) * (write if name == "agent" else fresh)
            usd = (warm * read + cached + output * out) / 1e6
            invoice += usd
            file.write(row(number, model, prompt, warm, output, usd))
    return invoice


def _requests(count: int) -> Iterator[tuple[int, int, int]]:
    """Yield prompt, cached part and output of each request; prompts of a session grow."""
    rng = np.random.default_rng(0)
    grown = rng.lognormal(7.0, 1.0, count).astype(int) + 1
    outputs = rng.lognormal(5.5, 1.0, count).astype(int) + 1
    before = 0
    for number in range(count):
        before = before if number % STEPS else 0
        prompt = before + int(grown[number])
        yield prompt, before, int(outputs[number])
        before = prompt


def _stamp(number: int) -> str:
    at = START_S + number * 2
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(at))


def _response(number: int, model: str, prompt: int, warm: int, output: int, _usd: float) -> str:
    return (
        f'{{"id":"chatcmpl-{number}","object":"chat.completion","created":{START_S + number * 2},'
        f'"model":"{model}","choices":[{{"message":{{"content":"Paris."}}}}],'
        f'"usage":{{"prompt_tokens":{prompt},"completion_tokens":{output},'
        f'"prompt_tokens_details":{{"cached_tokens":{warm}}}}}}}\n'
    )


def _spend(number: int, model: str, prompt: int, warm: int, output: int, usd: float) -> str:
    at = _stamp(number)
    return (
        f'{{"request_id":"chatcmpl-{number}","call_type":"acompletion","spend":{usd:.9f},'
        f'"prompt_tokens":{prompt},"completion_tokens":{output},"startTime":"{at}",'
        f'"endTime":"{at}","model":"{model}","user":"user-{number % 40}",'
        f'"session_id":"s{number // STEPS}","request_tags":["team-{number % 7}"],'
        f'"metadata":{{"usage_object":{{"cache_read_input_tokens":{warm}}}}}}}\n'
    )


def _messages(number: int, model: str, prompt: int, warm: int, output: int, _usd: float) -> str:
    def line(written: int) -> str:
        return (
            f'{{"type":"assistant","uuid":"{number}-{written}","sessionId":"s{number // STEPS}",'
            f'"timestamp":"{_stamp(number)}","message":{{"id":"msg_{number}","model":"{model}",'
            f'"content":[{{"type":"text","text":"{"word " * 40}"}}],"usage":{{"input_tokens":0,'
            f'"cache_creation_input_tokens":{prompt - warm},"cache_read_input_tokens":{warm},'
            f'"output_tokens":{written}}}}}}}\n'
        )

    return "".join(line(max(1, output * block // BLOCKS)) for block in range(1, BLOCKS + 1))


def agents(path: Path) -> dict[str, Any]:
    """Bill real sessions at Opus prices, and move shares of them to 60 % of the price."""
    opus = find_price("claude-opus-4-5", None, {})
    assert opus is not None
    cheaper = at_share(opus, CHEAPER)
    with read_logs([str(path)]) as logs:
        store = logs.store
        charge_records(store, {}, ttl_s=300)
        lay_out_steps(store, ttl_s=300)
        store.execute("UPDATE steps SET model = 'opus'")
        whole = replay(store, moved="true", target=opus)
        forever = replay(store, moved="true", target=opus, caching=Caching(ttl_s=1e12))
        never = replay(store, moved="true", target=opus, caching=Caching(ttl_s=-1))
        at_opus = _with_rates(store)
        moved = {
            f"{kind} {share:.0%}": round(
                sum(
                    float(replay(store, moved=draw(share, seed=seed), target=cheaper).usd)
                    for seed in SEEDS
                )
                / len(SEEDS)
                / at_opus
                - 1,
                3,
            )
            for kind, draw in {
                "requests": share_of_requests,
                "sessions": share_of_sessions,
            }.items()
            for share in SHARES
        }
    parts = ("read_usd", "write_usd", "output_usd")
    return {
        "read, write, output": [round(float(getattr(whole, p) / whole.usd), 3) for p in parts],
        "no expiry": [round(float(getattr(forever, p) / forever.usd), 3) for p in parts],
        "uncached, times": round(float(never.usd / whole.usd) / 1.25, 2),
        "moved": moved,
    }


def at_share(price: Price, share: Decimal) -> Price:
    """Return a price whose first rates are a share of another's."""
    rates = price.rates[0]
    scaled = {
        name: rate * share
        for name in rates.__struct_fields__
        if name.endswith("_usd_per_mtok") and (rate := getattr(rates, name)) is not None
    }
    return replace(price, rates=(replace(rates, kinds={}, **scaled),), tiers={})


def _with_rates(store: Any) -> float:
    """Give every step the rates of the target of the last replay; returns what all of them cost."""
    store.execute("UPDATE steps SET v = pick_target(input, time)")
    return float(replay(store).usd)


if __name__ == "__main__":
    main()
