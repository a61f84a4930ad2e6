"""What certify promises, recomputed by hand; what it refuses, and whether its advice is right."""

import re
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from msgspec.structs import replace
from scipy import stats

from suffice.certify.bundling import Certification
from suffice.certify.policy import CertifiedPolicy, certify
from suffice.certify.target import Target
from suffice.encoders.base import default_encoder
from suffice.errors import InputError
from suffice.guarantee import LabelSource, Method, RiskKind, content_hash
from suffice.policy import harms, observe_table, outcomes, play, policy_hash
from suffice.trials.order import on_ladder
from suffice.trials.table import CostUnit, split_rows
from suffice.trials.tabulate import tabulate
from suffice.types import Trial, TrialStatus
from support import blind_trials, make_trials, path_of, settle_trials

CLOSE = 1e-9


def run(trials: list[Trial], labels: dict[tuple[str, str], float] | None = None, **asked: object):
    ask = Target(**({"reference": "big", "label_source": LabelSource.TARGET, "alpha": 0.1} | asked))
    return certify(tabulate(trials), ask, encoder=default_encoder(), labels=labels)


def by_pair(settled: Certification) -> dict[tuple[str, str], Trial]:
    return {(t.request_id, t.rung): t for t in settled.trials}


def reported_ids(settled: Certification) -> list[str]:
    """Deal the requests by hand: in the order of the file, the last tenth of the seed's shuffle."""
    ids = list(dict.fromkeys(t.request_id for t in settled.trials))
    return [ids[row] for row in split_rows(len(ids), seed=0)[2].tolist()]


def test_the_reported_figures_are_those_of_the_reporting_split(settled: Certification) -> None:
    made, ids, result = by_pair(settled), reported_ids(settled), settled.result
    paths = {i: path_of(settled, i) for i in ids}
    kept = {i: made[i, path[-1]] for i, path in paths.items()}
    answered = Counter(path[-1] for path in paths.values())
    spent = sum(made[i, rung].charge_usd for i, path in paths.items() for rung in path)
    whole = sum(made[i, "big"].charge_usd for i in ids)
    losses = [max(0.0, made[i, "big"].quality - kept[i].quality) for i in ids]
    assert any(len(path) == 2 for path in paths.values()), "no deferral: its cost is not tested"
    assert list(settled.certified.reported.request_ids) == ids
    assert result.share == {rung: answered[rung] / len(ids) for rung in ("small", "big")}
    assert result.risk == pytest.approx(sum(losses) / len(ids), abs=CLOSE)
    assert result.saving == pytest.approx(float(1 - spent / whole), abs=CLOSE)
    assert result.saving_unit is CostUnit.USD
    assert result.quality == pytest.approx(np.mean([t.quality for t in kept.values()]), abs=CLOSE)
    assert result.reference_quality == pytest.approx(np.mean([made[i, "big"].quality for i in ids]))


def test_baselines_are_measured_on_the_same_split(settled: Certification) -> None:
    made, ids, result = by_pair(settled), reported_ids(settled), settled.result
    quality = np.array([[made[i, rung].quality for rung in ("small", "big")] for i in ids])
    cost = np.array([[float(made[i, r].charge_usd) for r in ("small", "big")] for i in ids])
    lost = np.maximum(0, quality[:, 1] - quality[:, 0])
    cheap = result.baselines["always_cheapest"]
    assert cheap.risk == pytest.approx(lost.mean())
    assert cheap.saving == pytest.approx(1 - cost[:, 0].sum() / cost[:, 1].sum())
    assert cheap.quality == pytest.approx(quality[:, 0].mean())
    reference = result.baselines["always_reference"]
    assert (reference.risk, reference.saving) == (0.0, 0.0)
    assert reference.share == {"small": 0.0, "big": 1.0}
    oracle, good = result.baselines["oracle"], quality[:, 0] >= quality[:, 1]
    assert oracle.risk == 0.0
    assert oracle.share["small"] == pytest.approx(good.mean())
    assert oracle.saving == pytest.approx(
        1 - cost[range(len(ids)), 1 - good].sum() / cost[:, 1].sum()
    )
    random = result.baselines["cost_matched_random"]
    assert random.saving == pytest.approx(result.saving)
    assert random.risk == pytest.approx(random.share["small"] * cheap.risk)
    assert random.share["small"] == pytest.approx(result.saving / cheap.saving)


def test_the_promise_rests_on_the_certifying_split_alone(settled: Certification) -> None:
    made, result = by_pair(settled), settled.result
    ids = list(dict.fromkeys(t.request_id for t in settled.trials))
    rows = split_rows(len(ids), seed=0)
    lost = 0.0
    for row in rows[1].tolist():
        last = path_of(settled, ids[row])[-1]
        lost += max(0.0, made[ids[row], "big"].quality - made[ids[row], last].quality)
    assert (result.n, result.losses) == (len(rows[1]), lost)
    assert result.bound == pytest.approx(stats.beta.ppf(0.9, lost + 1, result.n - lost))
    assert result.bound <= result.alpha
    assert result.rows == {"fit": len(rows[0]), "certify": len(rows[1]), "report": len(rows[2])}
    assert result.risk_kind is RiskKind.EXCESS_OVER_REFERENCE


def test_the_certificate_is_about_this_policy_and_these_rows(settled: Certification) -> None:
    certificate, policy = settled.result.certificate, settled.certified.policy
    assert certificate.index == policy.point > 0
    assert certificate.terms.policy_hash == policy_hash(policy)
    assert certificate.terms.reference == "big"
    assert certificate.terms.scope.groups == ("riddles", "sums")
    assert (certificate.n, certificate.losses) == (settled.result.n, settled.result.losses)
    table = tabulate(settled.trials)
    for name, rows in zip(
        ("fit", "certify", "report"), split_rows(len(table), seed=0), strict=True
    ):
        part = table.subset(rows)
        expected = content_hash((part.request_ids, part.quality.tolist()))
        assert getattr(certificate.terms.splits, name) == expected
    lasts = certificate.terms.lapses_at - certificate.terms.created
    assert lasts == timedelta(days=30)
    assert datetime.now(UTC) - certificate.terms.created < timedelta(minutes=10)


def test_every_point_up_to_the_certified_one_holds_alone(settled: Certification) -> None:
    """A walk from safe to cheap stops before the first point that fails."""
    table = on_ladder(tabulate(settled.trials), reference="big")
    seen = observe_table(table, reference="big", encoder=default_encoder())
    rows, policy = split_rows(len(table), seed=0)[1], settled.certified.policy
    plays = play(policy, harms(policy, seen.subset(rows)))
    lost = plays.losses(table.quality[rows]).sum(axis=0)
    p = stats.binom.cdf(lost, len(rows), 0.1)
    assert (p[: policy.point + 1] <= 0.1).all()
    assert p[policy.point + 1] > 0.1


def test_without_costs_no_saving_is_claimed() -> None:
    bare = [replace(t, usage=type(t.usage)()) for t in make_trials(usd=False)]
    result = run(bare).result
    assert result.certified
    assert result.saving is None
    assert result.saving_unit is None
    assert all(b.saving is None for b in result.baselines.values())
    matched = result.baselines["cost_matched_random"]
    assert matched.share["small"] == pytest.approx(1 - result.share["big"])


def test_without_dollars_the_saving_is_in_tokens() -> None:
    result = run(make_trials(usd=False)).result
    assert result.saving_unit is CostUnit.OUTPUT_TOKENS
    assert result.saving > 0


def test_one_unknown_charge_leaves_its_request_out_and_many_the_dollars() -> None:
    trials = make_trials()
    trials[10] = replace(trials[10], charge_usd=None)
    result = run(trials).result
    assert (result.saving_unit, result.left_out) == (CostUnit.USD, {"no cost": 1})
    unpriced = [replace(t, charge_usd=None) if at % 9 == 0 else t for at, t in enumerate(trials)]
    assert run(unpriced).result.saving_unit is CostUnit.OUTPUT_TOKENS


def test_unscored_requests_are_left_out_and_counted() -> None:
    trials = make_trials()
    for at in (0, 1, 5):  # both rungs of one request, one of another
        trials[at] = replace(trials[at], status=TrialStatus.UNSCORED, quality=None)
    certified = run(trials)
    assert certified.result.unscored == 2
    assert sum(certified.result.rows.values()) == 398
    assert not {"r0", "r2"} & set(certified.reported.request_ids)


def test_three_rungs_are_climbed_and_paid_for() -> None:
    settled = settle_trials(make_trials(rungs=("big", "small", "middle")), alpha=0.15)
    made, ids, result = by_pair(settled), reported_ids(settled), settled.result
    assert settled.certified.policy.rungs == ("small", "middle", "big")
    paths = [path_of(settled, i) for i in ids]
    assert result.share == {
        rung: sum(path[-1] == rung for path in paths) / len(ids)
        for rung in ("small", "middle", "big")
    }
    spent = sum(
        made[i, rung].charge_usd for i, path in zip(ids, paths, strict=True) for rung in path
    )
    assert result.saving == pytest.approx(
        float(1 - spent / sum(made[i, "big"].charge_usd for i in ids)), abs=CLOSE
    )
    assert [bound.n for bound in result.rung_bounds] == [
        count for rung in ("middle", "small") if (count := round(result.share[rung] * len(ids)))
    ]


# -- the order of the ladder ---------------------------------------------------------------------


def ladder_of(rungs: tuple[str, ...], *, reference: str, usd: bool, tokens: bool = True):
    trials = make_trials(20, rungs=rungs, usd=usd)
    if not tokens:
        trials = [replace(t, usage=type(t.usage)()) for t in trials]
    return on_ladder(tabulate(trials), reference=reference)


def test_the_reference_may_come_first_in_the_file() -> None:
    table = ladder_of(("big", "middle", "small"), reference="big", usd=True)
    assert table.rungs == ("small", "middle", "big")


def test_dearer_rungs_than_the_reference_are_left_out() -> None:
    table = ladder_of(("big", "small", "middle"), reference="middle", usd=True)
    assert table.rungs == ("small", "middle")


def test_rungs_dearer_in_tokens_are_left_out_too() -> None:
    table = ladder_of(("big", "middle", "small"), reference="middle", usd=False)
    assert table.rungs == ("small", "middle")


def test_without_costs_the_order_of_the_file_stands() -> None:
    table = ladder_of(("middle", "big", "small"), reference="big", usd=False, tokens=False)
    assert table.rungs == ("middle", "small", "big")


def test_columns_follow_their_rungs() -> None:
    plain = tabulate(make_trials(20, rungs=("big", "small"), usd=False))
    table = on_ladder(plain, reference="big")
    for at, rung in enumerate(table.rungs):
        before = plain.rungs.index(rung)
        assert (table.quality[:, at] == plain.quality[:, before]).all()
        assert (table.cost[:, at] == plain.cost[:, before]).all()
        assert [row[at] for row in table.signals] == [row[before] for row in plain.signals]


def test_nothing_below_the_reference_is_an_error() -> None:
    with pytest.raises(InputError, match="no rung costs less than the reference 'small'"):
        ladder_of(("small", "big"), reference="small", usd=True)


def test_an_unknown_reference_is_named_with_the_rungs_there_are() -> None:
    with pytest.raises(InputError, match="no rung 'huge'") as caught:
        run(make_trials(), reference="huge")
    assert "small" in caught.value.hint


# -- labels --------------------------------------------------------------------------------------


def test_parts_of_a_loss_are_tested_by_betting() -> None:
    trials = [
        replace(t, quality=0.63 if t.quality == 0 and i % 3 else t.quality)
        for i, t in enumerate(make_trials())
    ]
    result = run(trials).result
    assert result.method is Method.BETTING
    assert result.certified
    assert result.losses / result.n < result.bound <= 0.1
    assert sum(each.losses for each in result.rung_bounds) == pytest.approx(40 * result.risk)


def test_a_rare_part_of_a_loss_counts_whole_where_losses_are_counted() -> None:
    """The fitting rows saw only 0 and 1, and they choose the test."""
    trials = make_trials()
    _, certifying, reporting = split_rows(400, seed=0)
    for row in (*certifying[:6].tolist(), *reporting[:6].tolist()):
        trials[2 * row] = replace(trials[2 * row], quality=0.9)
        trials[2 * row + 1] = replace(trials[2 * row + 1], quality=1.0)
    whole = [replace(t, quality=0.0) if t.quality == 0.9 else t for t in trials]
    part, full = run(trials).result, run(whole).result
    assert part.method is Method.BINOMIAL
    assert (part.losses, part.bound, part.rung_bounds) == (
        full.losses,
        full.bound,
        full.rung_bounds,
    )
    assert part.risk <= full.risk


def judged(human_share: float = 1.0) -> tuple[list[Trial], dict[tuple[str, str], float]]:
    """Trials whose judge is right on all but a few; human labels are the truth."""
    truth = make_trials(600)
    labels = {
        (t.request_id, t.rung): t.quality for i, t in enumerate(truth) if i // 2 < human_share * 600
    }
    return [
        replace(t, scorer="rubric", quality=1.0 if i % 41 == 0 else t.quality)
        for i, t in enumerate(truth)
    ], labels


def test_human_labels_mend_a_judge() -> None:
    trials, labels = judged()
    result = run(trials, labels, label_source=LabelSource.JUDGE, alpha=0.3).result
    assert result.method is Method.JUDGED
    assert result.certified
    assert result.certificate.human_n == result.rows["certify"] == 240
    assert result.rung_bounds == (), "a judge's own risk bounds nothing that people would say"


def test_labels_keep_to_their_requests_when_others_are_unscored() -> None:
    """A judge that is always right: people agree with it, so no label may land on another row."""
    truth = [replace(t, scorer="rubric") for t in make_trials(610)]
    labels = {(t.request_id, t.rung): t.quality for t in truth}
    for at in range(0, 20, 2):
        truth[at] = replace(truth[at], status=TrialStatus.UNSCORED, quality=None)
    left_out = {t.request_id for t in truth if t.quality is None}
    again = [t for t in truth if t.request_id not in left_out]
    kept = {pair: label for pair, label in labels.items() if pair[0] not in left_out}
    asked = {"label_source": LabelSource.JUDGE, "alpha": 0.3}
    found, clean = run(truth, labels, **asked).result, run(again, kept, **asked).result
    assert found.unscored == 10
    assert (found.bound, found.losses) == (clean.bound, clean.losses)


def test_labels_of_uncertified_rows_do_not_count() -> None:
    trials, labels = judged()
    certifying = {f"r{row}" for row in split_rows(600, seed=0)[1].tolist()}
    outside = {pair: q for pair, q in labels.items() if pair[0] not in certifying}
    result = run(trials, outside, label_source=LabelSource.JUDGE, alpha=0.3).result
    assert not result.certified
    assert result.bound == 1.0


def test_a_generous_judge_certifies_nothing_once_people_disagree() -> None:
    """The judge sees no loss at all; the human labels say that the cheap rung is wrong."""
    trials, labels = judged()
    blind = [replace(t, quality=1.0) for t in trials]
    result = run(blind, labels, label_source=LabelSource.JUDGE, alpha=0.3).result
    assert result.losses == 0
    assert not result.certified
    assert result.bound > 0.35


def test_labels_may_cover_rungs_that_cost_more_than_the_reference() -> None:
    trials = [
        replace(t, scorer="rubric") for t in make_trials(400, rungs=("small", "big", "middle"))
    ]
    labels = {(t.request_id, t.rung): t.quality for t in trials}
    result = run(
        trials, labels, reference="middle", label_source=LabelSource.JUDGE, alpha=0.3
    ).result
    assert result.reference == "middle"
    with pytest.raises(InputError, match="'huge'"):
        run(trials, {("r0", "huge"): 1.0}, reference="middle", label_source=LabelSource.JUDGE)


def test_a_judge_without_people_is_refused_before_any_work() -> None:
    stages: list[str] = []
    ask = Target(reference="big", label_source=LabelSource.JUDGE)
    with pytest.raises(InputError, match="human labels") as caught:
        certify(tabulate(judged()[0]), ask, encoder=default_encoder(), say=stages.append)
    assert caught.value.hint
    assert not stages


def test_labels_without_a_judge_are_refused() -> None:
    trials = make_trials()
    with pytest.raises(InputError, match="mend a judge"):
        run(trials, {(t.request_id, t.rung): t.quality for t in trials})


# -- too little ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alpha", "delta"), [(0.05, 0.1), (0.1, 0.1), (0.5, 0.1), (0.07, 0.05), (0.031, 0.2)]
)
def test_too_few_rows_say_how_many_are_needed_and_that_is_right(alpha: float, delta: float) -> None:
    trials = make_trials(60)
    with pytest.raises(InputError, match="60 scored requests are too few") as caught:
        run(trials, alpha=alpha, delta=delta)
    needed = int(re.search(r"give (\d+) scored", caught.value.hint)[1])
    perfect = [replace(t, quality=1.0) for t in make_trials(needed)]
    result = run(perfect, alpha=alpha, delta=delta).result
    assert result.certified, "that many, without one loss, must certify"
    with pytest.raises(InputError, match="too few"):
        run(perfect[:-2], alpha=alpha, delta=delta)


def test_no_scored_request_at_all_is_an_error() -> None:
    unscored = [replace(t, status=TrialStatus.UNSCORED, quality=None) for t in make_trials(200)]
    with pytest.raises(InputError, match="0 scored requests"):
        run(unscored)


@pytest.mark.parametrize("name", ["alpha", "delta"])
@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_probabilities_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{name} must lie"):
        run(make_trials(), **{name: value})


@pytest.fixture(scope="module")
def hopeless() -> CertifiedPolicy:
    """The cheap rung is wrong too often, and nothing tells when."""
    return run(blind_trials(300, wrong_every=4), alpha=0.03, random_part=False)


def test_what_is_not_certified_shows_always_the_reference(hopeless: CertifiedPolicy) -> None:
    result = hopeless.result
    assert not result.certified
    assert result.certificate is None
    assert hopeless.policy.point == 0
    assert result.share == {"small": 0.0, "big": 1.0}
    assert (result.risk, result.saving) == (0.0, 0.0)
    assert result.quality == result.reference_quality
    assert result.bound > 0.03
    assert not hopeless.plays.attempted[0].any()


def test_the_widest_safe_claim_is_safe_to_make(hopeless: CertifiedPolicy) -> None:
    """Nothing was certified, but the bound says what would have been: it must keep its word."""
    result = hopeless.result
    assert result.bound == pytest.approx(
        1.0
        if result.losses == result.n
        else stats.beta.ppf(0.9, result.losses + 1, result.n - result.losses)
    )


# -- the promise itself --------------------------------------------------------------------------


@pytest.mark.slow
def test_the_true_risk_passes_alpha_at_most_delta_of_the_time() -> None:
    """60 samples from one population whose risk is known from 4,000 rows of it."""
    alpha, seeds = 0.1, 60
    population = on_ladder(tabulate(make_trials(4000, seed=10**6)), reference="big")
    seen = observe_table(population, reference="big", encoder=default_encoder())
    known = outcomes(population, reference="big")

    def true_risk(certified: CertifiedPolicy) -> float:
        policy = certified.policy
        here = slice(policy.point, policy.point + 1)
        plays = play(policy, harms(policy, seen), points=here)
        return float(plays.losses(known.quality).mean())

    found = [run(make_trials(300, seed=seed), alpha=alpha) for seed in range(seeds)]
    certified = [each for each in found if each.result.certified]
    assert len(certified) > seeds / 2, "a test of nothing: too little was certified"
    broken = sum(true_risk(each) > alpha for each in certified)
    assert stats.binom.sf(broken - 1, seeds, 0.1) > 0.001, f"{broken} of {seeds} broke the promise"
