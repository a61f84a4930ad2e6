"""Weights to continue from: those of a GGUF file, whose tokenizer may know fewer phrases."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suffice.errors import InputError, MissingExtra

EMBEDDING = "model.embed_tokens.weight"
_LAYER = {
    "input_layernorm.weight": "attn_norm",
    "post_attention_layernorm.weight": "ffn_norm",
    "self_attn.q_a_proj.weight": "attn_q_a",
    "self_attn.q_a_layernorm.weight": "attn_q_a_norm",
    "self_attn.q_b_proj.weight": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa.weight": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm.weight": "attn_kv_a_norm",
    "self_attn.o_proj.weight": "attn_output",
    "mlp.gate.weight": "ffn_gate_inp",
    "mlp.experts.gate_up_proj": "ffn_gate_up_exps",
    "mlp.experts.down_proj": "ffn_down_exps",
    "mlp.shared_experts.gate_proj.weight": "ffn_gate_shexp",
    "mlp.shared_experts.up_proj.weight": "ffn_up_shexp",
    "mlp.shared_experts.down_proj.weight": "ffn_down_shexp",
}
_KEYS_AND_VALUES = "self_attn.kv_b_proj.weight"


def load_gguf(model: Any, tokenizer: Any, path: Path) -> None:
    """Copy the weights of a GGUF file of the same architecture into a model.

    The row of a token moves to the place that `tokenizer` gives to its text; a phrase that the file
    lacks keeps its random row. Raises InputError for a file of another architecture.
    """
    try:
        from gguf import GGUFReader, dequantize
    except ImportError as error:
        raise MissingExtra("gguf is not installed", hint="make venv-train") from error
    try:
        reader = GGUFReader(path)
        tensors = {
            tensor.name: torch.from_numpy(
                np.array(dequantize(tensor.data, tensor.tensor_type), np.float32)
            )
            for tensor in reader.tensors
        }
        texts = reader.get_field("tokenizer.ggml.tokens").contents()
        state = model.state_dict()
        with torch.no_grad():
            for name, weight in state.items():
                if name == EMBEDDING:
                    _place(weight, tensors["token_embd.weight"], texts=texts, tokenizer=tokenizer)
                elif name != "lm_head.weight":
                    weight.copy_(_tensor(tensors, name))
    except (OSError, ValueError, LookupError, RuntimeError, AttributeError) as error:
        raise InputError(
            f"cannot continue from {path}: {error}", hint="give the GGUF file of this model"
        ) from error


def _tensor(tensors: dict[str, Tensor], name: str) -> Tensor:
    """Return the tensor of the file for a weight of the model."""
    if name == "model.norm.weight":
        return tensors["output_norm.weight"]
    _, _, layer, rest = name.split(".", 3)
    block = f"blk.{layer}."
    if rest == _KEYS_AND_VALUES:  # two tensors by head, the keys transposed
        keys, values = (tensors[f"{block}attn_{part}_b.weight"] for part in "kv")
        return torch.cat([keys.transpose(1, 2), values], dim=1).flatten(0, 1)
    return tensors[f"{block}{_LAYER[rest]}.weight"]


def _place(weight: Tensor, rows: Tensor, *, texts: list[str], tokenizer: Any) -> None:
    for text, row in zip(texts, rows, strict=True):
        place = tokenizer.token_to_id(text)
        if place is not None:
            weight[place] = row
