"""The objective as a Trainer of transformers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from msgspec import structs
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from suffice.errors import InputError
from suffice.jepa.forward import PackedModel
from suffice.jepa.objective import losses
from suffice.jepa.packing import PackingLayout, pack
from suffice.jepa.settings import Distance, Objective
from suffice.jepa.views import TokenizedChat

_WEIGHTS = "packed.pt"


class JepaTrainer(Trainer):
    """A Trainer over tokenized chats (`views.examples`) that runs the packed pass.

    Its log has both losses. Its checkpoints hold the whole `PackedModel`; `trainer.model.model` is
    the fine-tuned model. `layout` is that of every batch, except that loss dropout removes the
    second view or the tube from some. Dropout and triples draw from torch's generator, which
    Trainer seeds. Raises InputError for several GPUs in one process, and for a layout that lacks
    what the objective compares.
    """

    def __init__(
        self,
        model: PackedModel,
        args: TrainingArguments,
        *,
        examples: Sequence[TokenizedChat],
        objective: Objective,
        layout: PackingLayout,
        **kwargs: Any,
    ) -> None:
        if args.n_gpu > 1:
            raise InputError(
                f"one process has {args.n_gpu} GPUs, which would split packed rows",
                hint="start one process per GPU with torchrun or `accelerate launch`",
            )
        tube = objective.weight > 0 and objective.distance is Distance.TUBE
        if layout.tube != tube or (objective.predicts and layout.predictors is None):
            raise InputError(
                f"a layout with tube={layout.tube} and predictors={layout.predictors} does not "
                f"give the latent loss {objective.distance.value!r} what it compares",
                hint="tube needs PackingLayout(tube=True), other distances a number of predictors",
            )
        torch.set_flush_denormal(True)
        self.objective, self.layout = objective, layout
        self._sums: dict[str, float] = {}
        super().__init__(
            model, args, train_dataset=list(examples), data_collator=self._collate, **kwargs
        )

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *_: Any, **__: Any) -> Tensor:
        """Return the weighted loss of the packed pass on `inputs["packed"]`."""
        batch = inputs["packed"].to(self.args.device)
        parts = losses(model(batch), batch.targets, objective=self.objective)
        self._add("next_token_loss", parts.next_token)
        if parts.latent is not None:
            self._add("latent_loss", parts.latent)
        return parts.total

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as Trainer does, with the mean of both losses since the last log."""
        for name in ("next_token_loss", "latent_loss"):
            batches = self._sums.pop(f"{name} batches", 0)
            if batches:
                logs[name] = self._sums.pop(name) / batches
        super().log(logs, start_time)

    def _add(self, name: str, value: Tensor) -> None:
        for key, amount in ((name, value.item()), (f"{name} batches", 1)):
            self._sums[key] = self._sums.get(key, 0) + amount

    def _collate(self, examples: list[TokenizedChat]) -> dict[str, Any]:
        dropped = torch.rand(()).item() < self.objective.dropout
        layout = self.layout
        if dropped:
            layout = structs.replace(layout, predictors=None, tube=False)
        return {"packed": pack(examples, layout)}

    def _save(
        self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None
    ) -> None:
        """Save the PackedModel as one file: safetensors refuses the tied weights inside it."""
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(state_dict or self.model.state_dict(), folder / _WEIGHTS)

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        state = torch.load(Path(resume_from_checkpoint) / _WEIGHTS, map_location=self.args.device)
        (model or self.model).load_state_dict(state)
