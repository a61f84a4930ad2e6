"""Accuracy by exact match with batched greedy decoding, and right answers per token."""

from collections.abc import Sequence

import torch
from msgspec import Struct

from suffice.jepa.forward import CausalLM, attend
from suffice.jepa.views import TokenizedChat, Tokenizer


class ExactMatch(Struct, frozen=True, kw_only=True):
    """The number of exact answers to `examples`, and the tokens generated for all of them.

    `generated_tokens` includes end tokens; `unfinished` counts answers that reached the limit.
    """

    examples: int
    exact: int
    generated_tokens: int
    unfinished: int

    @property
    def accuracy(self) -> float:
        """The share answered exactly, in [0, 1]."""
        return self.exact / self.examples

    @property
    def exact_per_1000_tokens(self) -> float:
        """Exact answers for every 1000 generated tokens."""
        return 1000 * self.exact / self.generated_tokens


@torch.no_grad()
def score(
    model: CausalLM,
    examples: Sequence[TokenizedChat],
    *,
    tokenizer: Tokenizer,
    batch_examples: int = 32,
    max_new_tokens: int = 128,
) -> ExactMatch:
    """Answer every example greedily, in batches of similar length, and compare the texts.

    Texts are compared without special tokens and without white space at their ends.
    """
    ordered = sorted(examples, key=lambda example: len(example.prompt))
    batches = [ordered[i : i + batch_examples] for i in range(0, len(ordered), batch_examples)]
    training, attention = model.training, model.config._attn_implementation
    model.eval()
    attend("sdpa", model)
    exact = generated = unfinished = 0
    for batch in batches:
        answers = generate(model, batch, max_new_tokens=max_new_tokens)
        texts = tokenizer.batch_decode(answers, skip_special_tokens=True)
        exact += sum(t.strip() == e.text for t, e in zip(texts, batch, strict=True))
        generated += sum(map(len, answers))
        unfinished += sum(a[-1] != e.end for a, e in zip(answers, batch, strict=True))
    attend(attention, model)
    model.train(training)
    return ExactMatch(
        examples=len(ordered), exact=exact, generated_tokens=generated, unfinished=unfinished
    )


def generate(
    model: CausalLM, batch: Sequence[TokenizedChat], *, max_new_tokens: int
) -> list[list[int]]:
    """Decode greedily up to and including each example's end token, or to `max_new_tokens`.

    Prompts are padded on the left and the padding is masked, so any token can be padding.
    """
    stop = batch[0].end
    device = model.get_input_embeddings().weight.device
    width = max(len(example.prompt) for example in batch)
    ids = [[stop] * (width - len(e.prompt)) + list(e.prompt) for e in batch]
    mask = [[0] * (width - len(e.prompt)) + [1] * len(e.prompt) for e in batch]
    output = model.generate(
        input_ids=torch.tensor(ids, device=device),
        attention_mask=torch.tensor(mask, device=device),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=stop,
        pad_token_id=stop,
    )
    rows: list[list[int]] = output[:, width:].tolist()
    return [row[: row.index(stop) + 1] if stop in row else row for row in rows]
