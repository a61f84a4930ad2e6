"""Lists of tags as one text: a request with several counts in the sums of each."""

from collections.abc import Iterable

import sqlalchemy as sa

LONGEST_TAG, MOST_TAGS = 64, 16


def tags_of(words: Iterable[str]) -> tuple[str, ...]:
    """Return words as tags: without commas and blanks around them, cut where long, each once.

    Of many the first sixteen are kept, in the order of the alphabet.
    """
    cut = (" ".join(word.replace(",", " ").split())[:LONGEST_TAG].strip() for word in words)
    return tuple(sorted(list(dict.fromkeys(word for word in cut if word))[:MOST_TAGS]))


def tags_in(text: str | None) -> tuple[str, ...]:
    """Read a list with commas between its tags; the column `tag` of the books is one."""
    return tags_of((text or "").split(","))


def has_tag(column: sa.ColumnElement[str], tag: str) -> sa.ColumnElement[bool]:
    """Say which rows have a tag; upper and lower case differ."""
    bounded = sa.literal(",") + column + ","
    return bounded != sa.func.replace(bounded, f",{tag},", "")
