"""The policy for one live request: the same functions as for a table, on one row."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from msgspec import Struct

from suffice.encoders.base import Encoder
from suffice.errors import InputError
from suffice.policy.forest import RowForest
from suffice.policy.observe import observe
from suffice.policy.path import Policy, harms, play
from suffice.policy.score import before_inputs
from suffice.types import Request, Signals


class PolicyStep(Struct, frozen=True, kw_only=True):
    """What to do next: `keep` the answer of `rung`, or ask it.

    With `settled` an answer of that rung stays whatever it says, so it need not be reviewed.
    `expected_loss` is the score behind; None for the reference, whose loss is 0 by definition.
    """

    rung: str
    keep: bool
    settled: bool = False
    expected_loss: float | None = None


@dataclass(frozen=True, kw_only=True)
class Router:
    """A policy with the encoder that it was fitted with; raises `InputError` for another one."""

    policy: Policy
    encoder: Encoder

    def __post_init__(self) -> None:
        if self.encoder.fingerprint != self.policy.encoder:
            raise InputError(
                f"the policy needs encoder {self.policy.encoder}, not {self.encoder.fingerprint}",
                hint="use the encoder of the fit, or fit and certify again",
            )

    def decide(self, request: Request) -> PolicyStep:
        """Return which rung to ask first, from the text and the declared group alone."""
        policy = self.policy
        start = before_inputs(observe([request.text], [request.group], [], encoder=self.encoder))
        for at, score in enumerate(policy.scores):
            loss = self._walks[at].predict(score.before.columns(start))
            if loss <= policy.cutoffs[policy.point, at]:
                settled = score.after is None and loss <= policy.thresholds[policy.point]
                return PolicyStep(
                    rung=policy.rungs[at], keep=False, settled=bool(settled), expected_loss=loss
                )
        return PolicyStep(rung=policy.reference, keep=False, settled=True)

    def review(self, request: Request, attempts: Mapping[str, Signals]) -> PolicyStep:
        """Return what to do after some attempts, by rung: keep an answer, or ask the next rung.

        An attempt that shows nothing (`Signals()`) is judged by the text alone. Answers of rungs
        that the policy would not have asked are ignored.
        """
        policy = self.policy
        seen = observe(
            [request.text],
            [request.group],
            [[attempts[rung]] if rung in attempts else None for rung in policy.rungs[:-1]],
            encoder=self.encoder,
        )
        expected = harms(policy, seen)
        played = play(policy, expected, points=slice(policy.point, policy.point + 1))
        for at, rung in enumerate(policy.rungs):
            if not played.attempted[at, 0, 0]:
                continue
            if rung == policy.reference:
                return PolicyStep(rung=rung, keep=rung in attempts, settled=True)
            kept = bool(played.chosen[0, 0] == at)
            if rung not in attempts:
                loss = float(expected.before[0, at])
                settled = kept and policy.scores[at].after is None
                return PolicyStep(rung=rung, keep=False, settled=settled, expected_loss=loss)
            if kept:
                loss = float(expected.after[0, at])
                return PolicyStep(rung=rung, keep=True, settled=True, expected_loss=loss)
        raise AssertionError("the reference is always kept")

    @cached_property
    def _walks(self) -> tuple[RowForest, ...]:
        return tuple(RowForest(score.before.forest) for score in self.policy.scores)
