"""The table: plain fine-tuning and LLM-JEPA, each with the reference's and with correct labels.

Every run is a line in a log; a table that was broken off goes on where it stopped.
"""

import itertools
import math
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from scipy import stats

from suffice.jepa import loop
from suffice.jepa.evaluate import score
from suffice.jepa.forward import CausalLM, PackedModel
from suffice.jepa.run import pad_token
from suffice.jepa.settings import Labels, Objective, Precision, TrainingRecipe
from suffice.jepa.views import TokenizedChat, Tokenizer, examples, read_conversations

WEIGHTS = {"sft": 0.0, "jepa": 1.0}


class Size(Struct, frozen=True, kw_only=True):
    """How large a table: `rows` and `eval_rows` None for all."""

    sets: tuple[str, ...]
    seeds: tuple[int, ...]
    rows: int | None
    eval_rows: int | None
    epochs: int
    batch_examples: int
    learning_rate: float
    precision: Precision
    max_new_tokens: int


class Arm(Struct, frozen=True, kw_only=True):
    """One run of the table; "start" is the model before any training."""

    dataset: str
    method: str
    labels: Labels
    seed: int


class ArmResult(Struct, frozen=True, kw_only=True):
    """What an arm came to, at which size."""

    arm: Arm
    size: Size
    exact: int
    examples: int
    generated_tokens: int
    unfinished: int
    next_token_loss: float | None
    train_s: float


@dataclass(frozen=True)
class Setting:
    """What all runs of a table share; `data` is the data folder, `folder` holds the log."""

    model: CausalLM
    tokenizer: Tokenizer
    data: Path
    folder: Path
    size: Size


def table(setting: Setting) -> dict[str, Any]:
    """Run every arm that the log lacks, then sum up."""
    setting.folder.mkdir(parents=True, exist_ok=True)
    log = setting.folder / "runs.jsonl"
    arms = tuple(_arms(setting.size))
    done = [r for r in _read(log) if r.arm in arms and _same_runs(r.size, setting.size)]
    start = {name: weight.clone() for name, weight in setting.model.state_dict().items()}
    for arm in arms:
        if any(result.arm == arm for result in done):
            continue
        setting.model.load_state_dict(start)
        result = _run(arm, setting)
        with log.open("ab") as file:
            file.write(msgspec.json.encode(result) + b"\n")
        done.append(result)
        print(f"{arm}: {result.exact} of {result.examples}", file=sys.stderr, flush=True)
    return {"size": msgspec.to_builtins(setting.size), "cells": _cells(done), "gains": _gains(done)}


def _arms(size: Size) -> Iterator[Arm]:
    for name in size.sets:
        yield Arm(dataset=name, method="start", labels=Labels.ANSWER, seed=0)
    for seed, name, labels, method in itertools.product(size.seeds, size.sets, Labels, WEIGHTS):
        yield Arm(dataset=name, method=method, labels=labels, seed=seed)


def _run(arm: Arm, setting: Setting) -> ArmResult:
    size = setting.size
    steps = [] if arm.method == "start" else _train(arm, setting)
    scored = score(
        setting.model,
        _cut(arm, setting, split="test", rows=size.eval_rows),
        tokenizer=setting.tokenizer,
        max_new_tokens=size.max_new_tokens,
    )
    return ArmResult(
        arm=arm,
        size=size,
        exact=scored.exact,
        examples=scored.examples,
        generated_tokens=scored.generated_tokens,
        unfinished=scored.unfinished,
        next_token_loss=steps[-1].next_token if steps else None,
        train_s=sum(step.duration_s for step in steps),
    )


def _train(arm: Arm, setting: Setting) -> list[loop.StepLog]:
    size, objective = setting.size, Objective(weight=WEIGHTS[arm.method], labels=arm.labels)
    recipe = TrainingRecipe(
        objective=objective,
        epochs=size.epochs,
        batch_examples=size.batch_examples,
        learning_rate=size.learning_rate,
        precision=size.precision,
        seed=arm.seed,
    )
    accelerator = loop.start(recipe)
    predictors = objective.predictors if objective.predicts else 0
    model = setting.model.to(accelerator.device)
    packed = PackedModel(model, predictors=predictors, seed=arm.seed)
    steps: list[loop.StepLog] = []
    loop.train(
        packed,
        _cut(arm, setting, split="train", rows=size.rows),
        recipe=recipe,
        progress=loop.Checkpointing(folder=setting.folder / "checkpoint", report=steps.append),
        accelerator=accelerator,
        pad_token=pad_token(setting.tokenizer),
    )
    return steps


def _cut(arm: Arm, setting: Setting, *, split: str, rows: int | None) -> list[TokenizedChat]:
    path = setting.data / "text" / f"nl_rx_{arm.dataset}_{split}.jsonl.gz"
    return examples(read_conversations(path, rows=rows), tokenizer=setting.tokenizer)


def _read(log: Path) -> list[ArmResult]:
    lines = log.read_bytes().splitlines() if log.exists() else []
    return [msgspec.json.decode(line, type=ArmResult) for line in lines]


def _same_runs(one: Size, other: Size) -> bool:
    """Whether runs of one table may stand in another: all is alike but which runs there are."""
    alike = msgspec.structs.replace(other, seeds=one.seeds, sets=one.sets)
    return one == alike


def _cells(results: list[ArmResult]) -> list[dict[str, Any]]:
    """Sum up each arm over its seeds: accuracy with deviation and interval, tokens spent."""
    groups: dict[tuple[str, str, Labels], list[ArmResult]] = {}
    for result in results:
        key = (result.arm.dataset, result.arm.method, result.arm.labels)
        groups.setdefault(key, []).append(result)
    return [
        {"set": name, "method": method, "labels": labels.value}
        | _spread([r.exact / r.examples for r in group])
        | {
            "exact_per_1000_tokens": 1000
            * sum(r.exact for r in group)
            / sum(r.generated_tokens for r in group),
            "unfinished": sum(r.unfinished for r in group),
            "answers": sum(r.examples for r in group),
        }
        for (name, method, labels), group in groups.items()
    ]


def _gains(results: list[ArmResult]) -> list[dict[str, Any]]:
    """Take LLM-JEPA's accuracy minus plain fine-tuning's, seed by seed."""
    accuracy = {r.arm: r.exact / r.examples for r in results}
    gains: dict[tuple[str, Labels], list[float]] = {}
    for arm, value in accuracy.items():
        if arm.method == "jepa":
            plain = accuracy[msgspec.structs.replace(arm, method="sft")]
            gains.setdefault((arm.dataset, arm.labels), []).append(value - plain)
    return [
        {"set": name, "labels": labels.value} | _spread(values)
        for (name, labels), values in gains.items()
    ]


def _spread(values: list[float]) -> dict[str, Any]:
    """Give mean, deviation and Student's 95 % interval; the last two unknown for one value."""
    mean, n = statistics.mean(values), len(values)
    if n < 2:
        return {"seeds": n, "mean": mean, "deviation": None, "interval": None}
    deviation = statistics.stdev(values)
    half = float(stats.t.ppf(0.975, n - 1)) * deviation / math.sqrt(n)
    return {
        "seeds": n,
        "mean": mean,
        "deviation": deviation,
        "interval": [mean - half, mean + half],
    }
