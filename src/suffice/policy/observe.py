"""What a policy may look at, as arrays: the text, the declared group, and attempted answers.

Nothing here reads a target, a quality, a cost or the order of rows, and of a request's id only a
random number is made. It learns nothing either: a row's numbers depend on that row alone, so they
are made once for all fits.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from msgspec.structs import replace as replace_field
from numpy.typing import NDArray

from suffice.encoders.base import Encoder, Vectors
from suffice.features.answer import answer_features, final_answer
from suffice.features.text import LONGEST_TEXT, Prompt, read_prompt, text_features
from suffice.trials.table import Rows, TrialTable
from suffice.types import Signals

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Keys = tuple[str | None, ...]

NOTHING = Signals()


@dataclass(frozen=True, kw_only=True, eq=False)
class Attempts:
    """One rung's answers: `numbers` of shape (rows, answer features), zeros where none `given`.

    Where the rung `abstained` there is nothing to keep, whatever the policy expects; an answer that
    did not pass its check counts as such.
    """

    numbers: Floats
    finals: Keys
    given: Flags
    abstained: Flags

    def subset(self, rows: Rows) -> "Attempts":
        """Return some rows, in the order of `rows`."""
        return Attempts(
            numbers=self.numbers[rows],
            finals=tuple(self.finals[row] for row in rows.tolist()),
            given=self.given[rows],
            abstained=self.abstained[rows],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Observations:
    """Requests as numbers; `attempts` has one entry a rung below the reference, None if unseen.

    `draws`, shape (rows,), are uniform random numbers in [0, 1), the same for the same request id.
    `checked` are the places of the rungs whose answers must pass a check.
    """

    numbers: Floats
    vectors: Vectors
    groups: Keys
    attempts: tuple[Attempts | None, ...]
    encoder: str
    draws: Floats
    checked: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.groups)

    def subset(self, rows: Rows) -> "Observations":
        """Return some rows, in the order of `rows`."""
        return Observations(
            numbers=self.numbers[rows],
            vectors=self.vectors[rows],
            groups=tuple(self.groups[row] for row in rows.tolist()),
            attempts=tuple(a.subset(rows) if a else None for a in self.attempts),
            encoder=self.encoder,
            draws=self.draws[rows],
            checked=self.checked,
        )

    def without_groups(self) -> "Observations":
        """Return the same requests with no group declared."""
        return replace(self, groups=(None,) * len(self))


def observe(
    texts: Sequence[str],
    groups: Sequence[str | None],
    attempts: Sequence[Sequence[Signals | None] | None],
    *,
    request_ids: Sequence[str],
    encoder: Encoder,
    checked: tuple[int, ...] = (),
) -> Observations:
    """Turn requests into numbers; `attempts` holds a rung's signals by request, or None."""
    prompts = [read_prompt(text) for text in texts]
    return Observations(
        numbers=_matrix([text_features(prompt) for prompt in prompts]),
        vectors=encoder.embed([text[:LONGEST_TEXT] for text in texts]),
        groups=tuple(groups),
        attempts=tuple(
            _attempts(prompts, seen, checked=rung in checked) for rung, seen in enumerate(attempts)
        ),
        encoder=encoder.fingerprint,
        draws=np.array([draw(request_id) for request_id in request_ids], dtype=np.float64),
        checked=checked,
    )


def draw(request_id: str) -> float:
    """Return a number in [0, 1) that is as good as random, and always the same for one id."""
    digest = hashlib.blake2b(request_id.encode(), digest_size=8, person=b"suffice part").digest()
    return (int.from_bytes(digest) >> 11) / 2.0**53


def observe_table(table: TrialTable, *, reference: str, encoder: Encoder) -> Observations:
    """Turn a table into numbers, with the answers of the rungs below the reference.

    A rung with a verdict of a check on any answer needs one on every answer.
    """
    below = range(table.rung_index(reference))
    signals = [[row[rung] for row in table.signals] for rung in below]
    checked = (r for r in below if any(shown.check is not None for shown in signals[r]))
    return observe(
        *(table.texts, table.groups, signals),
        request_ids=table.request_ids,
        encoder=encoder,
        checked=tuple(checked),
    )


def _attempts(
    prompts: Sequence[Prompt], seen: Sequence[Signals | None] | None, *, checked: bool
) -> Attempts | None:
    abstained = np.array(
        [s is not None and (s.abstained or (checked and not s.check)) for s in seen or ()],
        dtype=np.bool_,
    )
    given = np.array([is_given(signals) for signals in seen or ()], dtype=np.bool_) & ~abstained
    if seen is None or not (given | abstained).any():
        return None
    pairs = [
        (prompt, signals if signals is not None and there else NOTHING)
        for prompt, signals, there in zip(prompts, seen, given.tolist(), strict=True)
    ]
    return Attempts(
        numbers=_matrix([answer_features(prompt, signals) for prompt, signals in pairs]),
        finals=tuple(
            final_answer(signals.answer) if signals.answer is not None else None
            for _, signals in pairs
        ),
        given=given,
        abstained=abstained,
    )


def is_given(signals: Signals | None) -> bool:
    """Whether an attempt shows anything that it can be judged by, the verdict of a check aside."""
    if signals is None or signals.abstained:
        return False
    return (signals if signals.check is None else replace_field(signals, check=None)) != NOTHING


def _matrix(rows: list[dict[str, float]]) -> Floats:
    names = list(rows[0]) if rows else []
    return np.array([[row[name] for name in names] for row in rows]).reshape(len(rows), len(names))
