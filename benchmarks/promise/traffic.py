"""Traffic whose risk is known: requests that are more or less hard, and what rungs make of them.

The reference is always right. The cheap rung is wrong with a chance that depends on the hardness
alone, and everything that a policy may read is drawn from the hardness alone, so the risk of a
policy is the mean chance of a wrong answer over the requests whose cheap answer it keeps.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from scipy.optimize import brentq

from suffice.encoders.base import default_encoder
from suffice.ledger import Attempt, Entry, Label, Role, Score, Status
from suffice.policy import Observations, Policy, harms, observe_table, play
from suffice.trials.tabulate import tabulate
from suffice.types import Charge, Finish, Signals, Trial, TrialStatus

CHEAP, REFERENCE = "small", "big"
USD = {CHEAP: Decimal("0.001"), REFERENCE: Decimal("0.01")}
WORST = 0.5  # chance of a wrong cheap answer to the hardest request
FRESH = 3000  # requests over which the risk of a policy is taken
WORDS = (
    "sum of two small numbers",
    "name of a capital city",
    "spelling of a common word",
    "order of these five dates",
    "area under a simple curve",
    "flaw in a short argument",
    "next move in a chess game",
    "proof of an odd inequality",
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class RequestSample:
    """Some requests, arrays of shape (requests,): how hard each is, and what shows of it.

    `hardness` is in [0, 1], `words` numbers the kind of question, `logprobs` are the cheap rung's,
    and `numbers` tell texts and answers apart.
    """

    hardness: Floats
    words: Ints
    logprobs: Floats
    numbers: Ints

    def __len__(self) -> int:
        return len(self.hardness)

    def chances(self, *, worst: float = WORST) -> Floats:
        """Return the chance of a wrong cheap answer, shape (requests,)."""
        return np.minimum(1.0, worst * self.hardness**3)

    def text(self, at: int) -> str:
        """Return what request `at` asks; no two requests ask the same."""
        return f"Case {self.numbers[at]}: give the {WORDS[int(self.words[at])]}."

    def signals(self, at: int) -> Signals:
        """Return what the cheap rung answers to request `at`."""
        return Signals(
            answer=f"It is {self.numbers[at]}.",
            finish=Finish.STOP,
            mean_logprob=float(self.logprobs[at]),
        )


def draw_requests(rng: np.random.Generator, requests: int) -> RequestSample:
    """Draw requests whose hardness shows, with noise, in their words and the log-probabilities."""
    hardness = rng.random(requests)
    shown = np.clip(hardness + 0.15 * rng.standard_normal(requests), 0.0, 1.0 - 1e-9)
    return RequestSample(
        hardness=hardness,
        words=(shown * len(WORDS)).astype(np.int64),
        logprobs=-0.1 - hardness - 0.3 * rng.random(requests),
        numbers=rng.integers(10**12, size=requests),
    )


def draw_wrong(
    rng: np.random.Generator,
    sample: RequestSample,
    *,
    worst: float = WORST,
    session: int = 1,
    correlation: float = 0.0,
) -> Flags:
    """Draw which cheap answers are wrong; a share `correlation` of sessions has one fate for all.

    `session` successive requests are one. The chance of each request stays that of its hardness.
    """
    own, sessions = rng.random(len(sample)), -(-len(sample) // session)
    fate = np.repeat(rng.random(sessions), session)[: len(sample)]
    together = np.repeat(rng.random(sessions) < correlation, session)[: len(sample)]
    return np.asarray(np.where(together, fate, own) < sample.chances(worst=worst))


def trials_of(
    sample: RequestSample, wrong: Flags, *, session: int = 1, copies: int = 1
) -> Iterator[Trial]:
    """Yield the scored trials of both rungs; `copies` repeats a request with all that came of it.

    Several requests of a `session` are one declared cluster.
    """
    for at in range(len(sample)):
        for copy in range(copies):
            for rung, quality in ((CHEAP, 1.0 - wrong[at]), (REFERENCE, 1.0)):
                seen = sample.signals(at) if rung == CHEAP else Signals(answer="It is so.")
                yield Trial(
                    request_id=f"r{sample.numbers[at]}-{copy}",
                    rung=rung,
                    status=TrialStatus.SCORED,
                    text=sample.text(at),
                    quality=float(quality),
                    scorer="exact",
                    charge_usd=USD[rung],
                    cluster=f"s{sample.numbers[at - at % session]}" if session > 1 else None,
                    answer=seen.answer,
                    finish=Finish.STOP,
                    mean_logprob=seen.mean_logprob,
                )


def observed(sample: RequestSample) -> Observations:
    """Return what a policy may look at."""
    table = tabulate(trials_of(sample, np.zeros(len(sample), np.bool_)))
    return observe_table(table, reference=REFERENCE, encoder=default_encoder())


def kept_cheap(policy: Policy, seen: Observations) -> Flags:
    """Mark the requests whose cheap answer a policy keeps, shape (requests,)."""
    here = slice(policy.point, policy.point + 1)
    chosen = play(policy, harms(policy, seen), points=here).chosen[:, 0]
    return np.asarray(chosen < len(policy.rungs) - 1)


def true_risk(policy: Policy, *, worst: float = WORST) -> float:
    """Return the risk of a policy over fresh requests, in expectation over the cheap answers."""
    sample, seen = fresh_requests()
    whole = replace(policy, path=policy.path.whole())
    return policy.part * float((kept_cheap(whole, seen) * sample.chances(worst=worst)).mean())


@cache
def fresh_requests() -> tuple[RequestSample, Observations]:
    """Draw the fresh requests, once in a process: no certificate has seen them."""
    sample = draw_requests(np.random.default_rng(99), FRESH)
    return sample, observed(sample)


def worst_for(policy: Policy, risk: float) -> float:
    """Return the chance of a wrong answer to the hardest request that gives a policy this risk."""
    return float(brentq(lambda worst: true_risk(policy, worst=worst) - risk, 0.0, 50.0, xtol=1e-3))


def entry_of(sample: RequestSample, at: int, *, cheap: bool, time: datetime) -> Entry:
    """Return the books of an audited request: who answered, and what the other rung said."""
    role = {True: Role.ANSWER, False: Role.AUDIT}
    seen = sample.signals(at)
    return Entry(
        request_id=f"r{sample.numbers[at]}",
        time=time,
        status=Status.OK,
        reference_rung=REFERENCE,
        rung=CHEAP if cheap else REFERENCE,
        audited=True,
        text=sample.text(at),
        attempts=tuple(
            Attempt(
                rung=rung,
                role=role[cheap == (rung == CHEAP)],
                charge=Charge(usd=USD[rung]),
                time=time,
                answer=answer,
                finish=Finish.STOP,
                mean_logprob=seen.mean_logprob if rung == CHEAP else None,
            )
            for rung, answer in ((CHEAP, seen.answer), (REFERENCE, "It is so."))
        ),
    )


def marks_of(entry: Entry, *, wrong: bool, label: Label) -> tuple[Score, ...]:
    """Return the marks of both rungs' answers, given a second after the request."""
    at = entry.time + timedelta(seconds=1)
    return tuple(
        Score(request_id=entry.request_id, time=at, label=label, rung=rung, quality=quality)
        for rung, quality in ((CHEAP, float(not wrong)), (REFERENCE, 1.0))
    )
