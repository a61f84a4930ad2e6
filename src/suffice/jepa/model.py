"""Load a model to train, from a transformers directory or from a GGUF file, de-quantised."""

from pathlib import Path
from typing import Any

import torch

from suffice.errors import InputError
from suffice.jepa.forward import CausalLM
from suffice.jepa.views import Tokenizer

_LOADING = (OSError, ValueError, KeyError, RuntimeError)


def load(path: Path) -> tuple[CausalLM, Tokenizer]:
    """Load a model in float32 and its tokenizer from a local directory or a .gguf file.

    Raises InputError if there is none; nothing is downloaded.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not path.exists():
        raise InputError(f"no model at {path}", hint="give a model directory or a .gguf file")
    if path.suffix == ".gguf":
        return dequantise(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.float32, local_files_only=True
        )
    except _LOADING as error:
        raise _unloadable(path, error) from error
    return model, tokenizer


def dequantise(path: Path) -> tuple[CausalLM, Tokenizer]:
    """Read a GGUF file into a float32 model that can be trained and saved.

    The weights keep their quantisation error, so they are not the original checkpoint. transformers
    refuses to save a model that it read from GGUF, so the weights move to a new model of the same
    shape.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(path.parent, **options)
        quantised = AutoModelForCausalLM.from_pretrained(
            path.parent, dtype=torch.float32, **options
        )
    except _LOADING as error:
        raise _unloadable(path, error) from error
    config = type(quantised.config)(
        **{
            key: value
            for key, value in quantised.config.to_dict().items()
            if key != "quantization_config"
        }
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(quantised.state_dict())
    model.generation_config = quantised.generation_config
    return model, tokenizer


def with_lora(model: CausalLM, *, rank: int) -> CausalLM:
    """Freeze the model, and add trainable low-rank updates to all linear layers but the output."""
    from peft import LoraConfig, get_peft_model

    return get_peft_model(
        model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    )


def _unloadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"cannot load a causal language model from {path}: {error}",
        hint="a directory needs config.json, weights and tokenizer files",
    )
