"""The page of `suffice compound`: the factors, their worth together, and the interaction.

Its first figure is the cost identity as a staircase: from the baseline's cost down by each factor
as measured alone, then by the interaction, to the cost that was paid.
"""

import math

from suffice.compound import Compound
from suffice.report.build import build_page, notes_section, promise_section
from suffice.report.compound_figures import NO_INTERACTION, compound_figures
from suffice.report.compound_tables import show_ends, show_term, show_times, value_of
from suffice.report.headline import Opening, Tile
from suffice.report.style import some


def compound_page(result: Compound) -> str:
    """Write the result of a replay as one self-contained HTML page."""
    promise = ""
    if result.certified:
        facts = {
            "promise": f"P(risk \u2264 {result.alpha:g}) \u2265 {1 - result.delta:g}, for every "
            "certified combination at once",
            "lapses": f"{result.lapses_at:%Y-%m-%d %H:%M %Z}",
            "certificate": result.cells[-1].certificate_id,
            "workload": f"{result.workload}, {result.fingerprint}",
        }
        promise = promise_section(facts, limits=result.limits)
    return build_page(
        compound_opening(result),
        compound_figures(result),
        source=result.source,
        tail=promise + notes_section(result.notes),
    )


def compound_opening(result: Compound) -> Opening:
    """Return the opening: the reduction of the workload's cost, and whether factors multiply."""
    size = f"{some(result.requests, 'request')} in {some(result.clusters, 'cluster')}"
    kicker = f"Compound ledger of {result.workload}, {result.made:%-d %B %Y}: {size}"
    if result.reduction is None:
        return Opening(
            kicker=kicker,
            headline="No saving is reported: its quality is not certified",
            lede=f"At a risk of {100 * result.alpha:.4g} % the combination of all levers could not "
            "be certified to keep the reference's quality, so its cost is not compared.",
            tiles=_tiles(result),
        )
    return Opening(
        kicker=kicker,
        headline=f"A request costs {show_times(result.reduction)} times less",
        lede=" ".join(_lede(result)),
        tiles=_tiles(result),
    )


def _lede(result: Compound) -> list[str]:
    """Compare the reduction with the product of its factors and with the competent baseline."""
    sentences = [f"95 % interval: {show_ends(result.reduction)}."]
    if result.product_of_factors is not None and result.interaction is not None:
        product, whole = show_times(result.product_of_factors), show_times(result.reduction)
        sentences.append(
            f"Measured one by one, the factors multiply to {product}; together they give {whole}. "
            f"{_interaction_words(result)}"
        )
    if result.certified:
        sentences.append(
            f"With {100 * (1 - result.delta):.4g} % confidence at most {100 * result.alpha:.4g} % "
            "of the quality is lost."
        )
    if result.reduction_competent is not None:
        sentences.append(
            f"Against a competent set-up it is {show_times(result.reduction_competent)} times less "
            f"({show_ends(result.reduction_competent)})."
        )
    if result.grade == "modelled":
        sentences.append("Some prices behind it are modelled, not measured.")
    return sentences


def _interaction_words(result: Compound) -> str:
    value = value_of(result.interaction)
    if abs(math.log(value)) < NO_INTERACTION:
        return "They do multiply here."
    if value < 1:
        return f"The difference, a factor of {value:.2g}, is saved twice on paper and once in fact."
    return f"The difference, a factor of {value:.2g}, is what they gain from each other."


def _tiles(result: Compound) -> tuple[Tile, ...]:
    """Show each factor alone, with its term of the identity before and after."""
    terms = {term.vector: term for term in result.identity.terms}
    return tuple(
        Tile(
            name=f"{factor.vector}: {factor.lever}",
            value="not certified" if factor.alone is None else f"\u00f7 {show_times(factor.alone)}",
            note=f"{terms[factor.vector].name}: {show_term(terms[factor.vector].before)} \u2192 "
            f"{show_term(terms[factor.vector].after)} with all on",
            tone="bad" if factor.alone is None else "",
        )
        for factor in result.factors
    )
