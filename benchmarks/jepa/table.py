"""The table: plain fine-tuning, LLM-JEPA and Semantic Tube Prediction on several sizes of data.

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
import torch
from msgspec import Struct
from scipy import stats

from suffice.jepa import loop
from suffice.jepa.evaluate import score
from suffice.jepa.forward import CausalLM, PackedModel
from suffice.jepa.objective import losses
from suffice.jepa.packing import PackingLayout, pack
from suffice.jepa.run import pad_token
from suffice.jepa.settings import (
    Distance,
    Labels,
    Objective,
    Precision,
    TrainingRecipe,
    usual_weight,
)
from suffice.jepa.views import TokenizedChat, Tokenizer, examples, read_conversations

OBJECTIVES = {
    "sft": Objective(weight=0),
    "jepa": Objective(weight=usual_weight(Distance.COSINE)),
    "tube": Objective(weight=usual_weight(Distance.TUBE), distance=Distance.TUBE),
}


class Size(Struct, frozen=True, kw_only=True):
    """How large a table: `rows` are sizes of the training data, None for all rows."""

    sets: tuple[str, ...]
    rows: tuple[int | None, ...]
    labels: tuple[Labels, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    eval_rows: int | None
    epochs: int
    batch_examples: int
    learning_rate: float
    precision: Precision
    max_new_tokens: int


class Arm(Struct, frozen=True, kw_only=True):
    """One run of the table; "start" is the model before any training, on 0 rows."""

    dataset: str
    rows: int | None
    method: str
    labels: Labels
    seed: int


class ArmResult(Struct, frozen=True, kw_only=True):
    """What an arm came to, at which size; `test_loss` is the mean next-token loss on test rows."""

    arm: Arm
    size: Size
    exact: int
    examples: int
    generated_tokens: int
    unfinished: int
    next_token_loss: float | None
    test_loss: float
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
    for name in size.sets if "start" in size.methods else ():
        yield Arm(dataset=name, rows=0, method="start", labels=Labels.ANSWER, seed=0)
    trained = [method for method in size.methods if method != "start"]
    axes = (size.seeds, size.sets, size.labels, size.rows, trained)
    for seed, name, labels, rows, method in itertools.product(*axes):
        yield Arm(dataset=name, rows=rows, method=method, labels=labels, seed=seed)


def _run(arm: Arm, setting: Setting) -> ArmResult:
    size = setting.size
    steps = [] if arm.method == "start" else _train(arm, setting)
    questions = _cut(arm, setting, split="test", rows=size.eval_rows)
    scored = score(
        setting.model,
        questions,
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
        test_loss=_test_loss(questions, setting),
        train_s=sum(step.duration_s for step in steps),
    )


def _test_loss(questions: list[TokenizedChat], setting: Setting) -> float:
    """Return the mean loss of a token of the answers; always with correct labels."""
    packed = PackedModel(setting.model, predictors=0).eval()
    device = packed.predictor_tokens.device
    bfloat16 = setting.size.precision is Precision.BFLOAT16
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=bfloat16)
    total, tokens = 0.0, 0
    for start in range(0, len(questions), setting.size.batch_examples):
        batch = pack(questions[start : start + setting.size.batch_examples], PackingLayout())
        batch = batch.to(device)
        with torch.no_grad(), autocast:
            parts = losses(packed(batch), batch.targets, objective=Objective(weight=0))
        total += parts.next_token.item() * len(batch.targets)
        tokens += len(batch.targets)
    return total / tokens


def _train(arm: Arm, setting: Setting) -> list[loop.StepLog]:
    size = setting.size
    objective = msgspec.structs.replace(OBJECTIVES[arm.method], labels=arm.labels)
    recipe = TrainingRecipe(
        objective=objective,
        epochs=size.epochs,
        batch_examples=size.batch_examples,
        learning_rate=size.learning_rate,
        precision=size.precision,
        seed=arm.seed,
    )
    accelerator = loop.start(recipe)
    model = setting.model.to(accelerator.device)
    packed = PackedModel(model, predictors=objective.predictor_tokens, seed=arm.seed)
    steps: list[loop.StepLog] = []
    loop.train(
        packed,
        _cut(arm, setting, split="train", rows=arm.rows),
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
    axes = ("sets", "rows", "labels", "methods", "seeds")
    return one == msgspec.structs.replace(other, **{axis: getattr(one, axis) for axis in axes})


def _cells(results: list[ArmResult]) -> list[dict[str, Any]]:
    """Sum up each arm over its seeds: accuracy with deviation and interval, tokens spent."""
    groups: dict[Arm, list[ArmResult]] = {}
    for result in results:
        groups.setdefault(msgspec.structs.replace(result.arm, seed=0), []).append(result)
    return [
        _name(arm)
        | _spread([r.exact / r.examples for r in group])
        | {
            "test_loss": _spread([r.test_loss for r in group]),
            "exact_per_1000_tokens": 1000
            * sum(r.exact for r in group)
            / sum(r.generated_tokens for r in group),
            "unfinished": sum(r.unfinished for r in group),
            "answers": sum(r.examples for r in group),
        }
        for arm, group in groups.items()
    ]


def _gains(results: list[ArmResult]) -> list[dict[str, Any]]:
    """Take a method's accuracy and test loss minus those of plain fine-tuning, seed by seed."""
    by_arm = {result.arm: result for result in results}
    pairs: dict[Arm, list[tuple[ArmResult, ArmResult]]] = {}
    for arm, result in by_arm.items():
        plain = by_arm.get(msgspec.structs.replace(arm, method="sft"))
        if plain is not None and arm.method != "sft":
            pairs.setdefault(msgspec.structs.replace(arm, seed=0), []).append((result, plain))
    return [
        _name(arm)
        | _spread([a.exact / a.examples - b.exact / b.examples for a, b in group])
        | {"test_loss": _spread([a.test_loss - b.test_loss for a, b in group])}
        for arm, group in pairs.items()
    ]


def _name(arm: Arm) -> dict[str, Any]:
    return {
        "set": arm.dataset,
        "rows": arm.rows,
        "method": arm.method,
        "labels": arm.labels.value,
    }


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
