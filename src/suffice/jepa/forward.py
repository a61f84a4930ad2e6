"""The packed pass: one forward of any causal language model over rows of packed examples."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from suffice.errors import InputError
from suffice.jepa.mask import block_mask, dense_mask
from suffice.jepa.packing import PackedBatch

CausalLM = Any  # a transformers (or PEFT) model; their classes differ and share no useful base

_FLEX = "flex_attention"


@dataclass(frozen=True)
class Pass:
    """The output of one pass: `logits` (labels, vocabulary), `hidden` (rows x width, hidden size).

    `predicted` and `actual` (examples, hidden size) are the two views, or with a tube the two
    increments of the hidden states (h[t] - h[r] and h[r] - h[s]); both are empty for plain
    fine-tuning.
    """

    logits: Tensor
    hidden: Tensor
    predicted: Tensor
    actual: Tensor


class PackedModel(nn.Module):
    """A causal language model with predictor tokens of its own, called on packed batches.

    The predictor tokens are `predictors` vectors beside the model, not entries of its vocabulary,
    so fine-tuning keeps the shape of the model. They start at the mean token embedding plus noise
    of a tenth of its standard deviation. A model on a GPU attends by FlexAttention over blocks, any
    other by a dense mask; raises InputError if the model supports neither.
    """

    def __init__(self, model: CausalLM, *, predictors: int, seed: int = 0) -> None:
        super().__init__()
        self.model = model
        table = model.get_input_embeddings().weight.detach()
        noise = torch.randn(
            (predictors, table.shape[1]), generator=torch.Generator().manual_seed(seed)
        ).to(table)
        self.predictor_tokens = nn.Parameter(table.mean(0) + 0.1 * table.std(0) * noise)
        attend(_FLEX if table.is_cuda else "sdpa", model)

    def forward(self, batch: PackedBatch) -> Pass:
        """Run the model once; the output layer sees only the labelled places."""
        flex = self.model.config._attn_implementation == _FLEX
        with output_layer_on(batch.sources, self.model) as states:
            logits = self.model(
                inputs_embeds=self._embed(batch),
                position_ids=batch.positions,
                attention_mask=block_mask(batch) if flex else dense_mask(batch),
                use_cache=False,
            ).logits[0]
        (hidden,) = states
        if len(batch.triples):
            first, middle, last = hidden[batch.triples].float().unbind(1)
            predicted, actual = last - middle, middle - first
        else:
            predicted, actual = hidden[batch.predicted], hidden[batch.actual]
        return Pass(logits=logits, hidden=hidden, predicted=predicted, actual=actual)

    def _embed(self, batch: PackedBatch) -> Tensor:
        embedded: Tensor = self.model.get_input_embeddings()(batch.ids)
        if not len(batch.slots):
            return embedded
        k, width = self.predictor_tokens.shape
        tokens = self.predictor_tokens.repeat(len(batch.slots) // k, 1).to(embedded.dtype)
        return embedded.view(-1, width).index_copy(0, batch.slots, tokens).view_as(embedded)


def attend(implementation: str, model: CausalLM) -> None:
    """Switch the model's attention; raises InputError if the architecture does not support it."""
    try:
        model.set_attn_implementation(implementation)
    except (ValueError, ImportError) as error:
        raise InputError(
            f"{type(model).__name__} cannot attend by {implementation}: {error}",
            hint="packed rows need a model whose attention takes a mask",
        ) from error


@contextmanager
def output_layer_on(places: Tensor, model: CausalLM) -> Iterator[list[Tensor]]:
    """Restrict the output layer to `places` of the flattened rows; yield the last hidden states.

    The model's own code runs before and after it, so its scaling and soft caps of logits are kept.
    """
    states: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        states.append(inputs[0].flatten(0, 1))
        return (states[0][places].unsqueeze(0),)

    handle = model.get_output_embeddings().register_forward_pre_hook(keep)
    try:
        yield states
    finally:
        handle.remove()
