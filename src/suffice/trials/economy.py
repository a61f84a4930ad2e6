"""What shorter answers are worth: score, length and dollars of each rung, beside one of them.

The dollars of a rung are worked out twice from the same counts: once as if no input had been
cached, and once as if all of it had been. A price applies to each rung, so what it cost in the run
does not count. All figures are means over answers; intervals resample whole clusters, the same for
every rung, so that the differences have honest intervals too.
"""

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from suffice.config import nearest
from suffice.errors import InputError
from suffice.meter import Price, charge
from suffice.trials.pricing import Prices, price_of
from suffice.trials.resample import Estimate, cluster_sums, drawn_sums, estimate
from suffice.trials.table import Floats, clusters_of
from suffice.types import Count, CountSource, Trial, TrialStatus, Usage, estimated

MOST_UNKNOWN = 0.05  # share of the answers of a rung
FIGURES = ("characters", "output_tokens", "usd_uncached", "usd_cached")
_NO_TOKENS = Count(0, CountSource.REPORTED)


class RungEconomy(Struct, frozen=True, kw_only=True):
    """One rung: means over its scored answers, None where more than 5 % lack the figure.

    `characters` are those of the visible answer; `output_tokens` include the reasoning. `less` says
    by which share each figure is below that of the reference, `score_difference` how much higher
    the score is, on a scale from 0 to 1.
    """

    rung: str
    answers: int
    score: Estimate
    characters: Estimate | None
    output_tokens: Estimate | None
    usd_uncached: Estimate | None
    usd_cached: Estimate | None
    score_difference: Estimate | None
    less: dict[str, Estimate]


class Economy(Struct, frozen=True, kw_only=True):
    """All rungs in their order, beside the reference, with what a reader must know."""

    reference: str
    rungs: tuple[RungEconomy, ...]
    clusters: int
    notes: tuple[str, ...]


def economy(
    trials: Sequence[Trial],
    *,
    reference: str | None = None,
    prices: Prices,
    estimate_tokens: bool = False,
    seed: int = 0,
) -> Economy:
    """Compare rungs on the trials that are scored; the reference is the one of longest answers.

    `estimate_tokens` counts four bytes of a visible answer as a token where a trial states none.
    Raises InputError where nothing is scored or no rung is called `reference`.
    """
    scored = [trial for trial in trials if trial.status is TrialStatus.SCORED]
    if not scored:
        raise InputError(
            f"none of {len(trials)} trials is scored", hint="give graded answers, or labels"
        )
    if estimate_tokens:
        scored = [_with_tokens(trial) for trial in scored]
    rungs = tuple(dict.fromkeys(trial.rung for trial in scored))
    names = clusters_of(
        [trial.request_id for trial in scored],
        [trial.text for trial in scored],
        [trial.cluster for trial in scored],
    )
    clusters = [names[1][row] for row in names[0]]
    columns = np.concatenate([_columns(scored, rung, prices) for rung in rungs], axis=1)
    sums = cluster_sums(columns, clusters)
    drawn = drawn_sums(sums, seed=seed).reshape(-1, len(rungs), 2 + 2 * len(FIGURES))
    means = {rung: _means(drawn[:, at]) for at, rung in enumerate(rungs)}
    base = _reference(reference, rungs, scored)
    return Economy(
        reference=base,
        rungs=tuple(_rung(rung, scored, means, base, clusters=len(sums)) for rung in rungs),
        clusters=len(sums),
        notes=tuple(_notes(scored, prices)),
    )


def _columns(scored: Sequence[Trial], rung: str, prices: Prices) -> Floats:
    """Return for each trial whether it counts, its quality, and each figure with a mark of it."""
    rows = []
    for trial in scored:
        if trial.rung != rung:
            rows.append([0.0] * (2 + 2 * len(FIGURES)))
            continue
        price = price_of(trial, prices)
        figures = (
            None if trial.answer is None else len(trial.answer),
            None if trial.usage.output_tokens is None else trial.usage.output_tokens.tokens,
            _usd(trial.usage, price, cached=False),
            _usd(trial.usage, price, cached=True),
        )
        row = [1.0, trial.quality or 0.0]
        for figure in figures:
            row += [0.0, 0.0] if figure is None else [1.0, float(figure)]
        rows.append(row)
    return np.array(rows)


def _usd(usage: Usage, price: Price | None, *, cached: bool) -> float | None:
    """Charge a call as if all of its input had come from a cache, or none of it."""
    if price is None or usage.input_tokens is None:
        return None
    if cached and not any(rates.cache_read_usd_per_mtok is not None for rates in price.rates):
        return None
    read = usage.input_tokens if cached else _NO_TOKENS
    changed = replace(usage, cache_read_tokens=read, cache_write_tokens=_NO_TOKENS, kinds={})
    usd = charge(changed, price).usd
    return None if usd is None else float(usd)


def _means(drawn: Floats) -> dict[str, Floats]:
    """Divide the sums of one rung, shape (1 + resamples, columns); NaN where too few are known."""
    with np.errstate(divide="ignore", invalid="ignore"):
        means = {"score": drawn[:, 1] / drawn[:, 0]}
        for at, name in enumerate(FIGURES):
            known, total = drawn[:, 2 + 2 * at], drawn[:, 3 + 2 * at]
            enough = known[0] >= (1 - MOST_UNKNOWN) * drawn[0, 0] and known[0] > 0
            means[name] = total / known if enough else np.full(len(drawn), math.nan)
    return means


def _rung(
    rung: str,
    scored: Sequence[Trial],
    means: dict[str, dict[str, Floats]],
    reference: str,
    *,
    clusters: int,
) -> RungEconomy:
    mine, base = means[rung], means[reference]
    figures = {name: estimate(mine[name], clusters=clusters) for name in FIGURES}
    less: dict[str, Estimate] = {}
    difference = None
    if rung != reference:
        difference = estimate(mine["score"] - base["score"], clusters=clusters)
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = {name: estimate(1 - mine[name] / base[name]) for name in FIGURES}
        less = {name: share for name, share in shares.items() if share is not None}
    score = estimate(mine["score"], clusters=clusters)
    assert score is not None
    return RungEconomy(
        rung=rung,
        answers=sum(trial.rung == rung for trial in scored),
        score=score,
        score_difference=difference,
        less=less,
        **figures,
    )


def _reference(name: str | None, rungs: tuple[str, ...], scored: Sequence[Trial]) -> str:
    if name is None:
        return max(rungs, key=lambda rung: _mean_length(scored, rung))
    if name not in rungs:
        raise InputError(f"no scored answer is of {name!r}", hint=nearest(name, rungs))
    return name


def _mean_length(scored: Sequence[Trial], rung: str) -> float:
    lengths = [len(trial.answer) for trial in scored if trial.rung == rung and trial.answer]
    return sum(lengths) / len(lengths) if lengths else 0.0


def _with_tokens(trial: Trial) -> Trial:
    if trial.usage.output_tokens is not None or trial.answer is None:
        return trial
    return replace(trial, usage=replace(trial.usage, output_tokens=estimated(trial.answer)))


def _notes(scored: Sequence[Trial], prices: Prices) -> list[str]:
    """Say what the figures do not show by themselves."""
    notes = []
    guessed = sum(
        count is not None and count.source is CountSource.ESTIMATED
        for trial in scored
        for count in (trial.usage.input_tokens, trial.usage.output_tokens)
    )
    if guessed:
        notes.append(f"{guessed:,} token counts are estimated from characters.")
    silent = sum(trial.usage.output_tokens is None for trial in scored)
    if silent:
        notes.append(
            f"{silent:,} of {len(scored):,} answers state no output tokens: --estimate-tokens "
            "takes four bytes of the visible answer for one; hidden reasoning is not in it."
        )
    unpriced = {trial.rung for trial in scored if price_of(trial, prices) is None}
    if unpriced:
        notes.append(
            f"no price for {', '.join(sorted(unpriced))}: give --ladder with a rung of that name "
            "or model."
        )
    requests = {rung: {t.request_id for t in scored if t.rung == rung} for rung in unpriced}
    requests |= {t.rung: set() for t in scored if t.rung not in requests}
    for trial in scored:
        requests[trial.rung].add(trial.request_id)
    if len({frozenset(ids) for ids in requests.values()}) > 1:
        notes.append("The rungs have scores on different requests: not compared like with like.")
    return notes
