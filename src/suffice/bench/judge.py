"""A judge model for open-ended answers: its requests, and how its replies are read.

`rubric` gives a mark from 0 to 10. `pairwise` asks whether the rung's or the reference rung's
answer is better, in both orders, so that a preference for one position cancels out. A judge errs: a
certificate on its marks needs human labels of some rows (`suffice.scoring.labels`).
"""

import re

from suffice.bench.tasks import Task
from suffice.scoring.material import MATERIAL, tagged
from suffice.scoring.scorers import ScorerVerdict
from suffice.types import Request

FULL_MARK = 10
_MARK = re.compile(r"score\**\s*[:=][\s*`]*(\d+(?:\.\d+)?)", re.I)
_BETTER = re.compile(r"verdict\**\s*[:=][\s*`]*(A|B|tie)\b", re.I)
_PREFERENCE = {"a": 1.0, "tie": 0.5, "b": 0.0}

_END_MARK = (
    f"Reason briefly. End with the line `Score: N`, N from 0 (useless) to {FULL_MARK} (faultless)."
)
_END_BETTER = "Reason briefly. End with the line `Verdict: A`, `Verdict: B` or `Verdict: tie`."


def judge_requests(task: Task, *, answer: str, reference: str) -> tuple[Request, ...]:
    """Return the judge's requests: one for `rubric`, and one in each order for `pairwise`.

    `reference` is the reference rung's answer; `rubric` does not show it to the judge.
    """
    if task.scorer == "rubric":
        return (_ask(task, {"answer": answer}, end=_END_MARK),)
    return (
        _ask(task, {"answer_A": answer, "answer_B": reference}, end=_END_BETTER),
        _ask(task, {"answer_A": reference, "answer_B": answer}, end=_END_BETTER),
    )


def read_replies(replies: tuple[str, ...]) -> ScorerVerdict:
    """Turn the judge's replies, in the order of `judge_requests`, into a quality.

    A single reply holds a mark. Two replies hold preferences: a win is 1, a tie 0.5, a defeat 0.
    The quality is twice their mean, at most 1, so an answer as good as the reference's has quality
    1. A reply without a verdict leaves the answer unscored.
    """
    if len(replies) == 1:
        return _read_mark(replies[0])
    first, second = (_preference(reply) for reply in replies)
    if first is None or second is None:
        return ScorerVerdict(quality=None, reason="the judge's reply has no verdict")
    return ScorerVerdict(quality=min(1.0, first + (1.0 - second)))


def _read_mark(reply: str) -> ScorerVerdict:
    marks = _MARK.findall(reply)
    mark = float(marks[-1]) if marks else None
    if mark is None or mark > FULL_MARK:
        return ScorerVerdict(
            quality=None, reason=f"the judge's reply has no mark up to {FULL_MARK}"
        )
    return ScorerVerdict(quality=mark / FULL_MARK)


def _preference(reply: str) -> float | None:
    """Return how much the reply prefers answer A, from 0 to 1."""
    verdicts = _BETTER.findall(reply)
    return _PREFERENCE[verdicts[-1].lower()] if verdicts else None


def _ask(task: Task, answers: dict[str, str], *, end: str) -> Request:
    fields = {"request": task.request.text, "rubric": task.options.get("rubric")}
    parts = [MATERIAL, *tagged({**fields, "model_answer": task.target, **answers}), end]
    return Request(
        request_id=f"{task.request.request_id}#judge",
        messages=({"role": "user", "content": "\n\n".join(parts)},),
        group=task.request.group,
    )
