"""Write the state changes that `suffice latent choose` ships: two states and four actions each.

Each question has the right action, one that was done before (in both states its result shows), one
that is still to do (in neither), and one that suits the changed thing and did not happen. So one
state alone leaves two actions open. An action has other words than the states that it joins.

python -m tools.data.transitions
"""

import gzip
import json
from pathlib import Path
from random import Random
from typing import NamedTuple

QUESTIONS, SEED = 960, 7
OUT = Path(__file__).parents[2] / "src" / "suffice" / "data" / "transitions.jsonl.gz"


class Change(NamedTuple):
    """What an action does: the state before it and after it, and two wordings of the action."""

    before: str
    after: str
    actions: tuple[str, str]


class Place(NamedTuple):
    """A place of work: its things, and the changes that all of them can undergo."""

    things: str
    changes: tuple[Change, ...]


PLACES = {
    "kitchen": Place(
        "onion carrot potato tomato pepper mushroom apple pear cabbage leek beetroot pumpkin",
        (
            Change("a whole {}", "small cubes of {}", ("chop up the {}", "dice the {} by knife")),
            Change("a muddy {}", "a clean {}", ("rinse the {}", "wash the {} at the tap")),
            Change("a {} with its skin", "a bare {}", ("peel the {}", "take the peel off the {}")),
            Change("a raw {}", "a brown crisp {}", ("fry the {}", "roast the {} in hot oil")),
            Change("a warm {}", "a hard icy {}", ("freeze the {}", "put the {} in the freezer")),
            Change("a plain {}", "a {} with white grains", ("salt the {}", "season the {}")),
        ),
    ),
    "workshop": Place(
        "chair table shelf door bench stool cupboard drawer ladder crate frame desk",
        (
            Change("a rough {}", "a smooth {}", ("sand the {}", "rub the {} with sandpaper")),
            Change("a grey {}", "a bright red {}", ("paint the {}", "brush colour on the {}")),
            Change("a solid {}", "a {} with a hole", ("drill into the {}", "bore through the {}")),
            Change("a loose {}", "a firm {}", ("screw the {} tight", "fasten the {} with bolts")),
            Change("a long {}", "a short {}", ("saw the {}", "cut the end off the {}")),
            Change("a broken {}", "an intact {}", ("glue the {}", "mend the {} with glue")),
        ),
    ),
    "laundry": Place(
        "shirt towel sheet dress coat jumper sock scarf curtain apron blanket glove",
        (
            Change("a creased {}", "a flat {}", ("iron the {}", "press the {} with a hot iron")),
            Change("a wet {}", "a dry {}", ("hang up the {}", "put the {} in the dryer")),
            Change("a stained {}", "a spotless {}", ("launder the {}", "wash the {} with soap")),
            Change("a torn {}", "a whole {}", ("sew the {}", "stitch the {} with thread")),
            Change("a white {}", "a deep blue {}", ("dye the {}", "soak the {} in dye")),
            Change("a spread {}", "a small square {}", ("fold the {}", "lay the {} together")),
        ),
    ),
    "garden": Place(
        "rose tulip lawn hedge fern lemon vine cactus basil maple lily clover",
        (
            Change("a {} in dusty soil", "a {} in moist soil", ("water the {}", "sprinkle the {}")),
            Change("an overgrown {}", "a neat {}", ("prune the {}", "trim the {} with shears")),
            Change("a {} among weeds", "a {} in clear soil", ("weed the {}", "hoe round the {}")),
            Change("a {} in a pot", "a {} in the ground", ("plant out the {}", "dig in the {}")),
            Change("a {} in the open", "a {} under straw", ("mulch the {}", "cover up the {}")),
            Change("a {} of pale leaves", "a lush {}", ("fertilise the {}", "feed the {}")),
        ),
    ),
    "office": Place(
        "report letter form contract invoice poster leaflet manual plan map photo ticket",
        (
            Change("a blank {}", "a {} with text", ("print the {}", "type out the {}")),
            Change("an unsigned {}", "a {} with a name", ("sign the {}", "put a pen to the {}")),
            Change("a {} in loose pages", "a bound {}", ("staple the {}", "clip the {} together")),
            Change("a {} on the desk", "a {} in a folder", ("file the {}", "store the {} away")),
            Change("one {}", "two equal {} sheets", ("copy the {}", "duplicate the {}")),
            Change("a {} in one piece", "thin strips of {}", ("shred the {}", "destroy the {}")),
        ),
    ),
}


def main() -> None:
    """Draw the questions and write them; the bytes are the same each time."""
    random = Random(SEED)
    rows = [_row(random, number) for number in range(QUESTIONS)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    OUT.write_bytes(gzip.compress(text.encode("utf-8"), compresslevel=9, mtime=0))
    print(f"wrote {len(rows)} questions, {OUT.stat().st_size} bytes")


def _row(random: Random, number: int) -> dict[str, object]:
    name = list(PLACES)[number % len(PLACES)]
    things, changes = PLACES[name].things.split(), PLACES[name].changes
    changed, finished, waiting = random.sample(things, 3)
    happened, past, future, other = random.sample(range(len(changes)), 4)
    twin = random.choice(("past", "future", None, None))
    past = happened if twin == "past" else past
    future = happened if twin == "future" else future
    constant = [
        changes[past].after.format(finished),
        changes[future].before.format(waiting),
    ]
    states = []
    for phrase in (changes[happened].before, changes[happened].after):
        parts = [phrase.format(changed), *constant]
        random.shuffle(parts)
        states.append(f"{parts[0]}, {parts[1]} and {parts[2]}")
    actions = [
        random.choice(changes[change].actions).format(thing)
        for change, thing in (
            (happened, changed),
            (past, finished),
            (future, waiting),
            (other, changed),
        )
    ]
    right = actions[0]
    random.shuffle(actions)
    return {
        "id": f"{name}-{number}",
        "source": name,
        "cluster": f"{name}/{changed}",
        "before": states[0],
        "after": states[1],
        "actions": actions,
        "answer": actions.index(right),
    }


if __name__ == "__main__":
    main()
