"""A training run: read, load, train, save, score; all its files are in one folder.

model/                  the fine-tuned model and its tokenizer (with LoRA: the adapter)
predictor_tokens.npy    (k, hidden size), when the objective has any
log.jsonl               one line per step: both losses, learning rate, tokens, seconds
checkpoint/             the last saved state, for --resume
summary.json            the result
"""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from suffice.errors import InputError
from suffice.jepa import loop
from suffice.jepa.equality import check_packable
from suffice.jepa.evaluate import score
from suffice.jepa.forward import PackedModel
from suffice.jepa.model import load, with_lora
from suffice.jepa.settings import TrainingRecipe
from suffice.jepa.views import Tokenizer, examples, read_conversations


class TrainingJob(Struct, frozen=True, kw_only=True):
    """The files of a run; `rows` and `evaluation_rows` limit their rows, None for all."""

    model: Path
    train: Path
    evaluation: Path
    out: Path
    rows: int | None = None
    evaluation_rows: int | None = None
    max_new_tokens: int = 128
    resume: bool = False


class TrainingResult(Struct, frozen=True, kw_only=True):
    """The result of a run: `accuracy` by exact match in [0, 1], and the generated tokens."""

    examples: int
    exact: int
    accuracy: float
    generated_tokens: int
    unfinished: int
    exact_per_1000_tokens: float
    last_step: loop.StepLog


def run(
    job: TrainingJob, recipe: TrainingRecipe, *, report: Callable[[loop.StepLog], None]
) -> TrainingResult | None:
    """Train and score; only the main process returns a result.

    Raises InputError if the job cannot start, and TrainingStopped if it cannot go on.
    """
    accelerator = loop.start(recipe)
    log = _LogFile(job.out / "log.jsonl", resume=job.resume, report=report)
    training = read_conversations(job.train, rows=job.rows)
    evaluation = read_conversations(job.evaluation, rows=job.evaluation_rows)
    model, tokenizer = load(job.model)
    context = getattr(model.config, "max_position_embeddings", None)
    limit = min((n for n in (context, recipe.max_tokens) if n is not None), default=None)
    rows = examples(training, tokenizer=tokenizer, max_tokens=limit)
    questions = examples(evaluation, tokenizer=tokenizer, max_tokens=limit)
    model = model.to(accelerator.device)
    if recipe.lora_rank is not None:
        model = with_lora(model, rank=recipe.lora_rank)
    predictors = recipe.objective.predictor_tokens
    packed = PackedModel(model, predictors=predictors, seed=recipe.seed)
    pad = pad_token(tokenizer)
    check_packable(packed, rows, loop.layout(recipe, step=0, pad_token=pad))
    loop.train(
        packed,
        rows,
        recipe=recipe,
        progress=loop.Checkpointing(
            folder=job.out / "checkpoint",
            report=log.add if accelerator.is_main_process else lambda _: None,
            resume=job.resume,
        ),
        accelerator=accelerator,
        pad_token=pad,
    )
    if not accelerator.is_main_process:
        return None
    packed.model.save_pretrained(job.out / "model")
    tokenizer.save_pretrained(job.out / "model")
    if predictors:
        tokens = packed.predictor_tokens.detach().cpu().numpy()
        np.save(job.out / "predictor_tokens.npy", tokens)
    match = score(packed.model, questions, tokenizer=tokenizer, max_new_tokens=job.max_new_tokens)
    result = TrainingResult(
        examples=match.examples,
        exact=match.exact,
        accuracy=match.accuracy,
        generated_tokens=match.generated_tokens,
        unfinished=match.unfinished,
        exact_per_1000_tokens=match.exact_per_1000_tokens,
        last_step=log.last(),
    )
    (job.out / "summary.json").write_bytes(msgspec.json.format(msgspec.json.encode(result)))
    return result


def pad_token(tokenizer: Tokenizer) -> int:
    """Return the token that fills rows; the mask hides it, so it can be any token."""
    pad = tokenizer.pad_token_id
    return int(pad if pad is not None else tokenizer.eos_token_id or 0)


class _LogFile:
    """The log of steps on disk; a resumed run drops the steps that it repeats."""

    def __init__(self, path: Path, *, resume: bool, report: Callable[[loop.StepLog], None]) -> None:
        if path.exists() and not resume:
            raise InputError(
                f"{path.parent} holds a run already", hint="give --resume, or another --out"
            )
        self._path, self._report, self._fresh = path, report, True

    def add(self, entry: loop.StepLog) -> None:
        if self._fresh:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            earlier = [e for e in self._entries() if e.step < entry.step]
            self._path.write_bytes(b"".join(msgspec.json.encode(e) + b"\n" for e in earlier))
            self._fresh = False
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(entry) + b"\n")
        self._report(entry)

    def last(self) -> loop.StepLog:
        return self._entries()[-1]

    def _entries(self) -> list[loop.StepLog]:
        lines = self._path.read_bytes().splitlines() if self._path.exists() else []
        return [msgspec.json.decode(line, type=loop.StepLog) for line in lines]
