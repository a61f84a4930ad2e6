"""The values of a report on trials; other modules draw and write them."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

import numpy as np
from msgspec import Struct

from suffice.errors import InputError
from suffice.ledger import Flow
from suffice.trials.frontier import Frontier
from suffice.types import CountSource, Trial, TrialStatus

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class BaselineFigures(Struct, frozen=True, kw_only=True):
    """Risk and saving of another way of choosing rungs on the same requests; None if unknown."""

    risk: float | None = None
    saving: float | None = None


class CertifyVerdict(Struct, frozen=True, kw_only=True):
    """The result of certifying, under the names of `suffice certify --json`.

    `risk_kind` is counted `per` request or session, over independent `clusters`. `share` is by
    rung. `saving` is a share of the reference's cost, with discarded attempts paid. `lapses_at` and
    `limits` are those of the certificate, if there is one. `use_as_reference` is a cheaper rung
    that is certified for every request. `about_saving` says what the saving leaves out or rests on.
    """

    certified: bool
    alpha: float
    delta: float
    n: int
    losses: float
    bound: float
    risk_kind: str
    share: dict[str, float]
    per: str = "request"
    clusters: int | None = None
    risk: float | None = None
    saving: float | None = None
    saving_interval: tuple[float, float] | None = None
    about_saving: tuple[str, ...] = ()
    seed: int | None = None
    quality: float | None = None
    reference_quality: float | None = None
    baselines: dict[str, BaselineFigures] = {}
    use_as_reference: str | None = None
    certificate_id: str | None = None
    label_source: str | None = None
    lapses_at: datetime | None = None
    limits: tuple[str, ...] = ()


class Side(Struct, frozen=True, kw_only=True):
    """One side of the cost identity: requests times decodes times tokens times dollars.

    Dollars per token include the cost of reading the prompt. A factor is None if it is unknown.
    """

    name: str
    requests: int
    decodes_per_request: float
    tokens_per_decode: float | None
    usd_per_token: float | None

    @property
    def usd_per_request(self) -> float | None:
        """The product of the three factors."""
        if self.tokens_per_decode is None or self.usd_per_token is None:
            return None
        return self.decodes_per_request * self.tokens_per_decode * self.usd_per_token


class TokenSpread(Struct, frozen=True, kw_only=True):
    """Output tokens of a rung's answers at `QUANTILES`; `estimated` if one of the counts is."""

    rung: str
    answers: int
    quantiles: tuple[float, ...]
    estimated: bool


class TrialsReport(Struct, frozen=True, kw_only=True):
    """The values of a report on trials; `sides` are the reference's and suffice's.

    The page lists a part that is None or empty as missing.
    """

    kind: Literal["trials"] = "trials"
    source: str
    made: datetime
    reference: str
    requests: int
    frontier: Frontier
    tokens: tuple[TokenSpread, ...] = ()
    verdict: CertifyVerdict | None = None
    sides: tuple[Side, Side] | None = None
    flow: tuple[Flow, ...] = ()


def side(name: str, paths: Sequence[Sequence[Trial]]) -> Side:
    """Compute one side of the identity from the trials that each request paid for.

    Raises InputError if there are none.
    """
    paid = [trial for path in paths for trial in path]
    if not paid:
        raise InputError(f"no trials for {name}", hint="give the trials that each request paid for")
    tokens = [trial.usage.output_tokens for trial in paid]
    usd = [trial.charge_usd for trial in paid]
    generated = None if None in tokens else sum(count.tokens for count in tokens if count)
    spent = None if None in usd else float(sum(amount for amount in usd if amount))
    return Side(
        name=name,
        requests=len(paths),
        decodes_per_request=len(paid) / len(paths),
        tokens_per_decode=None if generated is None else generated / len(paid),
        usd_per_token=spent / generated if spent is not None and generated else None,
    )


def token_spreads(trials: Iterable[Trial]) -> tuple[TokenSpread, ...]:
    """Return the lengths of each rung's answers; rungs with an unknown count are left out."""
    by_rung: dict[str, list[Trial]] = {}
    for trial in trials:
        by_rung.setdefault(trial.rung, []).append(trial)
    spreads = (_spread(rung, rung_trials) for rung, rung_trials in by_rung.items())
    return tuple(spread for spread in spreads if spread is not None)


def _spread(rung: str, trials: Sequence[Trial]) -> TokenSpread | None:
    answers = [trial for trial in trials if trial.status is not TrialStatus.FAILED]
    counts = [trial.usage.output_tokens for trial in answers]
    known = [count for count in counts if count is not None]
    if not known or len(known) < len(counts):
        return None
    return TokenSpread(
        rung=rung,
        answers=len(known),
        quantiles=tuple(map(float, np.quantile([count.tokens for count in known], QUANTILES))),
        estimated=any(count.source is CountSource.ESTIMATED for count in known),
    )
