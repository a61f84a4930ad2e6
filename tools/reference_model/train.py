"""Training of the model that ships, from random weights or from the last checkpoint."""

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from msgspec import Struct, to_builtins
from torch.nn import functional

from suffice.errors import InputError
from suffice.types import JSON
from tools.reference_model.evaluate import evaluate
from tools.reference_model.examples import Examples, TokenBatch
from tools.reference_model.export import save_folder
from tools.reference_model.model import Balance, build_model, shipped_config
from tools.reference_model.questions import Spec
from tools.reference_model.start import load_gguf
from tools.reference_model.tokenizer import build_tokenizer

CHECKPOINT, LOG, FOLDER = "checkpoint.pt", "log.jsonl", "model"


class Schedule(Struct, frozen=True, kw_only=True):
    """Length and learning rate of a training: the rate rises, stays, and falls to a twentieth.

    Every `judge_every` tokens, `judged` held-out questions of each family are answered.
    """

    tokens: int
    batch_tokens: int = 3072
    peak_rate: float = 2.5e-3
    warm_up_steps: int = 200
    falling_share: float = 0.35
    weight_decay: float = 0.05
    balance: float = 0.02
    save_every_s: float = 240.0
    judge_every: int = 6_000_000
    judged: int = 12  # questions of each family

    def rate(self, step: int, *, tokens: int) -> float:
        """Return the learning rate of a step after `tokens` tokens."""
        left = max(0.0, 1 - tokens / self.tokens) / self.falling_share
        return self.peak_rate * min(1.0, (step + 1) / self.warm_up_steps, max(left, 0.05))


class TrainingProgress(Struct, frozen=True, kw_only=True):
    """The state of a training; `loss` is the mean per trained token since the last report."""

    step: int
    tokens: int
    loss: float
    balance: float
    fullest: float
    rate: float
    tokens_per_s: float


Report = Callable[[TrainingProgress], None]


class Training:
    """A training in a folder; it resumes from the checkpoint there, if any.

    Without a checkpoint it begins with the weights of the GGUF file `start`, or with random ones.
    """

    def __init__(
        self,
        spec: Spec,
        folder: Path,
        *,
        schedule: Schedule,
        start: Path | None = None,
        without: frozenset[str] = frozenset(),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.schedule = folder, schedule
        self.tokenizer = build_tokenizer()
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        # Without instructions for it, a processor multiplies bf16 fifty times slower than float32.
        self._bf16 = self.device == "cuda" or torch.cpu.get_capabilities().get("avx512_bf16", False)
        self._spec, self._judged = spec, 0
        self._examples = Examples(spec, self.tokenizer, without=without)
        self.step, self.tokens, self._pool, self._batch = 0, 0, 0, 0
        torch.manual_seed(0)
        torch.set_flush_denormal(True)  # the moments of unused experts fade into denormals
        self.model = build_model(shipped_config(self.tokenizer)).to(self.device)
        if start is not None:
            load_gguf(self.model, self.tokenizer, start)
        self._optimizer = _optimizer(self.model, schedule)
        self._resume()

    def run(self, report: Report) -> None:
        """Train on the tokens of the schedule; save on the way and at the end."""
        saved_s = time.monotonic()
        window = _Window()
        self.model.train()
        for batch in self._batches():
            window.add(*self._learn(batch), tokens=batch.tokens.size)
            if self.step % 20 == 0:
                rate = self._optimizer.param_groups[0]["lr"]
                progress = window.progress(step=self.step, tokens=self.tokens, rate=rate)
                self._log(to_builtins(progress))
                report(progress)
                window = _Window()
            if self.tokens // self.schedule.judge_every > self._judged:
                self._judge()
            if time.monotonic() - saved_s > self.schedule.save_every_s:
                self.save()
                saved_s = time.monotonic()
            if self.tokens >= self.schedule.tokens:
                break
        self.save()
        self._judge()

    def save(self) -> None:
        """Write a checkpoint, from which an interrupted training resumes."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "at": (self.step, self.tokens, self._pool, self._batch),
        }
        scratch = self.folder / f"{CHECKPOINT}.new"
        torch.save(state, scratch)
        scratch.replace(self.folder / CHECKPOINT)

    def _resume(self) -> None:
        path = self.folder / CHECKPOINT
        if not path.exists():
            return
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
            self.step, self.tokens, self._pool, self._batch = state["at"]
            self._judged = self.tokens // self.schedule.judge_every
        except (OSError, RuntimeError, KeyError, ValueError, EOFError) as error:
            raise InputError(
                f"cannot resume from {path}: {error}", hint="remove the file to start anew"
            ) from error

    def _batches(self) -> Iterator[TokenBatch]:
        while True:
            batches = self._examples.batches(self._pool, tokens=self.schedule.batch_tokens)
            while self._batch < len(batches):
                self._batch += 1
                yield batches[self._batch - 1]
            self._pool, self._batch = self._pool + 1, 0

    def _learn(self, batch: TokenBatch) -> tuple[float, float, float]:
        """Take one step; return its loss, its balancing loss and the largest load of an expert."""
        rate = self.schedule.rate(self.step, tokens=self.tokens)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        tokens = torch.from_numpy(batch.tokens).to(self.device)
        weights = torch.from_numpy(batch.weights).to(self.device)[:, 1:]
        counts = weights > 0
        with (
            torch.autocast(self.device, torch.bfloat16, enabled=self._bf16),
            Balance(self.model) as balance,
        ):
            hidden = self.model.model(input_ids=tokens, use_cache=False).last_hidden_state
            logits = functional.linear(hidden[:, :-1][counts], self.model.lm_head.weight)
        losses = functional.cross_entropy(logits.float(), tokens[:, 1:][counts], reduction="none")
        loss = (losses * weights[counts]).sum() / weights.sum()
        (loss + self.schedule.balance * balance.loss).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        value = loss.item()
        if not math.isfinite(value):
            raise InputError(
                f"the loss is {value} at step {self.step + 1}",
                hint=f"the checkpoint before it is kept in {self.folder}; try a lower rate",
            )
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.tokens += batch.tokens.size
        return value, balance.loss.item(), balance.fullest

    def _judge(self) -> None:
        """Answer held-out questions and log the accuracy by family and effort."""
        self._judged = self.tokens // self.schedule.judge_every
        save_folder(self.model, self.tokenizer, self.folder / FOLDER)
        accuracy = evaluate(self.folder / FOLDER, self._spec, count=self.schedule.judged)
        self._log({"step": self.step, "tokens": self.tokens, "accuracy": accuracy})

    def _log(self, entry: JSON) -> None:
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


class _Window:
    """The steps since the last report."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._losses: list[tuple[float, float, float]] = []
        self._tokens = 0

    def add(self, *losses: float, tokens: int) -> None:
        self._losses.append((losses[0], losses[1], losses[2]))
        self._tokens += tokens

    def progress(self, *, step: int, tokens: int, rate: float) -> TrainingProgress:
        columns = zip(*self._losses, strict=True)
        loss, balance, fullest = (sum(column) / len(self._losses) for column in columns)
        return TrainingProgress(
            step=step,
            tokens=tokens,
            loss=loss,
            balance=balance,
            fullest=fullest,
            rate=rate,
            tokens_per_s=self._tokens / (time.monotonic() - self._began_s),
        )


def _optimizer(model: Any, schedule: Schedule) -> torch.optim.Optimizer:
    """Build AdamW; vectors, such as norms, get no weight decay."""
    decayed = [p for p in model.parameters() if p.dim() > 1]
    free = [p for p in model.parameters() if p.dim() < 2]
    groups = [
        {"params": decayed, "weight_decay": schedule.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=schedule.peak_rate, betas=(0.9, 0.95), fused=True)
