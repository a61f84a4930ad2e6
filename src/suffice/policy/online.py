"""The policy for one live request: the same functions as for a table, on one row."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from msgspec import Struct

from suffice.encoders.base import Encoder
from suffice.errors import InputError
from suffice.policy.forest import RowForest
from suffice.policy.observe import Observations, draw, observe
from suffice.policy.path import LEAST_COST, Policy, harms, play
from suffice.policy.score import before_inputs
from suffice.types import Request, Signals


class PolicyStep(Struct, frozen=True, kw_only=True):
    """What to do next: `keep` the answer of `rung`, or ask it.

    With `settled` an answer of that rung stays whatever it says, so it need not be reviewed.
    `expected_loss` is the score behind; None where none was needed, and for the reference, whose
    loss is 0 by definition.
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
        """Return which rung to ask first, from the text and the declared group alone.

        Where the policy applies to a random part of the requests, the id draws them. The text is
        read only if a score is needed.
        """
        policy, path = self.policy, self.policy.path
        if draw(request.request_id) < policy.part:
            first = int(path.starts[policy.point, int(path.places((request.group,))[0])])
            start = None
            for at in range(first, len(policy.scores)):
                dearest, expected = path.attempts[policy.point, at], None
                if dearest == -np.inf:
                    continue
                if dearest < np.inf:
                    start = start or before_inputs(self._observed(request, {}))
                    score = policy.scores[at].before
                    raw = self._walks[at].predict(score.columns(start))
                    loss, saved, _ = score.calibrated(raw)[0].tolist()
                    expected = loss
                    if saved <= LEAST_COST or loss / saved**path.cost_power > dearest:
                        continue
                return PolicyStep(
                    rung=policy.rungs[at],
                    keep=False,
                    settled=policy.settles(at),
                    expected_loss=expected,
                )
        return PolicyStep(rung=policy.reference, keep=False, settled=True)

    def review(self, request: Request, attempts: Mapping[str, Signals]) -> PolicyStep:
        """Return what to do after some attempts, by rung: keep an answer, or ask the next rung.

        An attempt that shows nothing (`Signals()`) is judged by the text alone. Answers of rungs
        that the policy would not have asked are ignored.
        """
        policy = self.policy
        expected = harms(policy, self._observed(request, attempts))
        played = play(policy, expected, points=slice(policy.point, policy.point + 1))
        attempted = played.attempted[:, 0, 0].tolist()
        for at, rung in enumerate(policy.rungs[:-1]):
            unread = bool(policy.path.keeps[policy.point, at] == np.inf)
            if not attempted[at]:
                continue
            if rung not in attempts:
                always = policy.path.attempts[policy.point, at] == np.inf
                loss = None if always else float(expected.before[0, at])
                return PolicyStep(
                    rung=rung, keep=False, settled=policy.settles(at), expected_loss=loss
                )
            if played.chosen[0, 0] == at:
                loss = None if unread else float(expected.after[0, at])
                return PolicyStep(rung=rung, keep=True, settled=True, expected_loss=loss)
        return PolicyStep(rung=policy.reference, keep=policy.reference in attempts, settled=True)

    def _observed(self, request: Request, attempts: Mapping[str, Signals]) -> Observations:
        return observe(
            [request.text],
            [request.group],
            [[attempts[r]] if r in attempts else None for r in self.policy.rungs[:-1]],
            request_ids=[request.request_id],
            encoder=self.encoder,
            checked=self.policy.checked,
        )

    @cached_property
    def _walks(self) -> tuple[RowForest, ...]:
        return tuple(RowForest(score.before.forest) for score in self.policy.scores)
