"""The tables of the compound ledger's page, and how its factors are written."""

from suffice.compound import Compound
from suffice.compound.result import Factor
from suffice.report.charts import Figure
from suffice.trials.resample import Estimate
from suffice.units import show_share

_WHOLE = 100  # from which no fraction is shown


def identity_figure(result: Compound) -> Figure:
    """List the terms of the identity on both sides, and the exact split of the change."""
    return Figure(
        title="The identity, taken apart",
        caption="From no lever to all of them: the factors in the last column multiply to the "
        "whole reduction, without a rest and in any order. Work is the cost of tokens at rates "
        "that do not depend on the chip. Tokens per prompt are no lever's: they say whether the "
        "prompts that are still read are the long ones.",
        header=("term", "before", "after", "divides the cost by"),
        rows=tuple(
            (term.name, show_term(term.before), show_term(term.after), show_spread(term.factor))
            for term in result.identity.terms
        ),
    )


def factors_figure(result: Compound) -> Figure:
    """List each factor in its three readings, with its self-check."""
    return Figure(
        title="Each factor alone, last, and order-free",
        caption="Alone: no other lever on. Last: all others on already. Order-free: the mean over "
        "all orders (Shapley); these multiply to the whole. Check: the same lever dealt out at "
        "random, which must give 1.",
        header=("factor", "alone", "last", "order-free", "check"),
        rows=tuple(
            (
                f"{factor.vector}: {factor.lever}",
                *(show_spread(each) for each in (factor.alone, factor.last, factor.share)),
                show_spread(factor.shuffled),
            )
            for factor in result.factors
        ),
    )


def evidence_figure(result: Compound) -> Figure:
    """List what stands behind each factor: none travels without it."""
    return Figure(
        title="What stands behind each factor",
        caption="Share: of the baseline's cost, what the lever touches. Ceiling: the most that it "
        "could give alone, if all that it touches cost nothing. Range: over all settings of the "
        f"other levers. Measured on {result.workload}, {result.made:%-d %B %Y}, from "
        f"{result.factors[0].evidence.source}.",
        header=("factor", "share", "ceiling", "range", "known"),
        rows=tuple(
            (
                f"{factor.vector}: {factor.lever}",
                show_share(factor.evidence.share_of_cost),
                "none" if factor.ceiling is None else f"{factor.ceiling:.3g}",
                _range(factor),
                factor.evidence.grade,
            )
            for factor in result.factors
        ),
    )


def _range(factor: Factor) -> str:
    low, high = factor.evidence.range or (None, None)
    return "not certified" if low is None or high is None else f"{low:.3g} to {high:.3g}"


def parts_figure(result: Compound) -> Figure:
    """List the parts of the workload, with what was declared of them before measuring."""
    return Figure(
        title="What the workload is made of",
        caption="Shares of the baseline's cost: as declared in the workload file, last changed on "
        f"{result.fixed:%-d %B %Y}, and as they came out.",
        header=("part", "requests", "declared", "measured", "times cheaper"),
        rows=tuple(
            (
                part.name,
                f"{part.requests:,}",
                show_share(part.share_declared),
                show_share(part.share),
                "unknown" if part.reduction is None else f"{part.reduction:.3g}",
            )
            for part in result.parts
        ),
    )


def show_term(value: float | None) -> str:
    """Write a term of the identity; None is one that nothing is decoded for."""
    if value is None:
        return "none"
    return f"{value:,.0f}" if value >= _WHOLE else f"{value:.3g}"


def value_of(estimate: Estimate | None) -> float:
    """Read a factor that is known: ratios of costs above 0 always have a value."""
    if estimate is None or estimate.value is None:
        raise ValueError("a factor that is not known was drawn")
    return estimate.value


def interval_of(estimate: Estimate | None) -> tuple[float, float]:
    """Return both ends of an interval; the value itself where there was nothing to resample."""
    value = value_of(estimate)
    low, high = (estimate.interval if estimate else None) or (value, value)
    return value if low is None else low, value if high is None else high


def show_times(estimate: Estimate | None) -> str:
    """Write a factor that is known."""
    return f"{value_of(estimate):.3g}"


def show_ends(estimate: Estimate | None) -> str:
    """Write the interval of a factor that is known."""
    low, high = interval_of(estimate)
    return f"{low:.3g} to {high:.3g}"


def show_spread(estimate: Estimate | None) -> str:
    """Write a factor with its interval, or that a cell it needs is not certified."""
    return (
        "not certified" if estimate is None else f"{show_times(estimate)} ({show_ends(estimate)})"
    )
