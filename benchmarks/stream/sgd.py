"""Schema-Guided Dialogue as streams: user turns of dialogues put end to end."""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from suffice.selective.change import Stream, Turn

DIALOGUES = 12  # in each stream


@dataclass(frozen=True, kw_only=True, eq=False)
class Dialogues:
    """Dialogues that touch at least two domains, shuffled by a fixed seed."""

    train: list[list[Turn]]
    dev: list[list[Turn]]


def read_dialogues(path: Path) -> Dialogues:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [msgspec.json.decode(line) for line in lines]
    parts = {
        split: [_turns(row["turns"]) for row in rows if row["split"] == split]
        for split in ("train", "dev")
    }
    order = np.random.default_rng(0)
    for part in parts.values():
        order.shuffle(part)
    return Dialogues(**{k: [d for d in part if _domains(d) > 1] for k, part in parts.items()})


def streams(dialogues: Sequence[list[Turn]]) -> list[list[Turn]]:
    """Put the dialogues end to end, `DIALOGUES` in each stream; a rest is left out.

    A turn's context is the user and the system turn before it, across the seams too.
    """
    ends = range(DIALOGUES, len(dialogues) + 1, DIALOGUES)
    return [_joined(dialogues[end - DIALOGUES : end]) for end in ends]


def _turns(raw: list[dict[str, Any]]) -> list[Turn]:
    """Return the user turns, each with the system turn before it; last the closing system turn."""
    before, turns = "", []
    for turn in raw:
        if turn["speaker"] == "user":
            turns.append(Turn(text=turn["text"], context=before, answer=turn["label"]))
        else:
            before = turn["text"]
    return [*turns, Turn(text="", context=before)]


def _joined(dialogues: Sequence[list[Turn]]) -> list[Turn]:
    user, system, stream = "", "", []
    for *turns, closing in dialogues:
        for i, turn in enumerate(turns):
            system = turn.context if i else system
            stream.append(msgspec.structs.replace(turn, context=f"{user}\n{system}"))
            user = turn.text
        system = closing.context
    return stream


def _domains(dialogue: list[Turn]) -> int:
    return len({turn.answer.split(":")[0] for turn in dialogue if turn.answer})


def without_answers(streams: Sequence[Stream], hidden: set[str]) -> list[Stream]:
    """Return the streams that show none of these answers, which are then new to a model."""
    return [s for s in streams if not any(turn.answer in hidden for turn in s)]
