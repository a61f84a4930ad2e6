"""The output of `suffice certify`: the promise, what it saves, and what simpler ways would save."""

from typing import TYPE_CHECKING

from suffice.cli.output import print_table, say
from suffice.units import show_share

if TYPE_CHECKING:
    from suffice.certify.result import CertifyResult
    from suffice.policy import Baseline

NAMES = {
    "always_reference": "always the reference",
    "always_cheapest": "always the cheapest",
    "cost_matched_random": "random, matched",
    "random": "random, certified",
    "best_table": "best table by group",
    "route_only": "route only",
    "oracle": "oracle (hindsight)",
}


def print_certified(result: "CertifyResult") -> None:
    """Print a certification: the promise, its cost and saving, and the baselines."""
    print_promise(result)
    _print_ways(result)
    part = f", for a random {show_share(result.part)} of requests" if result.part < 1 else ""
    say(f"policy: {result.family}{part}")
    print_worth(result)
    say(f"answered by: {', '.join(f'{r} {show_share(s)}' for r, s in result.share.items())}")
    rows = ", ".join(f"{rows:,} {name}" for name, rows in result.rows.items())
    worthless = f"; {result.worthless:,} unscored count as worth 0" if result.worthless else ""
    unmarked = f"; {result.unmarked:,} unmarked count as lost where kept" if result.unmarked else ""
    say(f"rows: {rows}{worthless}{unmarked}")
    if result.beyond_largest:
        first = "request" if result.largest == 1 else f"{result.largest:,} requests"
        say(
            f"the promise speaks of the first {first} of a cluster, as many as the largest one had "
            f"that the policy was fitted on: {result.beyond_largest:,} requests here come later"
        )
    if result.lineage.planned > 1 or result.lineage.seeds:
        say(result.lineage.plan(result.delta))
    if result.left_out:
        counts = ", ".join(f"{reason} {count:,}" for reason, count in result.left_out.items())
        say(f"left out: {counts}")
    print_saving(result)


def print_promise(result: "CertifyResult") -> None:
    """Print what is certified, or how far the losses are from it."""
    risk = f"{result.risk_kind.value.replace('_', ' ')} per {result.per.value}"
    rows = f"{result.n:,}" + (
        f" in {result.clusters:,} clusters" if result.clusters < result.n else ""
    )
    drawn = " if the policy applied to all" if result.part < 1 else ""
    if result.certified:
        say(
            f"certified: with {show_share(1 - result.delta)} confidence the risk is at most "
            f"{show_share(result.alpha)} ({result.losses:g} of {rows} lost{drawn}; bound "
            f"{show_share(result.bound)}; {risk})"
        )
    else:
        say(
            f"NOT certified at alpha {result.alpha:g} ({risk}): of {rows} certifying requests "
            f"{result.losses:g} lost, which certifies no risk below {show_share(result.bound)}."
        )


def _print_ways(result: "CertifyResult") -> None:
    ways = {"suffice": result} | {
        NAMES[name]: baseline for name, baseline in result.baselines.items()
    }
    ways |= {f"always {rung}": way for rung, way in result.rungs_between.items()}
    print_table(
        ("", "risk", "saving", "quality", "cheaper share"),
        (
            (
                name,
                show_share(way.risk),
                show_share(way.saving),
                show_share(way.quality),
                show_share(1.0 - way.share[result.reference]),
            )
            for name, way in ways.items()
        ),
    )


def print_worth(result: "CertifyResult") -> None:
    """Print what random routing would do under the same promise, and a better reference."""
    random = result.baselines.get("random")
    whole_fixed = result.family == "fixed" and result.part == 1
    checked = bool(result.checks)  # every policy leaves what fails its check, the random one too
    if result.certified and random is not None and not whole_fixed and not checked:
        say(_luck_and_judgement(result, random))
    if result.use_as_reference is not None:
        say(
            f"use {result.use_as_reference} as your reference: always {result.use_as_reference} "
            f"is certified at {show_share(result.alpha)} too (a promise of its own, with its own "
            f"delta {result.delta:g})"
        )


def print_saving(result: "CertifyResult") -> None:
    """Print the saving with its interval and its unit."""
    if result.saving is not None and result.saving_unit is not None:
        unit = result.saving_unit.replace("_", " ")
        say(
            f"saving: {_saving_words(result)}, counted in {unit}, and the policy chosen by its "
            f"expected cost in {unit}"
        )
    else:
        say(
            "costs are unknown, so the policy was chosen by the share of requests that "
            f"{result.reference} is expected to be spared"
        )
    for sentence in result.about_saving:
        say(sentence)


def _saving_words(result: "CertifyResult") -> str:
    """Write the saving with its interval."""
    if result.saving_interval is None:
        return show_share(result.saving)
    low, high = map(show_share, result.saving_interval)
    return f"{show_share(result.saving)} (95 %: {low} to {high})"


def _luck_and_judgement(result: "CertifyResult", random: "Baseline") -> str:
    """Say how much of the saving random routing reaches under the same certificate."""
    name, whole, luck = "saving", result.saving, random.saving
    if whole is None or luck is None:
        name, whole, luck = (
            "cheaper share",
            1.0 - result.share[result.reference],
            1.0 - random.share[result.reference],
        )
    if result.family == "fixed" and result.part < 1:
        return f"this is random routing: no score judged a request, and all of its {name} is luck"
    if whole <= luck:
        return (
            f"of the {name}, the policy's judgement adds nothing: random routing is certified "
            f"for {show_share(luck)}"
        )
    return (
        f"of the {name}, random routing is certified for {show_share(luck)}; the policy's "
        f"judgement adds {show_share(whole - luck)}"
    )
