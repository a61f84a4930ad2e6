"""The tables of the page of `suffice compound`, and its factors in words."""

from suffice.compound import Compound
from suffice.compound.result import Factor
from suffice.report.charts import Figure
from suffice.trials.resample import Estimate
from suffice.units import show_share

_WHOLE = 100  # from which no fraction is shown


def identity_figure(result: Compound) -> Figure:
    """List the terms of the identity before and after, and the exact split of the change."""
    return Figure(
        title="The identity, taken apart",
        caption="From no lever to all of them. The factors in the last column multiply exactly to "
        "the whole reduction, in any order. Work is the cost of tokens at rates that do not "
        "depend on the chip. No lever moves tokens per prompt on purpose: it changes if the "
        "prompts that are still read are longer or shorter than the others.",
        header=("term", "before", "after", "divides the cost by"),
        rows=tuple(
            (term.name, show_term(term.before), show_term(term.after), show_spread(term.factor))
            for term in result.identity.terms
        ),
    )


def factors_figure(result: Compound) -> Figure:
    """List each factor alone, last and order-free, with its self-check."""
    return Figure(
        title="Each factor alone, last, and order-free",
        caption="Alone: no other lever on. Last: all others on. Order-free: the mean over all "
        "orders (Shapley); these multiply to the whole. Check: the lever dealt out at random, "
        "which must give 1.",
        header=("factor", "alone", "last", "order-free", "check"),
        rows=tuple(
            (
                f"{factor.vector}: {factor.lever}",
                *(show_spread(reading) for reading in (factor.alone, factor.last, factor.share)),
                show_spread(factor.shuffled),
            )
            for factor in result.factors
        ),
    )


def evidence_figure(result: Compound) -> Figure:
    """List the evidence for each factor; no factor is published without it."""
    return Figure(
        title="What stands behind each factor",
        caption="Share: the share of the baseline's cost that the lever touches. Ceiling: its "
        "factor alone if all that it touches cost nothing. Range: over all combinations of the "
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
    """List the parts of the workload, with their shares as declared before measuring."""
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
    """Return a term of the identity as text; None if nothing is decoded."""
    if value is None:
        return "none"
    return f"{value:,.0f}" if value >= _WHOLE else f"{value:.3g}"


def value_of(estimate: Estimate | None) -> float:
    """Return the value of a known factor; ratios of costs above 0 always have one."""
    if estimate is None or estimate.value is None:
        raise ValueError("a factor that is not known was drawn")
    return estimate.value


def interval_of(estimate: Estimate | None) -> tuple[float, float]:
    """Return both ends of an interval; the value itself if there was nothing to resample."""
    value = value_of(estimate)
    low, high = (estimate.interval if estimate else None) or (value, value)
    return value if low is None else low, value if high is None else high


def show_times(estimate: Estimate | None) -> str:
    """Return a known factor as text."""
    return f"{value_of(estimate):.3g}"


def show_ends(estimate: Estimate | None) -> str:
    """Return the interval of a known factor as text."""
    low, high = interval_of(estimate)
    return f"{low:.3g} to {high:.3g}"


def show_spread(estimate: Estimate | None) -> str:
    """Return a factor with its interval as text; "not certified" for None."""
    return (
        "not certified" if estimate is None else f"{show_times(estimate)} ({show_ends(estimate)})"
    )
