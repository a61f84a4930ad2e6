"""The process in which answers meet a pattern, a schema or the operator's own function.

It may hang, crash or run out of memory without harm to the gateway, which kills it and starts
another. Lines of JSON go in, a line each comes out; what the function prints goes nowhere.
"""

import os
import sys
from typing import Any

import msgspec
from msgspec import Struct

from suffice.scoring.scorers import mark
from suffice.types import JSON


class ChildTask(Struct, frozen=True, kw_only=True):
    """The first line: how answers are marked."""

    scorer: str
    target: Any = None


class ChildQuestion(Struct, frozen=True, kw_only=True):
    """Any further line: one answer, and what a function may know of its request."""

    answer: str
    options: JSON = {}


def main() -> None:
    """Read the task, then answer questions until the input ends."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    lines = sys.stdin.buffer
    task = msgspec.json.decode(lines.readline(), type=ChildTask)
    for line in lines:
        question = msgspec.json.decode(line, type=ChildQuestion)
        verdict = mark(
            question.answer, scorer=task.scorer, target=task.target, options=question.options
        )
        replies.write(msgspec.json.encode(verdict) + b"\n")


if __name__ == "__main__":
    main()
