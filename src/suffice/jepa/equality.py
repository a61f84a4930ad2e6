"""Check that packing does not change the result: compare it with one pass for each view."""

from collections.abc import Sequence

import torch
from msgspec import Struct, structs
from torch import Tensor

from suffice.errors import InputError
from suffice.jepa.forward import PackedModel, Pass, output_layer_on
from suffice.jepa.packing import PackingLayout, lay_out, pack
from suffice.jepa.views import TokenizedChat

TOLERANCE = 0.02  # of the largest entry; bfloat16 stays below it, float32 is 1000 times closer


class Differences(Struct, frozen=True, kw_only=True):
    """The largest absolute differences between the packed pass and separate passes."""

    hidden: float
    logits: float
    hidden_scale: float
    logits_scale: float

    @property
    def relative(self) -> float:
        """The larger of the two differences, each as a share of the largest entry."""
        return max(self.hidden / self.hidden_scale, self.logits / self.logits_scale)


@torch.no_grad()
def compare(
    packed: PackedModel, examples: Sequence[TokenizedChat], layout: PackingLayout
) -> Differences:
    """Return the differences between the packed pass and one pass for each view.

    The increments of a tube are left out: they are differences of hidden states.
    """
    layout = structs.replace(layout, tube=False)
    training = packed.training
    packed.eval()
    device = packed.predictor_tokens.device
    together = packed(pack(examples, layout).to(device))
    alone = [separate_passes(packed, example, layout=layout) for example in examples]
    packed.train(training)
    logits = torch.cat([one.logits for one in alone])
    views = torch.cat([torch.cat([one.predicted, one.actual]) for one in alone])
    packed_views = torch.stack([together.predicted, together.actual], dim=1).flatten(0, 1)
    places = pack(examples, layout).sources.to(device)
    hidden = torch.cat([one.hidden for one in alone])
    return Differences(
        hidden=max(_largest(together.hidden[places] - hidden), _largest(packed_views - views)),
        logits=_largest(together.logits - logits),
        hidden_scale=_largest(hidden),
        logits_scale=_largest(logits),
    )


def check_packable(
    packed: PackedModel, examples: Sequence[TokenizedChat], layout: PackingLayout
) -> None:
    """Compare the two shortest examples; raises InputError if packing changes the result.

    It does if the model mixes tokens that the mask separates: by recurrent layers, by a sliding
    window over the row, or by position codes that ignore the positions of the batch.
    """
    shortest = sorted(examples, key=lambda example: example.tokens)[:2]
    try:
        difference = compare(packed, shortest, layout).relative
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{type(packed.model).__name__} does not run on packed rows: {error}",
            hint="its forward must take inputs_embeds, position_ids and a mask of four dimensions",
        ) from error
    if not difference <= TOLERANCE:
        raise InputError(
            f"a packed pass of {type(packed.model).__name__} differs from separate passes "
            f"by {difference:.2g} of the largest entry",
            hint="only models whose tokens mix by masked attention alone can be packed",
        )


def separate_passes(packed: PackedModel, example: TokenizedChat, *, layout: PackingLayout) -> Pass:
    """Run the conversation, the prompt with predictor tokens, and the answer separately.

    `hidden` holds the states at the labelled places.
    """
    part = lay_out(example, layout)
    text = part.ids[part.views == 0]
    text = text[: len(text) - len(part.slots)]
    hidden, logits = _alone(packed, _embed(packed, text.tolist()))
    places = torch.from_numpy(part.sources).to(hidden.device)
    empty = hidden[:0]
    if layout.predictors is None:
        return Pass(logits=logits[places], hidden=hidden[places], predicted=empty, actual=empty)
    prompt = torch.cat([_embed(packed, example.prompt), packed.predictor_tokens[None]], dim=1)
    return Pass(
        logits=logits[places],
        hidden=hidden[places],
        predicted=_alone(packed, prompt)[0][-1:],
        actual=_alone(packed, _embed(packed, example.answer))[0][-1:],
    )


def _embed(packed: PackedModel, ids: Sequence[int]) -> Tensor:
    table = packed.model.get_input_embeddings()
    embedded: Tensor = table(torch.tensor([list(ids)], device=table.weight.device))
    return embedded


def _alone(packed: PackedModel, embedded: Tensor) -> tuple[Tensor, Tensor]:
    """Return all hidden states and logits of one unpacked sequence."""
    everywhere = torch.arange(embedded.shape[1], device=embedded.device)
    with output_layer_on(everywhere, packed.model) as states:
        logits = packed.model(inputs_embeds=embedded, use_cache=False).logits[0]
    return states[0], logits


def _largest(values: Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0
