"""Groups of requests told from their text, for clients that declare none.

Multinomial naive Bayes over hashed words (Manning, Raghavan and Schütze, Introduction to
Information Retrieval, chapter 13): linear in the text, and plain numbers in a file.
"""

import re
import zlib
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from suffice.features.text import LONGEST_TEXT

PREFIX = "text:"  # before the names of such groups: no client can declare them
_BUCKETS = 4096
_WORD = re.compile(r"\w+")


class TextGroups(Struct, frozen=True, kw_only=True, eq=False):
    """A classifier of texts: log-probabilities of words, shape (groups, buckets), and of groups."""

    names: tuple[str, ...]
    words: NDArray[np.float32]
    sizes: NDArray[np.float32]

    def group_of(self, text: str) -> str:
        """Return the likeliest group of a text; the commonest one where nothing tells."""
        buckets = _buckets(text)
        return self.names[int(np.argmax(self.words[:, buckets].sum(axis=1) + self.sizes))]


def learn_text_groups(texts: Sequence[str], groups: Sequence[str | None]) -> TextGroups | None:
    """Fit the classifier on texts of known groups; None where there are fewer than two groups."""
    names = sorted({group for group in groups if group is not None})
    if len(names) < 2:
        return None
    at = {name: place for place, name in enumerate(names)}
    counts, sizes = np.ones((len(names), _BUCKETS)), np.zeros(len(names))
    for text, group in zip(texts, groups, strict=True):
        if group is not None:
            np.add.at(counts[at[group]], _buckets(text), 1.0)
            sizes[at[group]] += 1.0
    words = np.log(counts / counts.sum(axis=1, keepdims=True))
    return TextGroups(
        names=tuple(PREFIX + name.removeprefix(PREFIX) for name in names),
        words=words.astype(np.float32),
        sizes=np.log(sizes / sizes.sum()).astype(np.float32),
    )


def _buckets(text: str) -> NDArray[np.int64]:
    """Return the places of a text's different words."""
    words = set(_WORD.findall(text[:LONGEST_TEXT].lower()))
    places = (zlib.crc32(word.encode("utf-8", "replace")) % _BUCKETS for word in words)
    return np.fromiter(places, dtype=np.int64, count=len(words))
