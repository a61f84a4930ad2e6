"""What becomes of an effort that a client asks for: most rungs, and the policy, have their own."""

from typing import Any, Literal

from suffice.errors import EffortRefused
from suffice.gateway.problems import Problem
from suffice.ladder import efforts_of
from suffice.types import Effort, Rung

FIELD = "reasoning_effort"
AUTO = "auto"
EffortRule = Literal["limit", "refuse", "ignore"]


def effort_for(effort: Any, rung: Rung | None, *, rule: EffortRule) -> str | None:
    """Return the effort that a rung is asked for; None where what the client asks has no effect.

    As a `limit` an effort is the most that a client cares to pay for: the policy, and a rung with
    an effort of its own, keep to theirs; a model that does not take it gets the next lower one that
    it takes. `refuse` raises Problem or EffortRefused there; `ignore` never asks for any.
    """
    if rule == "ignore":
        return None
    if effort not in list(Effort):
        raise Problem(
            f"reasoning_effort {effort!r} is none",
            status=400,
            param=FIELD,
            hint=f"efforts: auto, {', '.join(Effort)}",
        )
    refusal = _refusal(effort, rung)
    if refusal is not None:
        if rule == "refuse":
            raise refusal
        return None
    assert rung is not None
    if rung.effort is not None:
        return str(effort)
    known = efforts_of(rung.model)
    if known is None or effort in known.efforts:
        return str(effort)
    if rule == "refuse":
        raise EffortRefused(
            f"{known.name} does not take the effort {effort!r}",
            hint=f"choose one of: {', '.join(known.efforts)}",
        )
    order = list(Effort)
    lower = [e for e in known.efforts if order.index(e) < order.index(Effort(effort))]
    return max(lower, key=order.index).value if lower else None


def _refusal(effort: Any, rung: Rung | None) -> Problem | None:
    """Return the Problem of an effort that would be lost; None where it can be had."""
    if rung is None:
        return Problem(
            f"reasoning_effort {effort!r} and the policy ask for two things at once",
            status=400,
            param=FIELD,
            hint='leave it out or write "auto", or ask for a rung by name',
        )
    if rung.effort not in (None, effort):
        return Problem(
            f"rung {rung.name!r} works at effort {rung.effort!r}, not {effort!r}",
            status=400,
            param=FIELD,
            hint="leave it out, or ask for a rung of that effort",
        )
    return None
