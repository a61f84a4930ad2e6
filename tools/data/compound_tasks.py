"""Write the requests of the compound workload with their right answers.

The file holds closed-set requests, reasoning questions of seven families, and dialogues in which
every turn asks for the current intent. The model was trained on none of them. Reasoning questions
are held out by their hash (`tools.reference_model.examples`). Closed-set requests have more opening
and closing words than those of training, because nearly all short ones occur there. A request of
the two families of `tools.reference_model.intents` that occurs among the first training examples
(more than any training took) is left out. The bytes are the same each time.

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
TRAINED = 2_000_000  # examples; every stage of the training of the weights that ship took fewer
FIRST_SEED = 100_000_000  # between those of held-out and those of training questions
CLOSED, REASONING, DIALOGUES = 2840, 150, 169  # requests, questions of each family, dialogues
OPENINGS = ("hey", "please", "hello", "ok")  # put before what is asked, and
CLOSINGS = ("please", "thanks", "right now", "if you can")  # after it

Row = dict[str, object]


def main() -> None:
    """Write the three parts one after the other."""
    spec = read_spec(SPEC)
    trained = frozenset(trained_hashes(spec, range(TRAINED)))
    rows = [*closed(spec, trained), *reasoning(spec), *dialogues(trained)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    OUT.write_bytes(gzip.compress(text.encode("utf-8"), compresslevel=9, mtime=0))
    print(f"wrote {len(rows)} requests, {OUT.stat().st_size} bytes")


def trained_hashes(spec: Spec, numbers: range) -> Iterator[str]:
    """Yield the hashes of the questions of both own families for these example numbers.

    Both families count for every number, because their shares were changed during training.
    """
    examples = Examples(spec, None)
    for number in numbers:
        for family in OWN:
            yield examples.question(number, family=family).hash


def closed(spec: Spec, trained: frozenset[str]) -> Iterator[Row]:
    """Yield requests to classify; the class may be given bare or as JSON."""
    questions = (
        _wordy(question_at(spec, "closed_set", seed=FIRST_SEED + at), at) for at in count()
    )
    unseen = (question for question in questions if question.hash not in trained)
    for at, question in enumerate(islice(unseen, CLOSED)):
        row = _row(f"closed-{at:04}", group="closed_set", question=question)
        yield {**row, "target": [question.answer, question.label]}


def _wordy(question: ReasoningQuestion, number: int) -> ReasoningQuestion:
    """Add one more opening and one more closing to a request."""
    rng = Random(f"wordy {number}")
    asks, mark, utterance = question.text.partition("? ")
    text = f"{asks}{mark}{rng.choice(OPENINGS)} {utterance} {rng.choice(CLOSINGS)}"
    return replace(question, text=text)


def reasoning(spec: Spec) -> Iterator[Row]:
    """Yield the first held-out questions of the families of reasoning-gym, in turn.

    The harder families came after the workload was fixed, and are not among them.
    """
    left_out = {*OWN, *spec.harder}
    families = [
        made[:REASONING] for family, made in held_out(spec).items() if family not in left_out
    ]
    for at, question in enumerate(chain(*zip(*families, strict=True))):
        yield _row(f"{question.family}-{at:04}", group=question.family, question=question)


def dialogues(trained: frozenset[str]) -> Iterator[Row]:
    """Yield a question for every turn of a dialogue; a request id is `stream/turn`."""
    streams = (_questions(intents.dialogue(FIRST_SEED + at)) for at in count())
    unseen = (stream for stream in streams if not trained & {q.hash for q in stream})
    for at, questions in enumerate(islice(unseen, DIALOGUES)):
        for turn, question in enumerate(questions):
            yield _row(f"stream-{at:03}/{turn:02}", group="stream_state", question=question)


def _questions(turns: tuple[tuple[str, str], ...]) -> list[ReasoningQuestion]:
    """Return one question for every turn of a dialogue."""
    return [
        ReasoningQuestion(family="stream_state", **intents.state_question(turns, turn))
        for turn in range(len(turns))
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
