"""The training loop, on one device or, with accelerate, on several.

The recipe and the number of a step determine its examples, learning rate and random numbers. So a
resumed run takes exactly the steps of an uninterrupted one.
"""

import hashlib
import math
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from msgspec import Struct
from torch import nn

from suffice.errors import TrainingStopped
from suffice.jepa import checkpoint
from suffice.jepa.objective import Losses, losses
from suffice.jepa.packing import PackedBatch, PackingLayout, pack
from suffice.jepa.settings import Distance, Precision, TrainingRecipe
from suffice.jepa.views import TokenizedChat


class StepLog(Struct, frozen=True, kw_only=True):
    """One step of the main process; `latent` is None for a step without a latent loss.

    `step` counts from 1 to `steps`; `tokens` are those of the packed rows without padding.
    """

    step: int
    steps: int
    loss: float
    next_token: float
    latent: float | None
    learning_rate: float
    tokens: int
    duration_s: float


class Checkpointing(Struct, frozen=True, kw_only=True):
    """The folder of the checkpoint, the steps between two of them, and a callback for each step."""

    folder: Path
    report: Callable[[StepLog], None]
    every_steps: int = 200
    resume: bool = False


def start(recipe: TrainingRecipe) -> Accelerator:
    """Set up one process of a run, alone or under `accelerate launch`."""
    torch.set_flush_denormal(True)  # masked attention leaves denormals, which are slow on CPUs
    objective = recipe.objective
    unused = objective.predictor_tokens > 0 and objective.dropout > 0
    handler = DistributedDataParallelKwargs(find_unused_parameters=unused)
    return Accelerator(kwargs_handlers=[handler])


def train(
    packed: nn.Module,
    examples: Sequence[TokenizedChat],
    *,
    recipe: TrainingRecipe,
    progress: Checkpointing,
    accelerator: Accelerator,
    pad_token: int,
) -> None:
    """Train in place.

    Raises TrainingStopped if a loss or gradient is not finite; the state before that step is saved.
    Raises it also on Ctrl-C; the last checkpoint is kept.
    """
    run = _TrainingRun(
        packed, examples, recipe=recipe, accelerator=accelerator, pad_token=pad_token
    )
    done = run.restore(progress.folder) if progress.resume else 0
    try:
        for step in range(done, run.steps):
            progress.report(run.step(step))
            done = step + 1
            if done % progress.every_steps == 0 or done == run.steps:
                run.save(progress.folder, step=done)
    except _NotFinite as error:
        run.save(progress.folder, step=done)
        raise TrainingStopped(
            f"{error} at step {done + 1} of {run.steps}; "
            f"{progress.folder} holds the state before it",
            hint="lower the learning rate, or look at the examples of this step",
        ) from None
    except KeyboardInterrupt:
        raise TrainingStopped(
            f"interrupted in step {done + 1} of {run.steps}",
            hint=f"--resume goes on from the checkpoint in {progress.folder}, if one was written",
            retryable=True,
        ) from None


def learning_rate(recipe: TrainingRecipe, *, step: int, steps: int) -> float:
    """Return a rate that rises linearly over the warm-up, then falls linearly to 0."""
    warmup = round(recipe.warmup_share * steps)
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    return recipe.learning_rate * (steps - step) / (steps - warmup)


def layout(recipe: TrainingRecipe, *, step: int, pad_token: int) -> PackingLayout:
    """Return the layout of a step, with what its latent loss needs unless dropout removes it."""
    objective = recipe.objective
    draw = random.Random(f"dropout {recipe.seed} {step}").random()  # noqa: S311
    latent = objective.weight > 0 and draw >= objective.dropout
    tube = objective.distance is Distance.TUBE
    return PackingLayout(
        predictors=objective.predictors if latent and not tube else None,
        tube=latent and tube,
        labels=objective.labels,
        row_tokens=recipe.row_tokens,
        pad_token=pad_token,
    )


class _NotFinite(Exception):
    """The loss or gradient of a step is NaN or infinite."""


class _TrainingRun:
    """The state of a run: model and optimiser as prepared by accelerate."""

    def __init__(
        self,
        packed: nn.Module,
        examples: Sequence[TokenizedChat],
        *,
        recipe: TrainingRecipe,
        accelerator: Accelerator,
        pad_token: int,
    ) -> None:
        trained = [p for p in packed.parameters() if p.requires_grad and p.numel()]
        optimiser = torch.optim.AdamW(
            trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        self.packed, self.optimiser = accelerator.prepare(packed, optimiser)
        self.examples, self.recipe = examples, recipe
        self.accelerator, self.pad_token = accelerator, pad_token
        self.epoch_steps = math.ceil(
            len(examples) / (recipe.batch_examples * accelerator.num_processes)
        )
        self.steps = recipe.epochs * self.epoch_steps
        self._saved: int | None = None

    def step(self, step: int) -> StepLog:
        """Take one step; raises _NotFinite before it changes the weights."""
        start_s, recipe = time.perf_counter(), self.recipe
        seed = f"{recipe.seed} {step} {self.accelerator.process_index}"
        torch.manual_seed(random.Random(seed).getrandbits(63))  # noqa: S311
        rate = learning_rate(recipe, step=step, steps=self.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        batch = pack(self._batch(step), layout(recipe, step=step, pad_token=self.pad_token))
        self.packed.train()
        parts = self._forward(batch.to(self.accelerator.device))
        self._descend(parts)
        return StepLog(
            step=step + 1,
            steps=self.steps,
            loss=parts.total.item(),
            next_token=parts.next_token.item(),
            latent=None if parts.latent is None else parts.latent.item(),
            learning_rate=rate,
            tokens=batch.tokens,
            duration_s=time.perf_counter() - start_s,
        )

    def save(self, folder: Path, *, step: int) -> None:
        if step != self._saved:
            checkpoint.save(folder, accelerator=self.accelerator, step=step, origin=self._origin())
            self._saved = step

    def restore(self, folder: Path) -> int:
        step = checkpoint.load(folder, accelerator=self.accelerator, origin=self._origin())
        self._saved = step
        return step

    def _batch(self, step: int) -> list[TokenizedChat]:
        """Return this process's share of the examples of a step."""
        epoch, number = divmod(step, self.epoch_steps)
        order = list(range(len(self.examples)))
        random.Random(f"order {self.recipe.seed} {epoch}").shuffle(order)  # noqa: S311
        processes = self.accelerator.num_processes
        size = self.recipe.batch_examples * processes
        batch = order[number * size : (number + 1) * size]
        batch += order[: max(0, processes - len(batch))]  # every process needs an example
        return [self.examples[i] for i in batch[self.accelerator.process_index :: processes]]

    def _forward(self, batch: PackedBatch) -> Losses:
        bfloat16 = self.recipe.precision is Precision.BFLOAT16
        with torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=bfloat16):
            output = self.packed(batch)
        return losses(output, batch.targets, objective=self.recipe.objective)

    def _descend(self, parts: Losses) -> None:
        self.optimiser.zero_grad()
        self.accelerator.backward(parts.total)
        parameters, most = self.packed.parameters(), self.recipe.clip_norm
        norm = self.accelerator.clip_grad_norm_(parameters, most).item()
        if not math.isfinite(norm):  # the norm is that of all processes, so all of them stop
            raise _NotFinite(f"the loss is {parts.total.item()}, its gradient's norm {norm}")
        self.optimiser.step()

    def _origin(self) -> checkpoint.RunIdentity:
        return checkpoint.RunIdentity(
            recipe=self.recipe,
            examples=len(self.examples),
            data_sha256=hashlib.sha256(msgspec.msgpack.encode(self.examples)).hexdigest(),
            processes=self.accelerator.num_processes,
        )
