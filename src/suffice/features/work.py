"""Numbers that describe the reasoning an attempt showed: its steps, and how they bear the answer.

A wrong step, a number of the prompt that was never used, a quotation copied badly or a result that
is not the answer: each can be seen in the work itself, without knowing what is right.
"""

import math
import re

from suffice.features.arithmetic import Statement, close, numbers, statements
from suffice.features.text import Prompt, signed

LONGEST_WORK = 20_000  # characters that are looked at, from the end
LONGEST_CHECKED = 4_000  # of those, whose equalities are evaluated: some milliseconds at most
_MOST_NUMBERS = 200
_SHORTEST_QUOTE = 3

_QUOTED = re.compile(r'["“]([^"“”]+)["”]')
_DIGITS = re.compile(r"\d+")
_DOUBTS = re.compile(
    r"\b(?:wait|actually|but|however|hmm|recheck|mistake|wrong|instead|maybe|perhaps|unsure)\b",
    re.IGNORECASE,
)


def work_features(
    prompt: Prompt, work: str | None, *, final: str, value: float | None
) -> dict[str, float]:
    """Describe the reasoning behind a final answer and its number, None where it is not one.

    All are 0 where no reasoning was shown.
    """
    work = (work or "")[-LONGEST_WORK:].strip()
    lines = [line for line in work.splitlines() if line.strip()]
    steps = statements(_end(work, LONGEST_CHECKED))
    wrong = sum(not statement.holds for statement in steps)
    return {
        "work_chars": math.log1p(len(work)),
        "work_steps": math.log1p(len(steps)),
        "work_wrong": float(wrong),
        "work_wrong_share": wrong / max(1, len(steps)),
        "work_result": _result(steps, value),
        "work_ends_so": signed(final in lines[-1].lower() if lines and final else None),
        "work_unused_share": _unused(prompt, work),
        "work_quotes": _quotes(prompt, work),
        "work_repeats": (len(lines) - len(set(lines))) / max(1, len(lines)),
        "work_doubts": math.log1p(len(_DOUBTS.findall(work))),
    }


def _end(text: str, most: int) -> str:
    """Return the end of a text from a new line on: half an equality would be a false one."""
    if len(text) <= most:
        return text
    cut = text[-most:]
    return cut.partition("\n")[2] or cut.partition(" ")[2]


def _result(steps: tuple[Statement, ...], value: float | None) -> float:
    """Say whether the last step arrives at the answer."""
    return signed(close(value, steps[-1].claimed) if steps and value is not None else None)


def _unused(prompt: Prompt, work: str) -> float:
    """Return the share of the prompt's numbers that the work never writes down."""
    in_prompt = numbers(prompt.body)[:_MOST_NUMBERS] if work else []
    in_work = set(numbers(work)[:_MOST_NUMBERS])
    return sum(value not in in_work for value in in_prompt) / max(1, len(in_prompt))


def _quotes(prompt: Prompt, work: str) -> float:
    """Say whether the work copies the longest quotation of the prompt; digits count for nothing.

    Digits are left out on both sides, because work often numbers what it copies.
    """
    longest = max(_QUOTED.findall(prompt.text), key=len, default="") if work else ""
    if len(longest) < _SHORTEST_QUOTE:
        return 0.0
    return signed(_bare(longest) in _bare(work))


def _bare(text: str) -> str:
    return " ".join(_DIGITS.sub("", text).lower().split())
