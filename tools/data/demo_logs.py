"""Make the logs that `suffice bill --demo` reads: sessions of an agent, and a classifier's calls.

`python -m tools.data.demo_logs` writes them into the package. Nobody's traffic is in them: lengths,
pauses and growth are drawn from distributions like those of coding agents (docs/bill.md).
"""

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parents[2] / "src" / "suffice" / "bill" / "data"
START = datetime(2026, 11, 2, 8, tzinfo=UTC)
SESSIONS, TICKETS = 24, 1500
LABELS = ("billing", "login", "shipping", "refund", "other")
DEVELOPERS = ("shop", "search", "payments")


def main() -> None:
    """Write both logs."""
    rng = np.random.default_rng(20261102)
    write(FOLDER / "claude-code.jsonl.gz", agent_rows(rng))
    write(FOLDER / "litellm.jsonl.gz", classifier_rows(rng))


def write(path: Path, rows: Iterator[Any]) -> None:
    """Write JSON lines, packed the same way each time."""
    path.parent.mkdir(exist_ok=True)
    data = b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows)
    path.write_bytes(gzip.compress(data, mtime=0))


def agent_rows(rng: np.random.Generator) -> Iterator[Any]:
    """Yield the session files of Claude Code: a main agent, and now and then a sub-agent."""
    for session in range(SESSIONS):
        at = START + timedelta(hours=float(rng.uniform(0, 9)), days=session // 2)
        agents = ["main"] * int(rng.integers(15, 70))
        agents += ["helper"] * int(rng.integers(5, 15)) if session % 3 == 0 else []
        held: dict[str, tuple[int, datetime]] = {}
        for step, agent in enumerate(agents):
            before, last = held.get(agent, (0, at))
            grown = int(rng.lognormal(7.3, 1.0)) if before else int(rng.integers(14_000, 32_000))
            warm = before if at - last < timedelta(minutes=5) else 0
            warm = 0 if rng.random() < 0.02 else warm
            held[agent] = (before + grown, at)
            usage = {
                "input_tokens": 4,
                "cache_read_input_tokens": warm,
                "cache_creation_input_tokens": before + grown - warm - 4,
                "output_tokens": int(rng.lognormal(5.6, 1.0)) + 1,
                "service_tier": "standard",
            }
            yield {
                "type": "assistant",
                "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "sessionId": f"session-{session:02d}",
                "uuid": f"{session}-{step}",
                "isSidechain": agent != "main",
                "cwd": f"/home/dev/{DEVELOPERS[session % 3]}",
                "message": {
                    "id": f"msg_demo_{session}_{step}",
                    "role": "assistant",
                    "model": "claude-opus-4-5-20251101",
                    "usage": usage,
                },
            }
            pause = rng.lognormal(2.6, 0.8) if rng.random() < 0.92 else rng.uniform(60, 2400)
            at += timedelta(seconds=float(pause))


def classifier_rows(rng: np.random.Generator) -> Iterator[Any]:
    """Yield the spend log of a service that sorts tickets, with some failures and retries."""
    at = START
    for number in range(TICKETS):
        at += timedelta(seconds=float(rng.exponential(600)))
        label = LABELS[int(rng.choice(len(LABELS), p=(0.35, 0.25, 0.2, 0.15, 0.05)))]
        ticket = int(rng.zipf(1.6)) % 900
        failed = bool(rng.random() < 0.01)
        read, written = int(rng.normal(900, 60)), int(rng.integers(3, 9))
        reasoning = int(rng.lognormal(4.6, 0.7))
        usd = 0.0 if failed else (read * 1.25 + (written + reasoning) * 10) / 1e6
        yield {
            "request_id": f"chatcmpl-demo-{number}",
            "call_type": "acompletion",
            "spend": usd,
            "prompt_tokens": 0 if failed else read,
            "completion_tokens": 0 if failed else written + reasoning,
            "startTime": f"{at:%Y-%m-%d %H:%M:%S.%f}",
            "endTime": f"{at + timedelta(seconds=2):%Y-%m-%d %H:%M:%S.%f}",
            "model": "gpt-5",
            "custom_llm_provider": "openai",
            "user": "ticket-sorter",
            "status": "failure" if failed else "success",
            "request_tags": ["support"],
            "messages": [
                {"role": "system", "content": f"Sort the ticket into: {', '.join(LABELS)}."},
                {"role": "user", "content": f"Ticket {ticket}: my {label} question."},
            ],
            "response": {"choices": [{"message": {"content": label}}]},
            "metadata": {
                "user_api_key_alias": "ticket-sorter",
                "usage_object": {
                    "completion_tokens_details": {"reasoning_tokens": 0 if failed else reasoning}
                },
            },
        }


if __name__ == "__main__":
    main()
