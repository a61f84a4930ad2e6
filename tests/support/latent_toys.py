"""A toy language for the latent tests: three intents, a word encoder, quick to fit."""

from collections.abc import Sequence
from hashlib import sha256

import numpy as np

from suffice.encoders.base import Vectors
from suffice.latent.fitting import LabelledTexts
from suffice.selective.change import Turn
from suffice.types import Finish, Trial, TrialStatus

INTENTS = {
    "card_lost": ["lost", "stolen", "missing", "card", "block"],
    "check_balance": ["balance", "much", "money", "account", "left"],
    "send_money": ["send", "transfer", "pay", "friend", "euros"],
}
NOISE = ["please", "the", "my", "can", "you", "now", "today", "hello"]
STRANGE = ["weather", "recipe", "football", "poem", "volcano", "guitar"]


class WordEncoder:
    """The mean of a fixed random vector for each word; zeros for a text with no word it knows."""

    fingerprint = "toy-words:1"
    dim = 32

    def embed(self, texts: Sequence[str]) -> Vectors:
        return np.stack([self._one(text) for text in texts])

    def _one(self, text: str) -> Vectors:
        words = [word for word in text.replace("_", " ").split() if word.isascii()]
        if not words:
            return np.zeros(self.dim, np.float32)
        mean = np.mean([_word(word) for word in words], axis=0)
        return (mean / np.linalg.norm(mean)).astype(np.float32)


def rows(count: int, *, seed: int, strange: float = 0.0) -> LabelledTexts:
    """Return prompts with their intents; a share of them strange, with no answer."""
    rng = np.random.default_rng(seed)
    texts, answers = [], []
    for _ in range(count):
        answer = None if rng.random() < strange else str(rng.choice(list(INTENTS)))
        words = STRANGE if answer is None else INTENTS[answer]
        picked = [*rng.choice(words, 2), *rng.choice(NOISE, 2)]
        rng.shuffle(picked)
        texts.append(" ".join(picked))
        answers.append(answer)
    return LabelledTexts(texts=texts, answers=answers)


def _word(word: str) -> Vectors:
    seed = int.from_bytes(sha256(word.encode()).digest()[:4], "little")
    vector = np.random.default_rng(seed).standard_normal(WordEncoder.dim)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


WORDS = {
    "hotel:search": ["find me a hotel", "is there a cheaper one", "which hotels are central"],
    "hotel:book": ["book it please", "reserve the room", "take it for two nights"],
    "taxi:order": ["i need a taxi", "get me a cab", "send a car now"],
}


def stream(seed: int, *, segments: int = 12) -> list[Turn]:
    rng = np.random.default_rng(seed)
    turns: list[Turn] = []
    answer = ""
    for _ in range(segments):
        answer = str(rng.choice([a for a in WORDS if a != answer]))
        said = rng.choice(WORDS[answer], int(rng.integers(2, 6)))
        turns.extend(Turn(text=str(text), context="ok", answer=answer) for text in said)
    return turns


def asked(text: str) -> str:
    return f"Which intent is this?\n{text}\nAnswer with its name."


def trials(
    count: int, *, seed: int = 1, group: str | None = "bank", strange: float = 0.1
) -> list[Trial]:
    """The reference names the intent as JSON, and chats about whatever is strange."""
    made = rows(count, seed=seed, strange=strange)
    pairs = zip(made.texts, made.answers, strict=True)
    return [
        Trial(
            request_id=f"{group}-{i}",
            rung="big",
            status=TrialStatus.UNSCORED,
            text=asked(text),
            group=group,
            answer=f"I cannot say, case {i}." if answer is None else f'{{"intent": "{answer}"}}',
            finish=Finish.STOP,
        )
        for i, (text, answer) in enumerate(pairs)
    ]
