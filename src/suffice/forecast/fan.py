"""Cost per request by month: rent, chips, software and models as separate processes.

    cost = rent / software                       you keep your chip and your model ("kept")
    cost = rent / software / chips / models      you move to the cheapest ("moved")

A hosted price already includes its provider's chips and software, so only its own moves and new
models count. The factors are drawn independently. That is an assumption: in truth a chip that
arrives late keeps the rent of the old one up.
"""

import datetime as dt
import math

import numpy as np
from msgspec import Struct

from suffice.errors import InputError, PriceError
from suffice.forecast.parameters import (
    Models,
    Parameters,
    PriceKind,
    Range,
    parameters,
    parameters_as_of,
)
from suffice.forecast.process import REGIMES, Array, Level, Simulation, simulate
from suffice.silicon.catalog import find_chip
from suffice.silicon.prices import Offer, find_offer

FAN = (0.1, 0.25, 0.5, 0.75, 0.9)
LAST_MONTH = "2028-12"
PRICE_NAMES: dict[PriceKind, str] = {"market": "rent", "hosted": "list price"}


class ForecastQuestion(Struct, frozen=True, kw_only=True):
    """What to forecast: `usd` is a request's cost today, `regime` the present move of prices.

    `rent_usd` is the rent per chip and hour; None for the built-in price. With `as_of_start` only
    what was known on that day is used, so that a forecast can be held against what came.
    """

    start: dt.date
    chip: str = "h100"
    kind: PriceKind = "market"
    usd: float = 1.0
    rent_usd: float | None = None
    regime: str | None = None
    until: str = LAST_MONTH
    paths: int = 20_000
    seed: int = 0
    as_of_start: bool = False


class Point(Struct, frozen=True, kw_only=True):
    """One month: dollars per request at the quantiles FAN, if chip and model are kept, or moved."""

    month: str
    kept: tuple[float, ...]
    moved: tuple[float, ...]


class Forecast(Struct, frozen=True, kw_only=True):
    """The fan, each process's factor on cost in the last month (at FAN), and the sources.

    `rising` is the probability of a cost above today's in the last month, chip and model kept.
    """

    chip: str | None
    price_kind: PriceKind
    usd: float
    quantiles: tuple[float, ...]
    points: tuple[Point, ...]
    factors: dict[str, tuple[float, ...]]
    rising: float
    basis: tuple[str, ...]
    notes: tuple[str, ...]


def forecast(question: ForecastQuestion, *, params: Parameters | None = None) -> Forecast:
    """Simulate the paths and return their quantiles; raises InputError or PriceError."""
    params = parameters() if params is None else params
    if question.as_of_start:
        params = parameters_as_of(params, question.start, kind=question.kind)
    months = _months(question)
    rng = np.random.default_rng(question.seed)
    factors = _factors(question, params, months=months, rng=rng)
    kept = factors[PRICE_NAMES[question.kind]] * factors.get("software", 1.0)
    moved = kept * factors.get("chips", 1.0) * factors["models"]
    fans = [_quantiles(question.usd * paths) for paths in (kept, moved)]
    points = tuple(
        Point(month=_month(question.start, ahead), kept=fans[0][ahead], moved=fans[1][ahead])
        for ahead in range(months + 1)
    )
    return Forecast(
        chip=None if question.kind == "hosted" else find_chip(question.chip).key,
        price_kind=question.kind,
        usd=question.usd,
        quantiles=FAN,
        points=points,
        factors={name: _quantiles(paths)[-1] for name, paths in factors.items()},
        rising=float((kept[:, -1] > 1.0).mean()),
        basis=_basis(question, params),
        notes=_notes(question, params),
    )


def rent_paths(
    question: ForecastQuestion, params: Parameters, *, months: int, rng: np.random.Generator
) -> Array:
    """Return price over today's price, shape (paths, 1 + months)."""
    if question.regime is not None and question.regime not in REGIMES:
        raise InputError(f"no regime {question.regime!r}", hint=f"one of {', '.join(REGIMES)}")
    run = Simulation(
        months=months,
        paths=question.paths,
        regime=None if question.regime is None else REGIMES.index(question.regime),
        level=None if question.kind == "hosted" else _level(question, params),
    )
    return np.asarray(np.exp(simulate(params.price[question.kind], run, rng=rng)))


def rent_today(question: ForecastQuestion) -> Offer | float:
    """Return your rent per chip and hour, or the newest public offer; PriceError without either."""
    if question.rent_usd is not None:
        return question.rent_usd
    key = find_chip(question.chip).key
    offer = find_offer(key, kind="contract") or find_offer(key, kind="on_demand")
    if offer is None:
        raise PriceError(f"no public rent of {key}", hint="give yours: --rent DOLLARS")
    if question.as_of_start and offer.date > question.start.isoformat():
        raise PriceError(
            f"the rent of {key} that is kept is of {offer.date}, after {question.start}",
            hint="give the rent of that day: --rent DOLLARS",
        )
    return offer


def _factors(
    question: ForecastQuestion, params: Parameters, *, months: int, rng: np.random.Generator
) -> dict[str, Array]:
    price = rent_paths(question, params, months=months, rng=rng)
    models = model_factors(params.models, months=months, paths=question.paths, rng=rng)
    if question.kind == "hosted":
        return {PRICE_NAMES["hosted"]: price, "models": models}
    return {
        PRICE_NAMES["market"]: price,
        "software": _software(question, params, months=months, rng=rng),
        "chips": _chips(question, params, months=months, rng=rng),
        "models": models,
    }


def _level(question: ForecastQuestion, params: Parameters) -> Level:
    today = rent_today(question)
    usd = float(today.usd_per_hour) if isinstance(today, Offer) else today
    if not (usd > 0 and math.isfinite(usd)):
        raise PriceError(f"a chip-hour cannot cost {usd}", hint="give a positive price in dollars")
    owning = find_offer(find_chip(question.chip).key, kind="owning")
    multiple, base = (
        (params.level.unknown, 1.0)
        if owning is None
        else (params.level.owned, float(owning.usd_per_hour) / usd)
    )
    half_life = params.level.half_life_months
    return Level(
        low=math.log(multiple.low * base),
        high=math.log(multiple.high * base),
        half_life_months=(half_life.low, half_life.high),
    )


def _software(
    question: ForecastQuestion, params: Parameters, *, months: int, rng: np.random.Generator
) -> Array:
    """Return the factor on cost of newer engine builds: a gain that is approached over time.

    Half of the gain still to come arrives every `settle_months`.
    """
    ranges = params.software.vendor
    vendor = find_chip(question.chip).vendor
    gain = _draw(ranges.get(vendor, ranges["other"]), paths=question.paths, rng=rng)
    done = 1.0 - 0.5 ** (np.arange(months + 1) / params.software.settle_months)
    return np.asarray(gain[:, None] ** -done)


def _chips(
    question: ForecastQuestion, params: Parameters, *, months: int, rng: np.random.Generator
) -> Array:
    """Return the factor on cost of the best chip for rent; chips arrive late, never early."""
    ahead = np.arange(months + 1)
    best = np.ones((question.paths, months + 1))
    for arrival in params.arrival:
        due = _months_between(question.start, arrival.month)
        late = rng.triangular(*params.slip.months, size=question.paths)
        gain = _draw(arrival.gain, paths=question.paths, rng=rng)
        best = np.maximum(best, np.where(ahead >= (due + late)[:, None], gain[:, None], 1.0))
    return np.asarray(1.0 / best)


def model_factors(models: Models, *, months: int, paths: int, rng: np.random.Generator) -> Array:
    """Return the factor on cost of new models; they come at random, and a share fails yours.

    A model fails if it does not pass your certificate.
    """
    gap = _draw(models.months_between, paths=paths, rng=rng)
    step = np.log(_draw(models.gain_per_year, paths=paths, rng=rng)) * gap / 12.0
    passes = 1.0 - _draw(models.fails, paths=paths, rng=rng)
    came = rng.random((paths, months)) < np.minimum(1.0, passes / gap)[:, None]
    logs = np.cumsum(came * step[:, None], axis=1)
    return np.asarray(np.exp(-np.hstack([np.zeros((paths, 1)), logs])))


def _draw(params: Range, *, paths: int, rng: np.random.Generator) -> Array:
    return np.asarray(np.exp(rng.uniform(math.log(params.low), math.log(params.high), paths)))


def _quantiles(paths: Array) -> list[tuple[float, ...]]:
    return [tuple(float(x) for x in row) for row in np.quantile(paths, FAN, axis=0).T]


def _months(question: ForecastQuestion) -> int:
    if not (question.usd > 0 and math.isfinite(question.usd)):
        raise InputError(f"a request cannot cost {question.usd}", hint="give positive dollars")
    if question.paths < 100:
        raise InputError("a fan needs at least 100 paths", hint="20000 is usual")
    months = _months_between(question.start, question.until)
    if not 1 <= months <= 60:
        raise InputError(
            f"{question.until} is not 1 to 60 months from {question.start:%Y-%m}",
            hint=f"write --until {LAST_MONTH}",
        )
    return months


def _months_between(start: dt.date, month: str) -> int:
    try:
        end = dt.date.fromisoformat(f"{month}-01")
    except ValueError as error:
        raise InputError(f"{month!r} is not a month", hint=f"write {LAST_MONTH}") from error
    return 12 * (end.year - start.year) + end.month - start.month


def _month(start: dt.date, ahead: int) -> str:
    years, month = divmod(start.month - 1 + ahead, 12)
    return f"{start.year + years}-{month + 1:02d}"


def _basis(question: ForecastQuestion, params: Parameters) -> tuple[str, ...]:
    """Return the source and date of every process."""
    price = params.price[question.kind]
    lines = [f"price moves: {price.source} ({price.date}; {price.command})"]
    if question.kind == "market":
        today = rent_today(question)
        if isinstance(today, Offer):
            lines.append(f"rent today: ${today.usd_per_hour}/h, {today.source} ({today.date})")
        lines.append(f"rent level: {params.level.source} ({params.level.date})")
        lines.append(f"software: {params.software.source} ({params.software.date})")
        lines.append(f"slip: {params.slip.source} ({params.slip.date})")
        lines += [f"{a.name}, {a.month}: {a.source} ({a.date})" for a in params.arrival]
    return (*lines, f"models: {params.models.source} ({params.models.date})")


def _notes(question: ForecastQuestion, params: Parameters) -> tuple[str, ...]:
    spells = params.price[question.kind].spells
    lines = [
        f"the price process rests on {spells:g} spells of falling or rising prices; "
        "a short history makes a wide fan",
        "only price moves were back-tested; chips, software and models are ranges by judgement",
    ]
    if question.as_of_start:
        lines.append(
            "as of an earlier day: prices and announced chips are those known then; the ranges of "
            "level, software, slip and models are today's"
        )
    if question.kind == "market":
        lines.append("`moved` leaves out what the best chip of today would save: suffice plan")
        if question.regime is None:
            lines.append("no regime of rent was given (--regime): all three are mixed")
    return tuple(lines)
