"""What sparsity buys at each batch: the shipped model beside two dense twins, on llama.cpp.

One twin has as many parameters as the model uses for a token, the other as many as it holds; both
have its attention, its depth and its width, and random weights, so they say nothing about quality.
Decode tokens per second at batch 1, 4 and 16 (short prompts, 96 tokens each, no end token), the
best of three rounds in turn. `law` is how many times fewer bytes of weights the sparse model reads
in a step than the large twin, if E(1-(1-k/E)^B) experts are touched; `measured` how many times
faster it decodes. Converting needs the extra `train` (make venv-train).

python -m benchmarks.sparsity [--json] [--figure FILE.svg]
"""

import asyncio
import json
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from msgspec import Struct

from benchmarks.inputs import benchmark_parser
from suffice.config import EngineConfig
from suffice.engines.embedded import EmbeddedEngine
from suffice.types import Request, Rung

BATCHES = (1, 4, 16)
TOKENS, ROUNDS = 96, 3
EXPERTS, ACTIVE, SHARED = 128, 4, 1


class DecodeSpeed(Struct, frozen=True, kw_only=True):
    """Decode tokens per second of one model by batch."""

    model: str
    parameters: int
    tokens_per_s: dict[int, float]


def main() -> None:
    """Make the twins, time all three in turn, and print."""
    parser = benchmark_parser(__package__, __doc__, data=False)
    parser.add_argument("--figure", type=Path, help="write the figure here, as SVG or PNG")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        files = twins(Path(scratch))
        speeds = asyncio.run(measure(files))
    report = compare(speeds)
    if arguments.figure:
        draw(report, arguments.figure)
    print(json.dumps(report, indent=2) if arguments.json else _text(report))


def twins(folder: Path) -> dict[str, tuple[Path | None, int]]:
    """Write the dense twins as GGUF; the shipped model is None. Numbers are those of parameters."""
    from tools.reference_model.export import save_folder, to_gguf
    from tools.reference_model.model import build_model, dense_config, shipped_config
    from tools.reference_model.tokenizer import build_tokenizer

    tokenizer = build_tokenizer()
    config = shipped_config(tokenizer)
    width = config.moe_intermediate_size
    files: dict[str, tuple[Path | None, int]] = {"sparse": (None, _size(build_model(config)))}
    for name, experts in (("dense, active", ACTIVE + SHARED), ("dense, total", EXPERTS + SHARED)):
        model = build_model(dense_config(tokenizer, intermediate=experts * width))
        source, out = folder / name, folder / f"{name}.gguf"
        save_folder(model, tokenizer, source)
        to_gguf(source, out)
        files[name] = (out, _size(model))
    return files


def _size(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


async def measure(files: dict[str, tuple[Path | None, int]]) -> list[DecodeSpeed]:
    """Time the models in turn, so that a disturbance hits them all."""
    best: dict[str, dict[int, float]] = {name: dict.fromkeys(BATCHES, 0.0) for name in files}
    async with AsyncExitStack() as stack:
        engines = {}
        for name, (path, _) in files.items():
            config = EngineConfig(
                kind="embedded",
                model_path=None if path is None else str(path),
                parallel=max(BATCHES),
                context_tokens=256 * max(BATCHES),
            )
            engines[name] = await stack.enter_async_context(EmbeddedEngine(config))
        for _ in range(ROUNDS):
            for batch in BATCHES:
                for name, engine in engines.items():
                    best[name][batch] = max(best[name][batch], await _rate(engine, batch))
    return [
        DecodeSpeed(model=name, parameters=parameters, tokens_per_s=best[name])
        for name, (_, parameters) in files.items()
    ]


async def _rate(engine: EmbeddedEngine, batch: int) -> float:
    rung = Rung(
        name="speed",
        engine="here",
        model="here",
        max_output_tokens=TOKENS,
        params={"temperature": 0, "ignore_eos": True, "cache_prompt": False},
    )
    request = Request(request_id="speed", messages=({"role": "user", "content": "1 + 1 ="},))
    start_s = time.perf_counter()
    completions = await asyncio.gather(*(engine.complete(request, rung) for _ in range(batch)))
    tokens = sum(
        completion.usage.output_tokens.tokens
        for completion in completions
        if completion.usage.output_tokens
    )
    return tokens / (time.perf_counter() - start_s)


def compare(speeds: list[DecodeSpeed]) -> dict[str, Any]:
    """Set the sparse model against the large twin, and against the law of unique experts."""
    sparse, _, total = speeds
    expert = (total.parameters - speeds[1].parameters) / (EXPERTS - ACTIVE)
    rest = total.parameters - expert * EXPERTS
    rows = {}
    for batch in BATCHES:
        touched = EXPERTS * (1 - (1 - ACTIVE / EXPERTS) ** batch)
        rows[str(batch)] = {
            "unique_experts": round(touched, 2),
            "law": round(total.parameters / (rest + touched * expert), 2),
            "measured": round(sparse.tokens_per_s[batch] / total.tokens_per_s[batch], 2),
            "tokens_per_s": {speed.model: round(speed.tokens_per_s[batch], 1) for speed in speeds},
        }
    return {"parameters": {speed.model: speed.parameters for speed in speeds}, "batch": rows}


def draw(report: dict[str, Any], out: Path) -> None:
    """Write the figure: how many times faster than the large twin, measured and by the law."""
    import altair as alt

    rows = [
        {"batch": batch, "times": row[kind], "known": kind}
        for batch, row in report["batch"].items()
        for kind in ("law", "measured")
    ]
    chart = alt.Chart(alt.InlineData(values=rows), width=320, height=220).mark_line(point=True)
    chart.encode(
        x=alt.X("batch:O", sort=None, title="batch (requests decoded together)"),
        y=alt.Y("times:Q", title="sparse over dense of equal size"),
        color=alt.Color("known:N", title=None),
    ).save(str(out))


def _text(report: dict[str, Any]) -> str:
    lines = [f"{name}: {size:,} parameters" for name, size in report["parameters"].items()]
    for batch, row in report["batch"].items():
        rates = ", ".join(f"{name} {rate:,.0f}" for name, rate in row["tokens_per_s"].items())
        lines.append(
            f"batch {batch}: {rates} tokens/s; over the large twin {row['measured']}x, "
            f"by the law {row['law']}x"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
