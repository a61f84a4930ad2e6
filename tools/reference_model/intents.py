"""Two families of questions: the intent of a request, and the current wish in a dialogue.

Utterances are composed of parts, so that there are many and few repeat.
"""

from random import Random
from typing import Any

from msgspec import Struct

OUT_OF_SCOPE = "out_of_scope"
_TIMES = ("at {h}", "at {h} today", "tomorrow at {h}", "on {d}", "on {d} at {h}", "in {n} minutes")
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_OPENINGS = ("", "", "please ", "can you ", "could you please ", "i want to ", "i need to ", "hey ")
_CLOSINGS = ("", "", "", " please", " right now", " if you can", " thanks")


class Intent(Struct, frozen=True, kw_only=True):
    """The phrases of an intent: `asks` state it, `goes_on` continue it without naming it.

    In `asks`, `{x}` is drawn from `things`.
    """

    asks: tuple[str, ...]
    things: tuple[str, ...]
    goes_on: tuple[str, ...]


INTENTS: dict[str, Intent] = {
    "play_music": Intent(
        asks=("play {x}", "put on {x}", "start playing {x}", "listen to {x}"),
        things=("some jazz", "a rock song", "the new album", "my playlist", "piano music"),
        goes_on=("a bit louder", "skip this one", "the next song", "something slower"),
    ),
    "set_alarm": Intent(
        asks=("set an alarm {t}", "wake me up {t}", "ring the alarm {t}", "be woken {t}"),
        things=("",),
        goes_on=("make it an hour later", "and again on {d}", "with a soft sound", "snooze it"),
    ),
    "weather": Intent(
        asks=("know the weather {x}", "hear the forecast {x}", "see if it rains {x}"),
        things=("today", "tomorrow", "in the mountains", "on the coast", "this weekend"),
        goes_on=("will it be windy", "how cold at night", "do i need an umbrella"),
    ),
    "book_table": Intent(
        asks=("book a table {x} {t}", "reserve a table {x}", "get a table {x} {t}"),
        things=("for two", "for four people", "by the window", "at the italian place"),
        goes_on=("make it for six", "do they have a terrace", "a quiet corner would be nice"),
    ),
    "order_taxi": Intent(
        asks=("order a taxi {x}", "call a cab {x} {t}", "get a ride {x}"),
        things=("to the airport", "to the station", "home", "to the hotel"),
        goes_on=("with room for luggage", "how long until it comes", "what is the fare"),
    ),
    "send_money": Intent(
        asks=("send {n} dollars {x}", "transfer {n} euros {x}", "pay {n} pounds {x}"),
        things=("to my sister", "to the landlord", "to my savings", "to a friend"),
        goes_on=("from the other account", "make it twice as much", "what is the fee"),
    ),
    "check_balance": Intent(
        asks=("check the balance {x}", "see how much money is {x}", "show the balance {x}"),
        things=("on my account", "in savings", "on the credit card"),
        goes_on=("and the last payments", "was my salary paid", "what about yesterday"),
    ),
    "lock_card": Intent(
        asks=("lock my card {x}", "block the card {x}", "freeze my card {x}"),
        things=("", "because i lost it", "since it was stolen", "for now"),
        goes_on=("and send a new one", "how long does it take", "is it really blocked"),
    ),
    "lights": Intent(
        asks=("turn on the lights {x}", "switch off the lamp {x}", "dim the lights {x}"),
        things=("in the kitchen", "in the bedroom", "upstairs", "in the hall"),
        goes_on=("a little brighter", "and the other room too", "make them warmer"),
    ),
    "translate": Intent(
        asks=("translate {x}", "say {x} in french", "know {x} in spanish"),
        things=("good morning", "thank you", "where is the train", "how much is it"),
        goes_on=("how do you pronounce it", "a more polite way", "and in italian"),
    ),
    "shopping_list": Intent(
        asks=("add {x} to the shopping list", "put {x} on my list", "note {x} for shopping"),
        things=("milk", "eggs", "bread and butter", "two lemons", "coffee"),
        goes_on=("and some apples", "take that off again", "what is on it so far"),
    ),
    "track_parcel": Intent(
        asks=("track my parcel {x}", "find out where my package is {x}", "follow the delivery {x}"),
        things=("", "from last week", "with the shoes", "number {n}"),
        goes_on=("can it come later", "leave it with a neighbour", "who signed for it"),
    ),
}

_ELSEWHERE = (
    "tell me a joke about {x}",
    "who invented {x}",
    "write a poem about {x}",
    "how tall is {x}",
    "what is the meaning of {x}",
    "explain {x} to a child",
    "how old is {x}",
    "draw {x}",
)
_TOPICS = (
    "the moon",
    "bicycles",
    "a mountain",
    "the ocean",
    "tea",
    "chess",
    "glass",
    "the old bridge",
    "snow",
    "a violin",
    "dinosaurs",
    "gravity",
    "paper",
    "volcanoes",
)


def closed_set(seed: int) -> dict[str, Any]:
    """Return one request to classify; one in five is out of scope."""
    rng = Random(f"closed {seed}")
    label = OUT_OF_SCOPE if rng.random() < 0.2 else rng.choice(tuple(INTENTS))
    utterance, clue = _utterance(label, rng)
    text = f"Which intent is this request? {utterance}"
    return {"text": text, "answer": f'{{"intent": "{label}"}}', "clue": clue, "label": label}


def dialogue(seed: int, *, count: int = 12) -> tuple[tuple[str, str], ...]:
    """Return the turns of a dialogue: what the user says, and the intent at that turn."""
    rng = Random(f"dialogue {seed}")
    label, turns = "", []
    for _ in range(count):
        if not label or rng.random() < 0.25:
            label = rng.choice([other for other in INTENTS if other != label])
            utterance, _ = _utterance(label, rng)
        else:
            utterance = _filled(rng.choice(INTENTS[label].goes_on), rng)
        turns.append((utterance, label))
    return tuple(turns)


def stream_state(seed: int) -> dict[str, Any]:
    """Return a question about the current intent in a dialogue, given its last six turns."""
    rng = Random(f"stream {seed}")
    turns = dialogue(seed)
    turn = rng.randrange(1, len(turns))
    return state_question(turns, turn)


def state_question(turns: tuple[tuple[str, str], ...], turn: int) -> dict[str, Any]:
    """Ask for the intent at a turn (from 0); the clue is the turn that stated it."""
    first = max(0, turn - 5)
    label = turns[turn][1]
    start = turn
    while start > first and turns[start - 1][1] == label:
        start -= 1
    transcript = "\n".join(f"* {utterance}" for utterance, _ in turns[first : turn + 1])
    text = f"What does the user want now?\n{transcript}"
    return {"text": text, "answer": label, "clue": turns[start][0], "label": label}


def _utterance(label: str, rng: Random) -> tuple[str, str]:
    """Return an utterance for a label, and the part of it that states the label."""
    if label == OUT_OF_SCOPE:
        clue = rng.choice(_ELSEWHERE).replace("{x}", rng.choice(_TOPICS))
    else:
        intent = INTENTS[label]
        clue = rng.choice(intent.asks).replace("{x}", rng.choice(intent.things))
    clue = " ".join(_filled(clue, rng).split())
    return f"{rng.choice(_OPENINGS)}{clue}{rng.choice(_CLOSINGS)}", clue


def _filled(text: str, rng: Random) -> str:
    text = text.replace("{t}", rng.choice(_TIMES))
    text = text.replace("{h}", f"{rng.randint(1, 12)} {rng.choice(('am', 'pm'))}")
    return text.replace("{d}", rng.choice(_DAYS)).replace("{n}", str(rng.randint(2, 90)))


def words() -> frozenset[str]:
    """Return the words of all utterances."""
    phrases = [*_OPENINGS, *_CLOSINGS, *_ELSEWHERE, *_TOPICS, *_TIMES, *_DAYS]
    for intent in INTENTS.values():
        phrases += [*intent.asks, *intent.things, *intent.goes_on]
    return frozenset(word.strip(",") for phrase in phrases for word in phrase.split())
