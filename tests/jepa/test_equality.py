from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from tiny_llama import PAIRS, cut, llama  # noqa: E402

from suffice.errors import InputError  # noqa: E402
from suffice.jepa import forward  # noqa: E402
from suffice.jepa.equality import check_packable, compare  # noqa: E402
from suffice.jepa.forward import PackedModel  # noqa: E402
from suffice.jepa.mask import dense_mask  # noqa: E402
from suffice.jepa.packing import PackedBatch, PackingLayout, pack  # noqa: E402
from suffice.jepa.settings import Labels  # noqa: E402


@pytest.mark.parametrize("predictors", [None, 0, 1, 3])
@pytest.mark.parametrize("row_tokens", [1, 200, 1000])
def test_a_packed_pass_equals_separate_passes(predictors: int | None, row_tokens: int) -> None:
    packed = PackedModel(llama(), predictors=predictors or 0)
    layout = PackingLayout(predictors=predictors, row_tokens=row_tokens, pad_token=257)
    differences = compare(packed, cut(*PAIRS), layout)
    assert differences.hidden < 1e-4
    assert differences.logits < 1e-3
    assert differences.hidden_scale > 1


def test_packing_is_exact_for_the_references_labels_and_for_learned_positions() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "vocab_size": 300}
    packed = PackedModel(GPT2LMHeadModel(GPT2Config(**shape)), predictors=2)
    layout = PackingLayout(predictors=2, labels=Labels.REFERENCE, row_tokens=200, pad_token=257)
    differences = compare(packed, cut(*PAIRS), layout)
    assert differences.hidden < 1e-4
    assert differences.logits < 1e-3


def leaky(batch: PackedBatch) -> Any:
    """A mask that is only causal: neighbours in a row see each other."""
    return torch.ones_like(dense_mask(batch)).tril()


def sisterly(batch: PackedBatch) -> Any:
    """A mask that lets predictor tokens see the answer."""
    return dense_mask(replace(batch, branches=torch.zeros_like(batch.branches)))


@pytest.mark.parametrize("mask", [leaky, sisterly])
def test_a_wrong_mask_is_found_out(mask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = PackedModel(llama(), predictors=1)
    layout = PackingLayout(predictors=1, row_tokens=200)
    check_packable(packed, cut(*PAIRS), layout)
    monkeypatch.setattr(forward, "dense_mask", mask)
    with pytest.raises(InputError, match="differs from separate passes"):
        check_packable(packed, cut(*PAIRS), layout)


def test_a_model_that_counts_places_by_row_is_refused() -> None:
    from transformers import BloomConfig, BloomForCausalLM

    shape = {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 300}
    packed = PackedModel(BloomForCausalLM(BloomConfig(**shape)), predictors=1)
    with pytest.raises(InputError, match="does not run on packed rows"):
        check_packable(packed, cut(*PAIRS), PackingLayout(predictors=1))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_flexattention_over_the_block_mask_gives_the_same(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward only: FlexAttention has no backward pass on a CPU; compiling takes a minute."""
    from torch.nn.attention.flex_attention import flex_attention
    from transformers.integrations import flex_attention as theirs

    def uncompiled(*tensors: Any, training: bool = False, **options: Any) -> Any:
        return flex_attention(*tensors, **options)

    if not compiled:
        monkeypatch.setattr(theirs, "compile_friendly_flex_attention", uncompiled)
    packed = PackedModel(llama(), predictors=1).requires_grad_(False)
    batch = pack(cut(*PAIRS), PackingLayout(predictors=1, row_tokens=200))
    dense = packed(batch)
    forward.attend("flex_attention", packed.model)
    flex = packed(batch)
    assert (flex.logits - dense.logits).abs().max() < 1e-4
    assert (flex.actual - dense.actual).abs().max() < 1e-4
    assert (flex.predicted - dense.predicted).abs().max() < 1e-4


def test_the_output_layer_sees_labels_alone() -> None:
    packed = PackedModel(llama(), predictors=1)
    batch = pack(cut(*PAIRS), PackingLayout(predictors=1))
    output = packed(batch)
    assert output.logits.shape == (len(batch.targets), 300)
    assert output.predicted.shape == output.actual.shape == (len(PAIRS), 32)


def test_predictor_tokens_learn_and_leave_the_vocabulary_alone() -> None:
    model = llama()
    packed = PackedModel(model, predictors=2)
    packed(pack(cut(*PAIRS), PackingLayout(predictors=2))).predicted.sum().backward()
    assert packed.predictor_tokens.grad.abs().sum() > 0
    assert model.get_input_embeddings().weight.shape == (300, 32)
