"""Write the requests of the compound workload, with the answers that are right.

Closed-set requests one by one, reasoning questions of all families alike, and dialogues whose every
turn asks what the user wants now. Nothing here was trained on: reasoning questions are held out by
their hash (`tools.reference_model.examples`). Closed-set requests open and close in more words
than those of training, because the short ones nearly all occur there. Any request of the two
families made here that occurs among the first training examples, more than any training took, is
left out, whichever family their numbers were drawn for. The same bytes each time.

python -m tools.data.compound_tasks
"""

import gzip
import json
from collections.abc import Iterator
from itertools import chain, count, islice
from pathlib import Path
from random import Random

from benchmarks.effort.__main__ import SPEC
from msgspec.structs import replace

from tools.reference_model import intents
from tools.reference_model.examples import Examples
from tools.reference_model.questions import (
    OWN,
    ReasoningQuestion,
    Spec,
    held_out,
    question_at,
    read_spec,
)

OUT = Path(__file__).parents[2] / "src" / "suffice" / "data" / "compound_tasks.jsonl.gz"
TRAINED = 2_000_000  # examples; the training of the weights that ship took fewer
FIRST_SEED = 100_000_000  # between those of held-out and those of training questions
CLOSED, REASONING, DIALOGUES = 2840, 150, 169  # requests, questions of each family, dialogues
OPENINGS = ("hey", "please", "hello", "ok")  # put before what is asked, and
CLOSINGS = ("please", "thanks", "right now", "if you can")  # after it

Row = dict[str, object]


def main() -> None:
    """Make the three parts, and write them one after the other."""
    spec = read_spec(SPEC)
    trained = frozenset(trained_hashes(spec, range(TRAINED)))
    rows = [*closed(spec, trained), *reasoning(spec), *dialogues(trained)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    OUT.write_bytes(gzip.compress(text.encode("utf-8"), compresslevel=9, mtime=0))
    print(f"wrote {len(rows)} requests, {OUT.stat().st_size} bytes")


def trained_hashes(spec: Spec, numbers: range) -> Iterator[str]:
    """Yield the hashes of what the families made here ask under some numbers of examples.

    All of both: the shares by which a number's family is drawn were changed during training.
    """
    examples = Examples(spec, None)
    for number in numbers:
        for family in OWN:
            yield examples.question(number, family=family).hash


def closed(spec: Spec, trained: frozenset[str]) -> Iterator[Row]:
    """Draw requests to be put into a class; the class may be given bare, or as JSON."""
    drawn = (_wordy(question_at(spec, "closed_set", seed=FIRST_SEED + at), at) for at in count())
    unseen = (question for question in drawn if question.hash not in trained)
    for at, question in enumerate(islice(unseen, CLOSED)):
        row = _row(f"closed-{at:04}", group="closed_set", question=question)
        yield {**row, "target": [question.answer, question.label]}


def _wordy(question: ReasoningQuestion, number: int) -> ReasoningQuestion:
    """Put one more opening and one more closing around what a request says."""
    rng = Random(f"wordy {number}")
    asks, mark, said = question.text.partition("? ")
    text = f"{asks}{mark}{rng.choice(OPENINGS)} {said} {rng.choice(CLOSINGS)}"
    return replace(question, text=text)


def reasoning(spec: Spec) -> Iterator[Row]:
    """Take the first held-out questions of every family of reasoning-gym, in turn."""
    made = held_out(spec)
    families = [made[family][:REASONING] for family in made if family not in OWN]
    for at, question in enumerate(chain(*zip(*families, strict=True))):
        yield _row(f"{question.family}-{at:04}", group=question.family, question=question)


def dialogues(trained: frozenset[str]) -> Iterator[Row]:
    """Ask of every turn of a dialogue what the user wants now; `/` joins a stream's requests."""
    drawn = (_asked(intents.dialogue(FIRST_SEED + at)) for at in count())
    unseen = (asked for asked in drawn if not trained & {question.hash for question in asked})
    for at, asked in enumerate(islice(unseen, DIALOGUES)):
        for turn, question in enumerate(asked):
            yield _row(f"stream-{at:03}/{turn:02}", group="stream_state", question=question)


def _asked(made: tuple[tuple[str, str], ...]) -> list[ReasoningQuestion]:
    """Turn a dialogue into one question a turn."""
    return [
        ReasoningQuestion(family="stream_state", **intents.state_question(made, now))
        for now in range(len(made))
    ]


def _row(request_id: str, *, group: str, question: ReasoningQuestion) -> Row:
    return {
        "request_id": request_id,
        "group": group,
        "text": question.text,
        "target": question.answer,
        "scorer": "exact",
    }


if __name__ == "__main__":
    main()
