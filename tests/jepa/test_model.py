from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from tiny_llama import conversation, llama, tokenizer  # noqa: E402

from suffice.engines.embedded import packaged_path  # noqa: E402
from suffice.errors import InputError  # noqa: E402
from suffice.jepa.evaluate import generate  # noqa: E402
from suffice.jepa.model import dequantise, load  # noqa: E402
from suffice.jepa.views import examples  # noqa: E402

NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.layers": "blk",
}


def write_gguf(path: Path, model: Any, words: Any) -> None:
    """Write a model as GGUF with Q8_0 matrices, as llama.cpp's converter would."""
    import gguf

    config, out = model.config, gguf.GGUFWriter(path, "llama")
    out.add_block_count(config.num_hidden_layers)
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_rope_freq_base(10000.0)
    out.add_vocab_size(config.vocab_size)
    vocabulary = {i: token for token, i in words.get_vocab().items()}
    tokens = [vocabulary.get(i, f"<unused{i}>") for i in range(config.vocab_size)]
    out.add_tokenizer_model("gpt2")
    out.add_token_list(tokens)
    out.add_token_types([3 if token.startswith("<") and len(token) > 1 else 1 for token in tokens])
    out.add_token_merges(["Ċ Ċ"])
    out.add_eos_token_id(257)
    out.add_pad_token_id(257)
    out.add_chat_template(words.chat_template)
    for name, weight in model.state_dict().items():
        if name != "lm_head.weight":
            add_tensor(out, name, weight.numpy(), config)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def add_tensor(out: Any, name: str, weight: np.ndarray, config: Any) -> None:
    import gguf

    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for part, count in heads.items():
        if part in name:  # llama.cpp interleaves the two halves of each head
            halves = weight.reshape(count, 2, -1, weight.shape[1])
            weight = np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    if weight.ndim == 1:
        out.add_tensor(name, weight)
        return
    q8 = gguf.GGMLQuantizationType.Q8_0
    out.add_tensor(name, gguf.quants.quantize(weight, q8), raw_dtype=q8)


@pytest.fixture
def quantised(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, llama(), tokenizer())
    return path


def test_a_dequantised_model_computes_and_saves_like_any_other(
    quantised: Path, tmp_path: Path
) -> None:
    import torch

    model, words = dequantise(quantised)
    ids = torch.tensor([words("a vowel")["input_ids"]])
    honest = llama().eval()
    with torch.no_grad():
        found, wanted = model.eval()(ids).logits, honest(ids).logits
    assert (found - wanted).abs().max() < 0.05 * wanted.abs().max()
    assert words.chat_template == tokenizer().chat_template
    model.save_pretrained(tmp_path / "saved")
    words.save_pretrained(tmp_path / "saved")
    again, _ = load(tmp_path / "saved")
    with torch.no_grad():
        assert again.eval()(ids).logits.equal(found)


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_text("not this")
    with pytest.raises(InputError, match="cannot load"):
        load(tmp_path / "a.gguf")


@pytest.mark.slow
def test_smollm2_answers_after_being_dequantised() -> None:
    model, words = dequantise(packaged_path("SmolLM2-135M-Instruct"))
    asked = conversation("What is the capital of France?", "Paris.", system=None)
    (answer,) = generate(model.eval(), examples([asked], tokenizer=words), max_new_tokens=12)
    assert "Paris" in words.decode(answer)
