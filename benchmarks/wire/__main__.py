"""How long reading an engine's stream takes: each event, and the usage at its end.

Processor time of one thread, the best of several runs, since other work on the machine only adds.
"""

import json
import time
from collections.abc import Callable

from benchmarks.inputs import benchmark_parser, print_figures
from suffice.engines.fold import Fold
from suffice.engines.usage import read_usage

EVENTS = 400
RUNS = 15
HEAD = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
USAGE = {
    "prompt_tokens": 7000,
    "completion_tokens": EVENTS,
    "total_tokens": 7000 + EVENTS,
    "prompt_tokens_details": {"cached_tokens": 10, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}


def stream() -> list[bytes]:
    """Return the events of an answer, one token each."""
    choices = [
        {"index": 0, "delta": {"content": f" {i}"}, "finish_reason": None} for i in range(EVENTS)
    ]
    end = {"index": 0, "delta": {}, "finish_reason": "stop"}
    chunks = [HEAD | {"choices": [choice]} for choice in (*choices, end)]
    chunks.append(HEAD | {"choices": [], "usage": USAGE})
    return [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks]


def read(events: list[bytes]) -> None:
    """Read a stream as the gateway does."""
    fold = Fold()
    for event in events:
        fold.feed(event)
    fold.wire(read_usage(fold.reply().usage, reasoning=""))


def best_us(task: Callable[[], object], *, times: int) -> float:
    """Return the processor microseconds of a task, in the best of the runs."""
    best = float("inf")
    for _ in range(RUNS):
        begin = time.process_time()
        for _ in range(times):
            task()
        best = min(best, (time.process_time() - begin) / times)
    return best * 1e6


def main() -> None:
    """Print the figures, as lines or as one JSON object."""
    options = benchmark_parser(__package__, __doc__, data=False).parse_args()
    events = stream()
    figures = {
        "event_us": best_us(lambda: read(events), times=20) / len(events),
        "usage_us": best_us(lambda: read_usage(USAGE, reasoning=""), times=2000),
    }
    print_figures(figures, as_json=options.json)


if __name__ == "__main__":
    main()
