"""How many marks a certificate takes with a label plan, and what it certifies with them."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import fmean

import numpy as np
from msgspec import Struct
from msgspec.structs import replace as with_field

from benchmarks.inputs import OUTCOME_SETS, data_file
from suffice.certify.labelling import plan_labels
from suffice.certify.policy import CertifiedPolicy, certify
from suffice.certify.target import Target
from suffice.encoders.base import default_encoder
from suffice.guarantee import LabelSource
from suffice.policy import Observations, harms, observe_table, play
from suffice.trials.importers import read_table
from suffice.trials.order import on_ladder
from suffice.trials.table import TrialTable, split_rows

SETS = ("mmlu", "bbh")
ROWS = 4000  # that are drawn for each certificate
ALPHA, DELTA = 0.05, 0.1


class LabelOutcome(Struct, frozen=True, kw_only=True):
    """One draw: the share of requests marked, what is certified with it and with all marks."""

    labels: float
    labels_certifying: float
    share: float
    share_all_labels: float
    violated: bool


class LabelFigures(Struct, frozen=True, kw_only=True):
    """The figures of one set: `share` is what cheaper rungs answer.

    It and the risk are those over all requests of the set but the fitting split.
    """

    labels: float
    labels_certifying: float
    share: float
    share_all_labels: float
    violations: float
    runs: int


def run_labels(data: str, name: str, seed: int) -> LabelOutcome:
    """Draw requests of a set, mark what the plan names, and certify; then with all marks."""
    whole, seen = _recorded(data, name)
    reference = OUTCOME_SETS[name][1]
    rows = np.sort(np.random.default_rng([seed, 5]).permutation(len(whole))[:ROWS])
    table = whole.subset(rows)
    ask = Target(
        reference=reference,
        label_source=LabelSource.TARGET,
        alpha=ALPHA,
        delta=DELTA,
        seed=seed,
    )
    encoder = default_encoder()
    plan, marked = plan_labels(_only_marked(table, ()), ask, encoder=encoder), table
    while plan.to_mark:
        marked = _only_marked(table, (*plan.fit, *plan.report, *(plan.certify or ())))
        plan = plan_labels(marked, ask, encoder=encoder)
    assert plan.certify is not None
    planned = certify(marked, ask, encoder=encoder, plan=plan)
    full = certify(table, ask, encoder=encoder)
    fit = rows[split_rows(table.clusters, seed=seed)[0]]
    others = np.setdiff1d(np.arange(len(whole)), fit)
    population = seen.subset(others), whole.subset(others)
    share, risk = _measured(planned, *population)
    return LabelOutcome(
        labels=plan.planned / len(table),
        labels_certifying=len(plan.certify) / planned.result.rows["certify"],
        share=share,
        share_all_labels=_measured(full, *population)[0],
        violated=risk > ALPHA,
    )


def label_figures(outcomes: list[LabelOutcome]) -> LabelFigures:
    """Average the draws of one set."""
    return LabelFigures(
        labels=fmean(outcome.labels for outcome in outcomes),
        labels_certifying=fmean(outcome.labels_certifying for outcome in outcomes),
        share=fmean(outcome.share for outcome in outcomes),
        share_all_labels=fmean(outcome.share_all_labels for outcome in outcomes),
        violations=fmean(outcome.violated for outcome in outcomes),
        runs=len(outcomes),
    )


def check_data(data: Path) -> None:
    """Stop with exit status 2 where a file is missing."""
    for name in SETS:
        data_file(data, OUTCOME_SETS[name][0])


@cache
def _recorded(data: str, name: str) -> tuple[TrialTable, Observations]:
    file, reference = OUTCOME_SETS[name]
    table = on_ladder(read_table(Path(data) / file).scored(), reference=reference)
    return table, observe_table(table, reference=reference, encoder=default_encoder())


def _only_marked(table: TrialTable, request_ids: tuple[str, ...]) -> TrialTable:
    """Take the marks of all other requests away."""
    known = np.isin(np.array(table.request_ids), list(request_ids))
    return replace(table, quality=np.where(known[:, None], table.quality, np.nan))


def _measured(
    certified: CertifiedPolicy, seen: Observations, table: TrialTable
) -> tuple[float, float]:
    """Return the share that a policy keeps from the reference, and its risk, over some requests."""
    policy = certified.policy
    whole = with_field(policy, path=policy.path.whole())
    plays = play(whole, harms(whole, seen), points=slice(policy.point, policy.point + 1))
    kept = plays.chosen < len(policy.rungs) - 1
    return (
        policy.part * float(kept.mean()),
        policy.part * float(plays.losses(table.quality).mean()),
    )
