"""Ending reasoning early on the model that ships: output tokens saved, and what that loses.

Held-out questions of the reasoning families of `effort.toml` are reasoned through at
high effort, with the answer probed after each line, and answered at low effort. Rules are ordered,
certified (alpha 0.02, delta 0.1, against the uncut high effort) and reported on 10 random splits;
all figures are means over the tenth of the questions that nothing was fitted or certified on.
- `early_stop`: `certified` (share of splits that gave a certificate); `saving_tokens`, net of
  `probe_tokens`, and `risk`, where a split without a certificate stops nothing and saves nothing;
  `input_ratio`: input tokens of all calls for one of the uncut call, cached ones counted alike;
- `low`: the same for answering at low effort instead, certified on the same rows;
- `violations`: share of splits in which certified rules lost more than alpha on their reporting
  rows, which are few, so that chance alone makes some;
- `live`: questions of the first split's reporting rows answered through the rules: how many gave
  the very answer and the very number of output tokens that replaying the trace says.

python -m benchmarks.early_stop [--json] [--count 200] [--traces FILE] [--trials FILE]
    [--model GGUF]
"""

import argparse
import asyncio
import json
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from tools.reference_model.questions import OWN

from benchmarks.effort.__main__ import ALPHA, DELTA, SEEDS, ladder, tasks
from benchmarks.inputs import benchmark_parser
from suffice.bench.progress import show_progress
from suffice.bench.run import Bench, run_bench
from suffice.bench.tasks import Task
from suffice.bench.traces import Recording, record_traces
from suffice.cli.output import stages
from suffice.deployment import opened
from suffice.early_stop.engine import EarlyStop, EarlyStopping
from suffice.early_stop.learn import LearnedStop, StopTarget, learn_stop
from suffice.early_stop.rule import ReasoningTags, Trace, replay
from suffice.engines.base import Engine
from suffice.guarantee import Evidence, LabelSource, Method, calibrate
from suffice.trials.table import split_rows
from suffice.types import Rung, Trial

LIVE = 60
TAGS = ReasoningTags()
LAPSES_AFTER_S = 86_400.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Recordings:
    """Tasks with their traces at high effort and their trials at low effort, in one order."""

    tasks: tuple[Task, ...]
    rung: Rung
    traces: tuple[Trace, ...]
    low: tuple[Trial, ...]


def main() -> None:
    """Ask, certify, and print."""
    parser = benchmark_parser(__package__, __doc__, data=False)
    parser.add_argument("--count", type=int, default=200, help="questions of each family")
    parser.add_argument("--traces", type=Path, help="keep the traces here, and take up from there")
    parser.add_argument("--trials", type=Path, help="the same for the answers at low effort")
    parser.add_argument("--model", type=Path, help="another GGUF than the one that ships")
    report = asyncio.run(_measure(parser.parse_args()))
    if parser.parse_args().json:
        print(json.dumps(report, indent=2))
        return
    for name, figures in report.items():
        print(f"{name}: {figures}")


async def _measure(options: argparse.Namespace) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        config = ladder(options.model)
        engine = (await opened(stack, config))["here"]
        low, high = config.ladder[1], config.ladder[2]
        questions = tasks(options.count, without=OWN)
        recording = Recording(
            tasks=questions, rung=high, tags=TAGS, parallel=4, path=options.traces
        )
        with stages() as say:
            traces = await record_traces(recording, engine, say=say)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bench = Bench(tasks=questions, rungs=(low,), out=options.trials or scratch / "low.jsonl")
        trials = (await run_bench(bench, engines={"here": engine}, show=show_progress)).trials
        recordings = Recordings(tasks=questions, rung=high, traces=traces, low=trials)
        learned = [learn_stop(traces, stop_target(high, seed=seed)) for seed in range(SEEDS)]
        return figures(recordings, learned) | {"live": await _live(engine, recordings, learned[0])}


def stop_target(rung: Rung, *, seed: int) -> StopTarget:
    """Return the promise to certify on one random split."""
    return StopTarget(
        rung=rung,
        tags=TAGS,
        alpha=ALPHA,
        delta=DELTA,
        lapses_after_s=LAPSES_AFTER_S,
        label_source=LabelSource.TARGET,
        seed=seed,
    )


def figures(recordings: Recordings, learned: list[LearnedStop]) -> dict[str, Any]:
    """Work out what is published besides the live check."""
    certified = [item.figures for item in learned if item.certified and item.figures is not None]
    names = ("saving_tokens", "probe_tokens", "risk", "stopped")
    return {
        "early_stop": {
            "certified": len(certified) / len(learned),
            **{
                name: sum(getattr(item, name) for item in certified) / len(learned)
                for name in names
            },
            "input_ratio": fmean(item.input_ratio for item in certified) if certified else None,
            "bound": fmean(item.bound for item in learned if item.bound is not None)
            if any(item.bound is not None for item in learned)
            else None,
        },
        "low": _low(recordings),
        "violations": sum(item.risk > ALPHA for item in certified) / len(learned),
        "quality": fmean(trace.quality or 0.0 for trace in recordings.traces),
        "output_tokens": fmean(trace.output_tokens for trace in recordings.traces),
        "rules": {
            name: f"every {rule.every_tokens} tokens, {rule.agree} agree, {rule.min_logprob}"
            for name, rule in learned[0].rules.items()
        },
        "questions": len(recordings.traces),
        "alpha": ALPHA,
        "delta": DELTA,
        "splits": SEEDS,
    }


def _low(recordings: Recordings) -> dict[str, float]:
    """Set answering at low effort against the uncut high effort, on the same rows."""
    losses = np.array(
        [
            max(0.0, (trace.quality or 0.0) - (trial.quality or 0.0))
            for trace, trial in zip(recordings.traces, recordings.low, strict=True)
        ]
    )
    tokens = np.array([trial.usage.output_tokens.tokens for trial in recordings.low], np.float64)  # type: ignore[union-attr]
    uncut = np.array([trace.output_tokens for trace in recordings.traces], np.float64)
    certified, saving, risk = [], [], []
    for seed in range(SEEDS):
        _, test, report = split_rows(len(losses), seed=seed)
        evidence = Evidence(losses=losses[test, None])
        calibration = calibrate(evidence, alpha=ALPHA, delta=DELTA, method=Method.BINOMIAL)
        certified.append(calibration.certified)
        saving.append(1.0 - tokens[report].sum() / uncut[report].sum())
        risk.append(losses[report].mean())
    return {
        "certified": fmean(certified),
        "saving_tokens": float(fmean(saving)),
        "risk": float(fmean(risk)),
    }


async def _live(
    engine: Engine, recordings: Recordings, learned: LearnedStop
) -> dict[str, int] | None:
    """Answer some questions through the rules; None where none were certified."""
    if learned.certificate is None:
        return None
    stopping = EarlyStopping(rules=learned.rules, tags=TAGS, certificate=learned.certificate)
    early = EarlyStop(engine, {recordings.rung.name: stopping})
    rows = split_rows(len(recordings.traces), seed=0)[2][:LIVE]
    same_text = same_tokens = 0
    for row in rows.tolist():
        trace, request = recordings.traces[row], recordings.tasks[row].request
        completion = await early.complete(request, recordings.rung)
        rule = learned.rules.get(request.group or "")
        run = None if rule is None else replay(trace, rule)
        stopped = None if run is None else run.stopped
        spent = trace.output_tokens if run is None else run.output_tokens
        count = completion.usage.output_tokens
        same_text += completion.text == (trace.answer if stopped is None else stopped.answer)
        same_tokens += count is not None and count.tokens == spent
    return {"questions": len(rows), "same_answer": same_text, "same_tokens": same_tokens}


if __name__ == "__main__":
    main()
