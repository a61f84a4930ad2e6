"""What the commands work out: mean charges, advice, where labels come from, what reports say."""

import dataclasses
import gzip
from collections import Counter
from decimal import Decimal
from math import ceil
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from scipy import stats

from suffice.bench.progress import Silent
from suffice.bench.run import bench_tasks
from suffice.bench.sources import load_tasks
from suffice.certify.bundling import Certification, certify_files, mean_usd
from suffice.certify.promise import LONGEST_S, Promise
from suffice.config import load_config, parse_config
from suffice.errors import ConfigError, InputError
from suffice.guarantee import LabelSource
from suffice.ledger import Ledger
from suffice.report.gather import report_on, write_report
from suffice.report.ledger_summary import LedgerReport
from suffice.report.summary import TrialsReport
from suffice.report.trials_gather import trials_report, verdict
from suffice.types import Trial, TrialStatus
from support import (
    CONFIG,
    blind_trials,
    lay_out,
    make_tasks,
    make_trials,
    path_of,
    settle_trials,
    write_jsonl,
)

PROMISE = Promise(reference="big", alpha=0.1, delta=0.1)


def quiet(_stage: str) -> None:
    pass


# -- the promise ---------------------------------------------------------------------------------


def test_a_promise_becomes_a_question() -> None:
    ask = Promise(reference="big", alpha=0.2, delta=0.3, seed=4, lapses_after="12h").ask(
        LabelSource.SCORER
    )
    assert (ask.reference, ask.alpha, ask.delta, ask.seed) == ("big", 0.2, 0.3, 4)
    assert ask.lapses_after_s == 12 * 3600
    assert ask.label_source is LabelSource.SCORER


@pytest.mark.parametrize("text", ["soon", "", "30", "-1d", "0d", "1e3d", "99999999d"])
def test_a_duration_that_is_none_is_an_input_error(text: str) -> None:
    with pytest.raises(InputError, match="lapses-after") as caught:
        replace(PROMISE, lapses_after=text).ask(LabelSource.TARGET)
    assert caught.value.hint


def test_the_longest_duration_still_makes_a_certificate() -> None:
    days = int(LONGEST_S / 86400)
    ask = replace(PROMISE, lapses_after=f"{days}d").ask(LabelSource.TARGET)
    assert ask.lapses_after_s == LONGEST_S


# -- files ---------------------------------------------------------------------------------------


def nested(trials: list[Trial]) -> list[dict[str, object]]:
    """Write the rows as other people's logs have them: one request a line."""
    rows: dict[str, dict] = {}
    for t in trials:
        row = rows.setdefault(
            t.request_id,
            {"request_id": t.request_id, "text": t.text, "group": t.group, "rungs": {}},
        )
        row["rungs"][t.rung] = {
            "correct": bool(t.quality),
            "answer": t.answer,
            "scorer": "exact",
            "finish": "stop",
            "mean_logprob": t.mean_logprob,
            "cost_usd": str(t.charge_usd),
        }
    return list(rows.values())


def test_flat_nested_and_gzip_say_the_same(tmp_path: Path, settled: Certification) -> None:
    flat = write_jsonl(tmp_path / "flat.jsonl", settled.trials)
    rows = write_jsonl(tmp_path / "nested.jsonl", nested(list(settled.trials)))
    packed = tmp_path / "nested.jsonl.gz"
    packed.write_bytes(gzip.compress(rows.read_bytes()))
    for path in (flat, rows, packed):
        result = certify_files([path], PROMISE, say=quiet).result
        assert result.share == settled.result.share
        assert (result.losses, result.bound) == (settled.result.losses, settled.result.bound)
        assert result.saving == pytest.approx(settled.result.saving)
        assert result.label_source is LabelSource.TARGET


def test_several_files_are_one_table(tmp_path: Path, settled: Certification) -> None:
    parts = [
        write_jsonl(tmp_path / f"{rung}.jsonl", [t for t in settled.trials if t.rung == rung])
        for rung in ("small", "big")
    ]
    assert certify_files(parts, PROMISE, say=quiet).result.share == settled.result.share


def test_agreement_takes_the_reference_for_right(tmp_path: Path) -> None:
    unscored = [
        replace(t, status=TrialStatus.UNSCORED, quality=None, scorer=None) for t in make_trials()
    ]
    path = write_jsonl(tmp_path / "unscored.jsonl", unscored)
    result = certify_files([path], PROMISE, agreement=True, say=quiet).result
    assert result.label_source is LabelSource.AGREEMENT
    assert result.reference_quality == 1.0
    assert any("agreeing" in limit for limit in result.certificate.limits)


def test_human_labels_come_from_a_file(tmp_path: Path) -> None:
    trials = [replace(t, scorer="rubric") for t in make_trials()]
    path = write_jsonl(tmp_path / "judged.jsonl", trials)
    labels = write_jsonl(
        tmp_path / "labels.jsonl",
        [{"request_id": t.request_id, "rung": t.rung, "quality": t.quality} for t in trials],
    )
    promise = replace(PROMISE, alpha=0.3)
    found = certify_files([path], promise, labels=labels, say=quiet)
    assert found.result.label_source is LabelSource.JUDGE
    assert found.result.certificate.human_n == 160
    with pytest.raises(InputError, match="human labels"):
        certify_files([path], promise, say=quiet)


# -- money and advice ----------------------------------------------------------------------------


def test_a_mean_charge_needs_the_charge_of_every_answer() -> None:
    trials = make_trials(10)
    trials[0] = replace(trials[0], charge_usd=None)  # small
    trials[3] = replace(trials[3], status=TrialStatus.FAILED, quality=None, charge_usd=None)  # big
    found = mean_usd(trials)
    answered = [t.charge_usd for t in trials if t.rung == "big" and t.charge_usd is not None]
    assert found == {"big": sum(answered, Decimal(0)) / 9}


@pytest.fixture(scope="module", params=[4, 40])
def refused(request: pytest.FixtureRequest) -> Certification:
    """A loss rate far above alpha, and one below it on too few rows."""
    trials = blind_trials(150, wrong_every=request.param)
    return settle_trials(trials, alpha=0.05, random_part=False)


def test_what_was_not_certified_has_no_bundle(refused: Certification) -> None:
    assert not refused.result.certified
    assert refused.bundle is None


@pytest.mark.parametrize(("bound", "claimed"), [(0.12341, "0.1235"), (0.5, "0.5000")])
def test_the_advice_never_claims_more_than_the_bound(
    refused: Certification, bound: float, claimed: str
) -> None:
    result = replace(refused.result, bound=bound)
    settled = replace(refused, certified=dataclasses.replace(refused.certified, result=result))
    assert f"no alpha below {claimed};" in settled.result.advice


def test_the_advice_says_whether_more_rows_would_do(refused: Certification) -> None:
    result = refused.result
    if result.losses / result.n >= result.alpha:
        assert "too high for more of them to help" in refused.result.advice
        return
    rate, needed = result.losses / result.n, result.rows_needed
    assert f"{needed:,} certifying rows would do" in refused.result.advice
    assert stats.binom.cdf(ceil(round(rate * needed, 9)), needed, result.alpha) <= result.delta
    fewer = needed - 1
    assert stats.binom.cdf(ceil(round(rate * fewer, 9)), fewer, result.alpha) > result.delta


def test_where_people_are_short_more_rows_are_not_the_advice(tmp_path: Path) -> None:
    trials = [replace(t, scorer="rubric") for t in make_trials()]
    path = write_jsonl(tmp_path / "judged.jsonl", trials)
    labels = write_jsonl(
        tmp_path / "labels.jsonl",
        [{"request_id": t.request_id, "rung": t.rung, "quality": t.quality} for t in trials[:40]],
    )
    found = certify_files([path], PROMISE, labels=labels, say=quiet)
    assert not found.result.certified
    assert "more human labels" in found.result.advice


# -- bench ---------------------------------------------------------------------------------------


def test_a_bench_over_recorded_trials_marks_them_again(
    tmp_path: Path, settled: Certification
) -> None:
    lay_out(tmp_path, settled)
    tasks = write_jsonl(tmp_path / "ten.jsonl", make_tasks(settled.trials)[:10])
    result = bench_tasks(
        load_config(tmp_path / "suffice.toml"),
        load_tasks(tasks),
        out=tmp_path / "again.jsonl",
        max_usd=None,
        judge=None,
        show=Silent,
    )
    made = {(t.request_id, t.rung): t for t in settled.trials}
    assert len(result.trials) == 20
    for trial in result.trials:
        assert trial.quality == made[trial.request_id, trial.rung].quality
        assert trial.charge_usd == made[trial.request_id, trial.rung].charge_usd


def test_an_unknown_judge_is_named(tmp_path: Path, settled: Certification) -> None:
    lay_out(tmp_path, settled)
    with pytest.raises(ConfigError, match="no rung 'jury'"):
        bench_tasks(
            parse_config(CONFIG.format(trials=tmp_path / "trials.jsonl")),
            load_tasks(tmp_path / "tasks.jsonl"),
            out=tmp_path / "out.jsonl",
            max_usd=None,
            judge="jury",
            show=Silent,
        )


# -- reports -------------------------------------------------------------------------------------


def test_a_report_says_what_certifying_said(settled: Certification) -> None:
    shown, result = verdict(settled.result), settled.result
    for name in ("certified", "n", "losses", "bound", "share", "risk", "saving", "quality"):
        assert getattr(shown, name) == getattr(result, name)
    assert {name: (b.risk, b.saving) for name, b in shown.baselines.items()} == {
        name: (b.risk, b.saving) for name, b in result.baselines.items()
    }
    assert shown.certificate_id == result.certificate.certificate_id
    assert shown.limits == result.certificate.limits


def test_the_flow_and_the_two_sides_are_those_of_the_reporting_split(
    settled: Certification,
) -> None:
    report = trials_report(settled.trials, source="t", certification=settled)
    ids = settled.certified.reported.request_ids
    paths = [path_of(settled, i) for i in ids]
    expected = Counter((path[0], path[-1]) for path in paths)
    assert {(f.first, f.answered): f.requests for f in report.flow} == dict(expected)
    always, suffice = report.sides
    made = {(t.request_id, t.rung): t for t in settled.trials}
    spent = sum(made[i, r].charge_usd for i, path in zip(ids, paths, strict=True) for r in path)
    assert suffice.usd_per_request == pytest.approx(float(spent) / len(ids))
    assert suffice.decodes_per_request == sum(map(len, paths)) / len(ids)
    assert always.decodes_per_request == 1.0
    saving = 1 - suffice.usd_per_request / always.usd_per_request
    assert saving == pytest.approx(settled.result.saving)


def test_a_report_without_a_promise_makes_none(tmp_path: Path, settled: Certification) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", settled.trials)
    report = report_on(str(path), None, say=quiet)
    assert isinstance(report, TrialsReport)
    assert (report.verdict, report.sides, report.flow) == (None, None, ())
    assert (report.source, report.requests) == ("t.jsonl", 400)


def test_a_ledger_is_told_by_its_content(tmp_path: Path) -> None:
    Ledger.open(tmp_path / "looks-like.jsonl").close()
    report = report_on(str(tmp_path / "looks-like.jsonl"), None, say=quiet)
    assert isinstance(report, LedgerReport)
    with pytest.raises(InputError, match="certifies nothing") as caught:
        report_on(str(tmp_path / "looks-like.jsonl"), PROMISE, say=quiet)
    assert "recertify" in caught.value.hint


def test_a_page_that_cannot_be_written_is_an_error(tmp_path: Path, settled: Certification) -> None:
    report = trials_report(settled.trials, source="t", certification=None)
    write_report(tmp_path / "page.html", report)
    assert "<html" in (tmp_path / "page.html").read_text("utf-8")
    with pytest.raises(InputError, match="cannot write"):
        write_report(tmp_path / "page.html" / "page.html", report)


def test_a_report_survives_json(settled: Certification) -> None:
    report = trials_report(settled.trials, source="t", certification=settled)
    assert msgspec.json.decode(msgspec.json.encode(report), type=TrialsReport) == report
