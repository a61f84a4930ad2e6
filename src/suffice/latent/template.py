"""Prompt templates: the words at the start and the end that all prompts of a group share.

They are removed before encoding. A shared template dominates an embedding, so that prompts about
different things would look alike.
"""

import re
from collections.abc import Sequence

from msgspec import Struct

from suffice.errors import InputError

_WORD_OR_SPACE = re.compile(r"\S+|\s+")
_FEWEST_PROMPTS = 8  # distinct prompts; fewer may share words by chance


class Template(Struct, frozen=True, kw_only=True):
    """The shared start and end of prompts; empty if they share nothing."""

    prefix: str = ""
    suffix: str = ""

    def variable(self, text: str) -> str | None:
        """Return the part between prefix and suffix; None if the text does not have this form."""
        room = len(text) >= len(self.prefix) + len(self.suffix)
        if not (room and text.startswith(self.prefix) and text.endswith(self.suffix)):
            return None
        return text[len(self.prefix) : len(text) - len(self.suffix)].strip()


def learn_template(texts: Sequence[str]) -> Template:
    """Return the longest template, in whole words, that all these prompts share.

    Fewer than 8 distinct prompts give the empty template. Raises InputError for no prompts.
    """
    distinct = sorted(set(texts))
    if not distinct:
        raise InputError("no prompts to learn a template from")
    if len(distinct) < _FEWEST_PROMPTS:
        return Template()
    prompts = [_WORD_OR_SPACE.findall(text) for text in distinct]
    start = _shared(prompts)
    ends = [list(reversed(words[start:])) for words in prompts]
    end = _shared(ends)
    return Template(prefix="".join(prompts[0][:start]), suffix="".join(reversed(ends[0][:end])))


def _shared(rows: Sequence[Sequence[str]]) -> int:
    """Return the number of words at the start that all rows share."""
    for place, column in enumerate(zip(*rows, strict=False)):
        if len(set(column)) > 1:
            return place
    return min(map(len, rows))
