"""The architecture: Mistral Small 4 in miniature, with 128 routed experts and a shared one."""

from typing import Any, Self

import torch
from torch import Tensor

from tools.reference_model.tokenizer import END, PAD

CONTEXT = 2048
EXPERTS, TOP_K = 128, 4
CAUSAL, SORTED = "suffice_causal", "suffice_sorted"


def shipped_config(tokenizer: Any, **changes: Any) -> Any:
    """Return the `Mistral4Config`: 13 M parameters, of which about 1 M are active for a token."""
    from transformers import Mistral4Config

    settings: dict[str, Any] = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 128,
        "intermediate_size": 256,
        "moe_intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "n_shared_experts": 1,
        "n_routed_experts": EXPERTS,
        "num_experts_per_tok": TOP_K,
        "kv_lora_rank": 96,
        "q_lora_rank": 128,
        "qk_rope_head_dim": 32,
        "qk_nope_head_dim": 16,
        "v_head_dim": 16,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": True,
        "pad_token_id": tokenizer.token_to_id(PAD),
        "bos_token_id": None,
        "eos_token_id": tokenizer.token_to_id(END),
        "initializer_range": 0.02,
        "rope_parameters": {
            "rope_type": "yarn",
            "type": "yarn",
            "rope_theta": 10000.0,
            "factor": 1.0,
            "original_max_position_embeddings": CONTEXT,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "llama_4_scaling_beta": 0.1,
        },
    }
    return Mistral4Config(**settings | changes)


def dense_config(tokenizer: Any, *, intermediate: int) -> Any:
    """Return the same model with one dense layer of this width in place of all the experts."""
    layers = shipped_config(tokenizer).num_hidden_layers
    return shipped_config(tokenizer, intermediate_size=intermediate, first_k_dense_replace=layers)


def build_model(config: Any) -> Any:
    """Build the model with random weights; its experts run in grouped products."""
    from transformers import Mistral4ForCausalLM
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(CAUSAL, _causal_attention)
    ALL_EXPERTS_FUNCTIONS.register(SORTED, _sorted_experts)
    model = Mistral4ForCausalLM._from_config(
        config, experts_implementation=SORTED, attn_implementation=CAUSAL
    )
    torch.nn.init.normal_(model.model.embed_tokens.weight, std=0.08)
    for gate in _gates(model):  # a router of zeros would send all tokens to the same four experts
        torch.nn.init.normal_(gate.weight, std=0.02)
    for name, weight in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj", "down_proj.weight")):
            with torch.no_grad():  # keeps the residual stream small at the start
                weight.mul_((2 * config.num_hidden_layers) ** -0.5)
    return model


def _causal_attention(
    _layer: Any, query: Tensor, key: Tensor, value: Tensor, _mask: None, *, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """Compute causal attention in two plain products; rows have no padding to mask.

    On a CPU the fused kernels are several times slower for rows this short, and none of them takes
    the values of MLA, which are narrower than its keys.
    """
    length = query.shape[-2]
    later = torch.full((length, length), float("-inf"), device=query.device).triu(1)
    with torch.autocast(query.device.type, enabled=False):  # it would widen the softmax
        query, key = query.to(value.dtype), key.to(value.dtype)
        scores = query @ key.transpose(-1, -2) * scaling + later.to(value.dtype)
        out = scores.softmax(-1) @ value
    return out.transpose(1, 2).contiguous(), None


class _Deal(torch.autograd.Function):
    """Gather rows, with repeats, and gather their gradients too.

    PyTorch scatters the gradient of an index, which took a seventh of a step on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor, inverse: Tensor, copies: int) -> Tensor:
        ctx.save_for_backward(inverse)
        ctx.copies = copies
        return rows.index_select(0, order // copies)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (inverse,) = ctx.saved_tensors
        back = grad.index_select(0, inverse)
        return back.view(-1, ctx.copies, back.shape[-1]).sum(1), None, None, None


def _sorted_experts(
    experts: Any, hidden: Tensor, chosen: Tensor, weights: Tensor, **_: Any
) -> Tensor:
    """Run the experts as grouped products over tokens sorted by expert, in the weights' own type.

    On a CPU single precision is several times faster than bf16 for products as small as these.
    `hidden` is (tokens, width), `chosen` and `weights` are (tokens, k).
    """
    copies = chosen.shape[-1]
    order = chosen.flatten().argsort(stable=True)
    inverse = order.argsort()
    ends = chosen.flatten().bincount(minlength=experts.num_experts).cumsum(0).to(torch.int32)

    def grouped(rows: Tensor, matrices: Tensor) -> Tensor:
        return torch._grouped_mm(rows, matrices.transpose(-2, -1), offs=ends)

    rows = _Deal.apply(hidden.to(experts.gate_up_proj.dtype), order, inverse, copies)
    gate, up = grouped(rows, experts.gate_up_proj).chunk(2, dim=-1)
    out = grouped(experts.act_fn(gate) * up, experts.down_proj)
    back = _Deal.apply(out, inverse, order, 1).view(-1, copies, hidden.shape[-1])
    return (back * weights.unsqueeze(-1)).sum(1).to(hidden.dtype)


class Balance:
    """Measures how evenly the routers spread the tokens of a forward pass over the experts.

    Use as a context manager around the pass. `loss` is that of the Switch Transformer (arXiv
    2101.03961, equation 4), 1 for an even spread.
    """

    def __init__(self, model: Any) -> None:
        self._gates = _gates(model)
        self._loads: list[tuple[Tensor, Tensor]] = []
        self._hooks: list[Any] = []

    def __enter__(self) -> Self:
        self._loads.clear()
        self._hooks = [gate.register_forward_hook(self._note) for gate in self._gates]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _note(self, _gate: Any, _inputs: Any, outputs: tuple[Tensor, Tensor, Tensor]) -> None:
        logits, _, chosen = outputs
        shares = chosen.flatten().bincount(minlength=logits.shape[-1]) / chosen.numel()
        self._loads.append((logits.float().softmax(-1).mean(0), shares))

    @property
    def loss(self) -> Tensor:
        """The balancing loss, averaged over the layers."""
        return torch.stack([(p * share).sum() * len(p) for p, share in self._loads]).mean()

    @property
    def fullest(self) -> float:
        """The load of the busiest expert of any layer, in multiples of an even share."""
        return max(float(share.max()) * len(share) for _, share in self._loads)


def _gates(model: Any) -> list[Any]:
    return [layer.mlp.gate for layer in model.model.layers if hasattr(layer.mlp, "gate")]
