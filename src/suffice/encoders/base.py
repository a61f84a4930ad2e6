"""The protocol of text encoders, and the static encoder that ships."""

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

_BATCH = 256  # texts that are cut into tokens at once, on all processors


class Encoder(Protocol):
    """Turns texts into vectors, the same text always into the same vector."""

    @property
    def dim(self) -> int:
        """The length of a vector."""
        ...

    @property
    def fingerprint(self) -> str:
        """Name, version and weights: scores fitted on one fingerprint fit no other."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one finite vector a text, shape (texts, dim); zeros for a text with no token."""
        ...


class WordLlamaEncoder:
    """The mean of static token embeddings (WordLlama, 256 numbers).

    It pools text by text: the pooling of the package gives NaN for an empty text and depends on the
    other texts of the batch.
    """

    def __init__(self) -> None:
        self._table, self._tokenizer, self.fingerprint = _load()

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return int(self._table.shape[1])

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one vector a text, shape (texts, dim); zeros for a text with no token."""
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for start in range(0, len(texts), _BATCH):
            # lone surrogates are refused
            whole = [
                text.encode("utf-8", "ignore").decode("utf-8")
                for text in texts[start : start + _BATCH]
            ]
            encodings = self._tokenizer.encode_batch_fast(whole, add_special_tokens=False)
            for row, encoding in enumerate(encodings, start):
                if encoding.ids:
                    vectors[row] = self._table[encoding.ids].mean(axis=0)
        return vectors


class CachedEncoder:
    """An encoder that keeps its vectors, for fits that use the same texts several times."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._known: dict[str, Vectors] = {}
        self.dim, self.fingerprint = encoder.dim, encoder.fingerprint

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return (texts, dim)."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._known |= dict(zip(missing, self._encoder.embed(missing), strict=True))
        return np.stack([self._known[text] for text in texts])


@cache
def default_encoder() -> Encoder:
    """Return the encoder that ships, loaded once a process (about half a second)."""
    return WordLlamaEncoder()


def _load() -> tuple[Vectors, Any, str]:
    """Read table and tokenizer from the installed package, without a download.

    The package looks for its tokenizer in a folder that its wheel lacks, then downloads it. With
    its own folder as cache it finds the one that it ships (`tokenizers/`). Its import configures
    the root logger, which is undone here.
    """
    import logging
    from pathlib import Path

    handlers, level = list(logging.root.handlers), logging.root.level
    import wordllama

    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    folder = Path(wordllama.__file__).parent
    model = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)
    table: Vectors = model.embedding
    tokenizer = model.tokenizer
    tokenizer.no_padding()
    digest = hashlib.sha256(np.ascontiguousarray(table).tobytes()).hexdigest()[:16]
    return table, tokenizer, f"wordllama-{table.shape[1]}:{digest}"
