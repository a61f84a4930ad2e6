"""On demand, reserve, or wait: the cost of each over the fan of rents, and the regret.

One contract term of one chip is simulated month by month on many paths. Rent moves as the forecast
says, and the fee of a contract signed later moves with it. The need for the chip may end in any
month. A contract signed now is paid to the end, used or not. A contract signed after waiting is
charged for the months that are left.
"""

import datetime as dt
from typing import Literal

import numpy as np
from msgspec import Struct

from suffice.errors import InputError, PriceError
from suffice.forecast.contracts import TRUST, ContractTerms, guaranteed_ratio
from suffice.forecast.fan import ForecastQuestion, rent_paths
from suffice.forecast.parameters import Parameters, parameters, without_drift
from suffice.forecast.process import Array
from suffice.silicon.catalog import find_chip
from suffice.silicon.prices import Kind, find_offer

HOURS_PER_MONTH = 730.5
WAIT_MONTHS = 3
REGRET = (0.5, 0.9, 0.99)
Choice = Literal["on_demand", "reserve", "wait"]


class Situation(Struct, frozen=True, kw_only=True):
    """The need for one chip, and its prices per chip and hour (None: the built-in price).

    `busy` is the share of hours in use, and `lasts` the probability that the need lasts to the end
    of the term. `spent_usd` is the spend on demand for one chip in the last term. Each hour in use
    under a contract costs `usage_rate` times the price on demand, on top of the fee.
    """

    start: dt.date
    chip: str = "h100"
    on_demand_usd: float | None = None
    contract_usd: float | None = None
    months: int = 12
    busy: float = 1.0
    lasts: float = 0.8
    usage_rate: float = 0.0
    spent_usd: float = 0.0
    regime: str | None = None
    paths: int = 20_000
    seed: int = 0


class ContractCost(Struct, frozen=True, kw_only=True):
    """Dollars of a term for one chip: the mean, and the REGRET quantiles of cost over hindsight."""

    mean_usd: float
    regret_usd: tuple[float, ...]
    best_share: float


class Advice(Struct, frozen=True, kw_only=True):
    """The best choice, the cost of each choice, and whether the rule with a guarantee would sign.

    That rule signs at a spend on demand of `sign_at_usd` in the last term. The forecast may move
    this amount by a factor `trust` either way. The rule then costs at most `guaranteed_ratio` times
    hindsight, as long as contracts get no dearer (`docs/forecast.md`).
    """

    choice: Choice
    chip: str
    on_demand_usd: float
    contract_usd: float
    outcomes: dict[Choice, ContractCost]
    regret_quantiles: tuple[float, ...]
    hindsight_usd: float
    sign_at_usd: float
    trust: float
    guaranteed_ratio: float
    rule_signs: bool
    basis: tuple[str, ...]


def advise(situation: Situation, *, params: Parameters | None = None) -> Advice:
    """Simulate the term and choose the lowest mean cost; raises InputError or PriceError."""
    _check(situation)
    params = parameters() if params is None else params
    day_usd, day_basis = _price(situation, "on_demand", situation.on_demand_usd)
    contract_usd, contract_basis = _price(situation, "contract", situation.contract_usd)
    costs, hindsight = _costs(situation, params, on_demand=day_usd, contract=contract_usd)
    outcomes = {choice: _outcome(cost, hindsight) for choice, cost in costs.items()}
    best = min(outcomes, key=lambda choice: outcomes[choice].mean_usd)
    fee = contract_usd * HOURS_PER_MONTH * situation.months
    sign_at = fee / (1.0 - situation.usage_rate)
    theta = TRUST if best == "reserve" else 1.0 / TRUST
    terms = ContractTerms(days=round(situation.months * 30.4), usage_rate=situation.usage_rate)
    return Advice(
        choice=best,
        chip=find_chip(situation.chip).key,
        on_demand_usd=day_usd,
        contract_usd=contract_usd,
        outcomes=outcomes,
        regret_quantiles=REGRET,
        hindsight_usd=float(hindsight.mean()),
        sign_at_usd=sign_at,
        trust=TRUST,
        guaranteed_ratio=guaranteed_ratio(terms, trust=TRUST),
        rule_signs=situation.spent_usd >= theta * sign_at,
        basis=(day_basis, contract_basis),
    )


def _costs(
    situation: Situation, params: Parameters, *, on_demand: float, contract: float
) -> tuple[dict[Choice, Array], Array]:
    """Return the dollars of each choice by path, and those of hindsight: the best month or none."""
    rng = np.random.default_rng(situation.seed)
    question = ForecastQuestion(
        start=situation.start,
        chip=situation.chip,
        rent_usd=contract,
        regime=situation.regime,
        paths=situation.paths,
    )
    months = situation.months
    rent = rent_paths(question, without_drift(params), months=months, rng=rng)[:, :-1]
    spend = HOURS_PER_MONTH * on_demand * situation.busy * rent * _needed(situation, rng)
    left = (months - np.arange(months)) / months
    fees = HOURS_PER_MONTH * contract * months * rent * left
    before = np.cumsum(spend, axis=1) - spend
    after = spend[:, ::-1].cumsum(axis=1)[:, ::-1]
    signed = before + fees + situation.usage_rate * after
    never = spend.sum(axis=1)
    hindsight = np.minimum(signed.min(axis=1), never)
    wait = min(WAIT_MONTHS, months - 1)
    expected = HOURS_PER_MONTH * on_demand * situation.busy * rent[:, wait] * _expected(situation)
    worth = fees[:, wait] < (1.0 - situation.usage_rate) * expected
    signs = worth & (spend[:, wait] > 0)
    costs: dict[Choice, Array] = {
        "on_demand": never,
        "reserve": signed[:, 0],
        "wait": np.where(signs, signed[:, wait], never),
    }
    return costs, hindsight


def _needed(situation: Situation, rng: np.random.Generator) -> Array:
    """Return 1 for months in which the chip is needed, 0 from the end of the need on."""
    stays = situation.lasts ** (1.0 / situation.months)
    goes_on = rng.random((situation.paths, situation.months)) < stays
    return np.cumprod(goes_on, axis=1).astype(float)


def _expected(situation: Situation) -> float:
    """Return the expected number of months of need after waiting."""
    stays = situation.lasts ** (1.0 / situation.months)
    left = situation.months - min(WAIT_MONTHS, situation.months - 1)
    return float((stays ** np.arange(left)).sum())


def _outcome(cost: Array, hindsight: Array) -> ContractCost:
    regret = cost - hindsight
    return ContractCost(
        mean_usd=float(cost.mean()),
        regret_usd=tuple(float(x) for x in np.quantile(regret, REGRET)),
        best_share=float((regret <= 1e-9 * hindsight + 1e-12).mean()),
    )


def _price(situation: Situation, kind: Kind, usd: float | None) -> tuple[float, str]:
    name = kind.replace("_", " ")
    if usd is not None:
        if not 0 < usd < float("inf"):
            raise PriceError(f"{name}: a chip-hour cannot cost {usd}", hint="give dollars, 2.35")
        return usd, f"{name}: stated by you"
    offer = find_offer(find_chip(situation.chip).key, kind=kind)
    if offer is None:
        raise PriceError(
            f"no public {name} price of {situation.chip}",
            hint=f"give yours: --{kind.replace('_', '-')} DOLLARS",
        )
    return float(offer.usd_per_hour), f"{name}: {offer.source} ({offer.date})"


def _check(situation: Situation) -> None:
    if not (0 < situation.busy <= 1 and 0 < situation.lasts <= 1):
        raise InputError("busy and lasts lie above 0, up to 1", hint="--busy 0.6 --lasts 0.8")
    if not 2 <= situation.months <= 60:
        raise InputError(
            f"a term of {situation.months} months", hint="2 to 60; 12 and 36 are usual"
        )
    if situation.spent_usd < 0 or situation.paths < 100:
        raise InputError(
            "a negative spend, or under 100 paths", hint="leave --spent and --paths out"
        )
