"""What latent prediction costs: a packed step against plain fine-tuning and the reference's layout.

Steps are timed in turn (A B A B) in one process and compared pair by pair, in wall and in processor
seconds, because other work on the machine slows both. The opponent is the faster of two plain
layouts: packed rows, and one example a row; a tube is compared with packed rows. SmolLM2-135M,
float32.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.inputs import benchmark_parser
from suffice.errors import InputError, SufficeError

METHODS = ["start", "sft", "jepa", "tube"]
ROUNDS, EXAMPLES = 5, 16
REFERENCE_ROUNDS, REFERENCE_EXAMPLES, REFERENCE_WIDTH = 2, 4, 512


def main() -> None:
    """Print one JSON object or a few lines; exit 2 where data or packages are missing."""
    arguments = _parser().parse_args()
    try:
        result = measure(arguments)
    except SufficeError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_status) from None
    print(json.dumps(result, indent=None if arguments.json else 2))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Load the model once and measure what was asked for."""
    path = arguments.data / "text" / "nl_rx_synth_train.jsonl.gz"
    if not path.exists():
        raise InputError(f"the benchmark reads {path}", hint="give the data folder with --data")
    import torch

    from suffice.engines.embedded import packaged_path
    from suffice.jepa.model import load
    from suffice.jepa.views import examples, read_conversations

    torch.set_flush_denormal(True)
    model, tokenizer = load(packaged_path("SmolLM2-135M-Instruct"))
    rows = examples(read_conversations(path, rows=ROUNDS * EXAMPLES), tokenizer=tokenizer)
    result: dict[str, Any] = {
        "model": "SmolLM2-135M-Instruct, de-quantised from Q4_1",
        "date": time.strftime("%Y-%m-%d"),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
    }
    if not arguments.table_only:
        result |= _equality(model, rows) | _costs(model, rows)
    if arguments.table or arguments.table_only:
        from benchmarks.jepa.table import Setting, table

        result["table"] = table(
            Setting(
                model=model,
                tokenizer=tokenizer,
                data=arguments.data,
                folder=arguments.out,
                size=_size(arguments),
            )
        )
    return result


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser(__package__, __doc__, data=True)
    parser.add_argument("--table", action="store_true", help="train and score every arm as well")
    parser.add_argument("--table-only", action="store_true", help="the table without the costs")
    parser.add_argument("--out", type=Path, default=Path("runs/jepa"), help="the table's log")
    parser.add_argument("--sets", nargs="+", default=["synth", "turk"], choices=["synth", "turk"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    labels = ["answer", "reference"]
    parser.add_argument("--labels", nargs="+", default=labels, choices=labels)
    parser.add_argument(
        "--rows", type=int, nargs="+", help="train rows of the table, sizes of data; default all"
    )
    parser.add_argument("--eval-rows", type=int, help="test rows of the table; default all")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    return parser


def _size(arguments: argparse.Namespace) -> Any:
    from benchmarks.jepa.table import Size
    from suffice.jepa.settings import Labels, Precision

    return Size(
        sets=tuple(arguments.sets),
        rows=tuple(arguments.rows or [None]),
        labels=tuple(map(Labels, arguments.labels)),
        methods=tuple(arguments.methods),
        seeds=tuple(range(arguments.seeds)),
        eval_rows=arguments.eval_rows,
        epochs=arguments.epochs,
        batch_examples=arguments.batch,
        learning_rate=arguments.learning_rate,
        precision=Precision(arguments.precision),
        max_new_tokens=arguments.max_new_tokens,
    )


def _equality(model: Any, rows: Sequence[Any]) -> dict[str, Any]:
    """Measure the largest difference of a packed pass from separate passes."""
    from suffice.jepa.equality import compare
    from suffice.jepa.forward import PackedModel
    from suffice.jepa.packing import PackingLayout

    differences = compare(PackedModel(model, predictors=1), rows[:8], PackingLayout(predictors=1))
    return {
        "equality_max_error": max(differences.hidden, differences.logits),
        "equality_hidden": differences.hidden,
        "equality_logits": differences.logits,
        "equality_hidden_scale": differences.hidden_scale,
    }


def _costs(model: Any, rows: Sequence[Any]) -> dict[str, Any]:
    """Time every layout in turn; `rows` fill ROUNDS batches of EXAMPLES."""
    import torch

    from suffice.jepa.forward import PackedModel

    packed = PackedModel(model, predictors=1).train()
    optimiser = torch.optim.AdamW(packed.parameters(), lr=1e-7, fused=True)

    def ours(distance: str | None, *, row_tokens: int = 256) -> Callable[[Sequence[Any]], None]:
        return lambda part: _step(
            optimiser, _packed_loss(packed, part, distance=distance, row_tokens=row_tokens)
        )

    def reference(width: int | None) -> Callable[[Sequence[Any]], None]:
        return lambda part: _step(optimiser, _reference_loss(model, part, width=width))

    batches = [rows[i : i + EXAMPLES] for i in range(0, len(rows), EXAMPLES)]
    layouts = {
        "sft_packed": ours(None),
        "tube": ours("tube"),
        "sft_padded": ours(None, row_tokens=1),
        "jepa": ours("cosine"),
    }
    timed = _timed(layouts, batches)
    small = {
        "reference": reference(REFERENCE_WIDTH),
        "reference_trimmed": reference(None),
        "jepa_small": ours("cosine"),
    }
    timed |= _timed(small, [rows[:REFERENCE_EXAMPLES]] * REFERENCE_ROUNDS)
    return _ratios(timed)


def _packed_loss(packed: Any, part: Sequence[Any], *, distance: str | None, row_tokens: int) -> Any:
    """Return the loss of a packed pass; `distance` None is plain fine-tuning."""
    from suffice.jepa.objective import losses
    from suffice.jepa.packing import PackingLayout, pack
    from suffice.jepa.settings import Distance, Objective

    tube = distance == Distance.TUBE
    predictors = None if distance is None or tube else 1
    batch = pack(part, PackingLayout(predictors=predictors, tube=tube, row_tokens=row_tokens))
    objective = Objective(distance=Distance(distance or Distance.COSINE))
    return losses(packed(batch), batch.targets, objective=objective).total


def _reference_loss(model: Any, part: Sequence[Any], *, width: int | None) -> Any:
    """Run the reference's default path: conversations, prompts and answers as rows of one width.

    `width` None pads to the longest row instead. As there, the output layer runs over every row and
    all layers' states are kept; unlike there, gradients are not recomputed, in its favour.
    """
    import torch
    from torch.nn.functional import cosine_similarity

    whole = [[*e.prompt, *e.answer, e.end, *e.rest] for e in part]
    rows = [*whole, *[[*e.prompt, 0] for e in part], *[[*e.answer, e.end] for e in part]]
    wide = width or max(map(len, rows))
    ids = torch.tensor([row + [0] * (wide - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (wide - len(row)) for row in rows])
    labels = torch.where(mask.bool(), ids, -100)
    labels[len(part) :] = -100
    output = model(
        input_ids=ids,
        attention_mask=mask,
        labels=labels,
        output_hidden_states=True,
        use_cache=False,
    )
    last = output.hidden_states[-1][torch.arange(len(rows)), mask.sum(1) - 1]
    user, assistant = last[len(part) : 2 * len(part)], last[2 * len(part) :]
    return output.loss + 1 - cosine_similarity(user, assistant).mean()


def _step(optimiser: Any, loss: Any) -> None:
    loss.backward()
    optimiser.step()
    optimiser.zero_grad()


def _timed(
    layouts: dict[str, Callable[[Sequence[Any]], None]], batches: Sequence[Sequence[Any]]
) -> dict[str, list[tuple[float, float]]]:
    """Time the layouts in turn on every batch, in wall and processor seconds, after a warm-up."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in layouts}
    for run in layouts.values():
        run(batches[0][:2])
    for batch in batches:
        for name, run in layouts.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run(batch)
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
            print(f"{name}: {times[name][-1]}", file=sys.stderr, flush=True)
    return times


def _ratios(timed: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    """Compare pair by pair, by the median; "_cpu" counts processor seconds."""
    figures: dict[str, Any] = {}
    for clock, suffix in ((0, ""), (1, "_cpu")):
        seconds = {name: [t[clock] for t in times] for name, times in timed.items()}
        figures |= {
            f"{name}_step{suffix}_s": statistics.median(times) for name, times in seconds.items()
        }
        plain = min(("sft_packed", "sft_padded"), key=lambda name: statistics.median(seconds[name]))
        figures[f"opponent{suffix}"] = plain
        for title, (above, below) in {
            "step_ratio_sft": ("jepa", plain),
            "step_ratio_tube": ("tube", "sft_packed"),
            "step_ratio_reference": ("reference", "jepa_small"),
            "step_ratio_reference_trimmed": ("reference_trimmed", "jepa_small"),
        }.items():
            pairs = zip(seconds[above], seconds[below], strict=True)
            figures[title + suffix] = statistics.median(a / b for a, b in pairs)
    return figures


if __name__ == "__main__":
    main()
