"""Encoders that run in onnxruntime: MiniLM for text, EfficientNet-lite0 for images.

`python -m tools.encoders` builds their files once; torch is not needed.
"""

import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suffice.encoders.base import Vectors
from suffice.errors import InputError, MissingExtra

MINILM = "minilm-int8.onnx"
MINILM_TOKENIZER = "minilm-tokenizer.json"
EFFICIENTNET = "efficientnet-lite0.onnx"
BATCH = 32  # texts; larger batches only add padding on a CPU


def encoder_folder() -> Path:
    """Return the folder of encoder files: SUFFICE_ENCODERS, or the cache of the user."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("SUFFICE_ENCODERS") or Path(cache, "suffice", "encoders"))


class MiniLM:
    """all-MiniLM-L6-v2 in int8: unit vectors of 384; texts past 128 tokens are cut.

    `fingerprint` holds the hash of the file, so that a certificate made with another quantisation
    is refused. Raises MissingExtra if the extra or the file is absent.
    """

    dim = 384

    def __init__(self, folder: Path | None = None, *, threads: int = 1) -> None:
        folder = folder or encoder_folder()
        self._session, self.fingerprint = _open(folder / MINILM, build="minilm", threads=threads)
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / MINILM_TOKENIZER))
        self._tokenizer.enable_truncation(128)
        self._tokenizer.enable_padding()

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector a text, shape (texts, 384); zeros for a text without a word."""
        vectors = np.zeros((len(texts), self.dim), np.float32)
        order = [row for row in range(len(texts)) if texts[row].strip()]
        order.sort(key=lambda row: len(texts[row]))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            vectors[rows] = self._run([texts[row] for row in rows])
        return vectors

    def _run(self, texts: list[str]) -> Vectors:
        encoded = self._tokenizer.encode_batch(texts)
        inputs = {
            "input_ids": np.array([e.ids for e in encoded]),
            "attention_mask": np.array([e.attention_mask for e in encoded]),
        }
        vectors: Vectors = self._session.run(None, inputs)[0]
        return vectors


class EfficientNet:
    """EfficientNet-lite0 without its classifier: unit vectors of 1280."""

    dim = 1280

    def __init__(self, folder: Path | None = None, *, threads: int = 1) -> None:
        folder = folder or encoder_folder()
        self._session, self.fingerprint = _open(
            folder / EFFICIENTNET, build="efficientnet", threads=threads
        )

    def embed(self, images: NDArray[np.uint8]) -> Vectors:
        """Return one unit vector an image; `images` is (count, 224, 224, 3), RGB, 0 to 255."""
        if images.ndim != 4 or images.shape[1:] != (224, 224, 3):
            raise InputError(f"images must have shape (count, 224, 224, 3), got {images.shape}")
        scaled = (images.astype(np.float32) - 127.0) / 128.0
        vectors: Vectors = self._session.run(None, {"image": scaled.transpose(0, 3, 1, 2)})[0]
        return vectors


def _open(path: Path, *, build: str, threads: int) -> tuple[Any, str]:
    """Open a model file; return its session and its fingerprint, name and content hash."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra(
            f"the encoder {build} needs onnxruntime", hint="pip install 'suffice[latent]'"
        ) from error
    if not path.is_file():
        raise MissingExtra(
            f"the encoder file {path} has not been built",
            hint=f"run: python -m tools.encoders {build}",
        )
    data = path.read_bytes()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session, f"{path.stem}:{sha256(data).hexdigest()[:16]}"
