"""Measure the speeds that the prices of the compound workload rest on, on this machine.

The shipped model and a dense twin with as many parameters in all, served four requests at a time.
`input_tokens_per_s` counts tokens read while only prompts of the workload are read (one token
answered), `output_tokens_per_s` tokens written while only writing (no end token); the best of five
rounds in turn. What a request costs the server besides is in them. The twin's weights are random:
its speed is known, its quality is not. They go into `src/suffice/data/compound.toml` before the
workload is measured. Converting the twin needs the extra `train` (make venv-train).

python -m benchmarks.compound.prices [--json] [--model GGUF]
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.sparsity.__main__ import twins
from suffice.bench.shipped import shipped_tasks
from suffice.config import EngineConfig
from suffice.engines.embedded import EmbeddedEngine
from suffice.types import Completion, Request, Rung

PARALLEL, ROUNDS = 4, 5
READ, WRITTEN = 240, 256  # prompts of a round, spread over the workload; tokens a request writes
NAMES = {"sparse": "sparse", "dense, total": "dense"}
READING, WRITING = "input_tokens_per_s", "output_tokens_per_s"


def main() -> None:
    """Make the twin, time both in turn, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--model", type=Path, help="another GGUF than the one that ships")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        models = twins(Path(scratch))
        files = {NAMES[name]: path for name, (path, _) in models.items() if name in NAMES}
        report = asyncio.run(measure({**files, "sparse": arguments.model}))
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        for name, speeds in report.items():
            print(name, ", ".join(f"{key} = {value:,.0f}" for key, value in speeds.items()))


async def measure(files: dict[str, Path | None]) -> dict[str, dict[str, float]]:
    """Time the models in turn, so that a disturbance hits them all."""
    tasks = shipped_tasks()
    prompts = [task.request for task in tasks[:: len(tasks) // READ]]
    best: dict[str, dict[str, float]] = {name: {READING: 0.0, WRITING: 0.0} for name in files}
    async with AsyncExitStack() as stack:
        engines = {}
        for name, path in files.items():
            config = EngineConfig(
                kind="embedded",
                model_path=None if path is None else str(path),
                parallel=PARALLEL,
                context_tokens=8192,
            )
            engines[name] = await stack.enter_async_context(EmbeddedEngine(config))
        for _ in range(ROUNDS):
            for name, engine in engines.items():
                rates = {
                    READING: await _rate(engine, prompts, tokens=1),
                    WRITING: await _rate(engine, prompts[:PARALLEL], tokens=WRITTEN),
                }
                best[name] = {key: max(best[name][key], rate) for key, rate in rates.items()}
    return best


async def _rate(engine: EmbeddedEngine, requests: Sequence[Request], *, tokens: int) -> float:
    """Return tokens a second, of the prompts where one is answered, else of the answers."""
    rung = Rung(
        name="speed",
        engine="here",
        model="here",
        max_output_tokens=tokens,
        params={"temperature": 0, "ignore_eos": True, "cache_prompt": False},
    )
    waiting = list(requests)
    completions: list[Completion] = []

    async def serve() -> None:
        while waiting:
            completions.append(await engine.complete(waiting.pop(), rung))

    started_s = time.perf_counter()
    await asyncio.gather(*(serve() for _ in range(PARALLEL)))
    seconds = time.perf_counter() - started_s
    usages = [completion.usage for completion in completions]
    counts = [
        completion.input_tokens if tokens == 1 else completion.output_tokens
        for completion in usages
    ]
    return sum(count.tokens for count in counts if count) / seconds


if __name__ == "__main__":
    main()
