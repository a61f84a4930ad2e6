"""A batch answers each request once, audits a random share of them, and keeps the books."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from suffice import batch as batch_module
from suffice.batch import Batch, BatchResult, answer_requests
from suffice.bench.progress import Silent
from suffice.certify.bundling import Certification, certify_ledger
from suffice.certify.promise import Promise
from suffice.engines.replay import ReplayEngine
from suffice.errors import (
    ConfigError,
    EngineError,
    EngineRefused,
    EngineUnreachable,
    InputError,
    LedgerError,
)
from suffice.guarantee import LabelSource
from suffice.ledger import Label, Ledger, Role, Status, entries, labelled_trials, scores_of
from suffice.ledger.records import Entry
from suffice.types import Completion, Request, Rung, TrialStatus
from support import CONFIG, lay_out, make_tasks, path_of, write_jsonl


@pytest.fixture
def folder(tmp_path: Path, settled: Certification) -> Path:
    return lay_out(tmp_path, settled)


def batch_in(folder: Path, **more: Any) -> Batch:
    given = {
        "requests": str(folder / "tasks.jsonl"),
        "ladder": folder / "suffice.toml",
        "ledger": str(folder / "books.db"),
        "out": folder / "answers.jsonl",
        "bundle": folder / "bundle",
    }
    return Batch(**(given | more))


def run(folder: Path, **more: Any) -> BatchResult:
    return answer_requests(batch_in(folder, **more), show=Silent)


def first(folder: Path, number: int) -> str:
    """Keep the first tasks only."""
    lines = (folder / "tasks.jsonl").read_text().splitlines(keepends=True)[:number]
    (folder / "some.jsonl").write_text("".join(lines))
    return str(folder / "some.jsonl")


def booked(folder: Path) -> list[Entry]:
    with Ledger.open(folder / "books.db", read_only=True) as ledger:
        return list(entries(ledger))


def answers(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]


def certify_books(folder: Path, **promised: Any) -> Certification:
    with Ledger.open(folder / "books.db", read_only=True) as ledger:
        return certify_ledger(
            ledger, Promise(reference="big", alpha=0.1, delta=0.1, **promised), say=lambda _: None
        )


def let(monkeypatch: pytest.MonkeyPatch, before: Callable[[Request, Rung], None]) -> Counter[str]:
    """Do something before each call of the replay engine; returns a count of calls by rung."""
    calls: Counter[str] = Counter()
    complete = ReplayEngine.complete

    async def doing(self: ReplayEngine, request: Request, rung: Rung) -> Completion:
        calls[rung.name] += 1
        before(request, rung)
        return await complete(self, request, rung)

    monkeypatch.setattr(ReplayEngine, "complete", doing)
    return calls


def test_every_request_is_answered_booked_and_written(folder: Path, settled: Certification) -> None:
    result = run(folder, requests=first(folder, 40))
    lines, books = answers(folder), booked(folder)
    assert (result.answered, result.failed, result.kept, result.audited) == (40, 0, 0, 0)
    assert result.fallbacks == {}
    assert {line["request_id"] for line in lines} == {e.request_id for e in books}
    made = {(t.request_id, t.rung): t for t in settled.trials}
    for line in lines:
        assert line["rung"] == path_of(settled, line["request_id"])[-1]
        assert line["answer"] == made[line["request_id"], line["rung"]].answer
    assert result.spend.known_usd == sum(Decimal(line["charge_usd"]) for line in lines)
    assert result.spend.known_usd == sum(
        made[line["request_id"], rung].charge_usd
        for line in lines
        for rung in path_of(settled, line["request_id"])
    )
    shares = Counter(line["rung"] for line in lines)
    assert result.share == {rung: count / 40 for rung, count in shares.items()}


def test_going_on_asks_nothing_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = let(monkeypatch, lambda request, rung: None)
    run(folder, requests=first(folder, 10), audit_share=0.5)
    before = calls.total()
    again = run(folder, requests=first(folder, 10), audit_share=0.5)
    assert (again.answered, again.kept, again.kept_unanswered) == (0, 10, 0)
    assert calls.total() == before
    assert again.spend.known_usd == again.audit_spend.known_usd == 0
    on = run(folder, requests=first(folder, 15))
    assert (on.answered, on.kept) == (5, 10)
    assert len(answers(folder)) == len(booked(folder)) == 15


def test_without_a_bundle_everything_falls_back_and_is_counted(folder: Path) -> None:
    result = run(folder, requests=first(folder, 12), bundle=None)
    assert result.fallbacks == {"there is no certificate": 12}
    assert result.share == {"big": 1.0}


def test_uncovered_groups_are_counted_by_reason(folder: Path, settled: Certification) -> None:
    tasks = make_tasks(settled.trials)[:10]
    for task in tasks[:3]:
        task["group"] = "poems"
    result = run(folder, requests=str(write_jsonl(folder / "mixed.jsonl", tasks)))
    assert list(result.fallbacks.values()) == [3]
    assert "'poems'" in next(iter(result.fallbacks))


# -- audits --------------------------------------------------------------------------------------


def test_an_audit_asks_every_rung_and_scores_every_answer(
    folder: Path, settled: Certification
) -> None:
    result = run(folder, requests=first(folder, 30), audit_share=1.0)
    made = {(t.request_id, t.rung): t for t in settled.trials}
    assert result.audited == 30
    books = booked(folder)
    with Ledger.open(folder / "books.db", read_only=True) as ledger:
        scores = scores_of(ledger)
    audits = Decimal(0)
    for entry in books:
        assert entry.audited
        assert Counter(a.rung for a in entry.attempts) == {"small": 1, "big": 1}
        path = path_of(settled, entry.request_id)
        assert [a.rung for a in entry.attempts if a.role is not Role.AUDIT] == path
        audits += sum(a.charge.usd for a in entry.attempts if a.role is Role.AUDIT)
        for rung in ("small", "big"):
            score = scores[entry.request_id, rung]
            assert score.quality == made[entry.request_id, rung].quality
            assert score.label is Label.TARGET
    assert result.audit_spend.known_usd == audits > 0
    assert result.spend.known_usd == sum(entry.charge.usd for entry in books)


def audited_ids(folder: Path) -> set[str]:
    return {entry.request_id for entry in booked(folder) if entry.audited}


def test_the_audited_share_is_drawn_by_id_and_seed(folder: Path) -> None:
    whole = run(folder, requests=first(folder, 150), audit_share=0.3)
    drawn = audited_ids(folder)
    assert whole.audited == len(drawn)
    assert 0.18 < len(drawn) / 150 < 0.42
    parts = {"ledger": str(folder / "parts.db"), "audit_share": 0.3}
    for number in (1, 2, 57, 150):  # a batch in parts, and so never more than the same draw
        run(folder, requests=first(folder, number), **parts)
    with Ledger.open(folder / "parts.db", read_only=True) as ledger:
        assert {e.request_id for e in entries(ledger) if e.audited} == drawn
    run(
        folder,
        requests=first(folder, 150),
        audit_share=0.3,
        seed=1,
        ledger=str(folder / "other.db"),
    )
    with Ledger.open(folder / "other.db", read_only=True) as ledger:
        assert {e.request_id for e in entries(ledger) if e.audited} != drawn


def test_tasks_without_a_target_are_scored_by_agreement(
    folder: Path, settled: Certification
) -> None:
    tasks = [
        {"request_id": t["request_id"], "text": t["text"]} for t in make_tasks(settled.trials)[:20]
    ]
    run(folder, requests=str(write_jsonl(folder / "open.jsonl", tasks)), audit_share=1.0)
    made = {(t.request_id, t.rung): t for t in settled.trials}
    with Ledger.open(folder / "books.db", read_only=True) as ledger:
        scores = scores_of(ledger)
    assert len(scores) == 40
    for (request_id, rung), score in scores.items():
        assert score.label is Label.AGREEMENT
        agrees = made[request_id, rung].answer == made[request_id, "big"].answer
        assert score.quality == float(agrees)


def test_an_alarm_of_the_audits_sends_the_rest_to_the_reference(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = ReplayEngine.complete

    async def worse(self: ReplayEngine, request: Request, rung: Rung) -> Completion:
        completion = await complete(self, request, rung)
        return replace(completion, text="0") if rung.name == "small" else completion

    monkeypatch.setattr(ReplayEngine, "complete", worse)
    result = run(folder, requests=first(folder, 300), audit_share=1.0)
    (reason,) = result.fallbacks
    assert "alarm" in reason
    assert result.fallbacks[reason] > 200
    later = run(folder)
    assert (later.kept, later.answered) == (300, 100)
    assert later.fallbacks[reason] == 100, "the alarm is in the books"


def test_an_audit_that_fails_loses_nobody_else(
    folder: Path, settled: Certification, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = next(
        t.request_id for t in settled.trials if path_of(settled, t.request_id) == ["small"]
    )

    def before(asked: Request, rung: Rung) -> None:
        if (asked.request_id, rung.name) == (request, "big"):
            raise EngineUnreachable("gone")

    let(monkeypatch, before)
    result = run(folder, requests=first(folder, 30), audit_share=1.0)
    assert (result.answered, result.audited) == (30, 30)
    assert result.audit_spend.unknown_count == 1
    with Ledger.open(folder / "books.db", read_only=True) as ledger:
        assert (request, "big") not in scores_of(ledger)
        assert (request, "small") in scores_of(ledger)


# -- the next certificate ------------------------------------------------------------------------


@pytest.mark.slow
def test_the_next_certificate_comes_from_the_books(folder: Path, settled: Certification) -> None:
    run(folder, audit_share=1.0, store_text=True)
    again = certify_books(folder)
    assert again.result.certified
    assert again.result.label_source is LabelSource.TARGET
    assert sum(again.result.rows.values()) == 400
    assert again.result.share == settled.result.share
    assert again.result.saving == pytest.approx(settled.result.saving)
    assert again.bundle.mean_usd == settled.bundle.mean_usd


def test_without_stored_text_recertifying_says_what_was_missing(folder: Path) -> None:
    run(folder, requests=first(folder, 20), audit_share=1.0)
    with pytest.raises(LedgerError, match="not the text") as caught:
        certify_books(folder)
    assert "store_text" in caught.value.hint


def test_without_audits_recertifying_says_so(folder: Path) -> None:
    run(folder, requests=first(folder, 20), store_text=True)
    with pytest.raises(LedgerError, match="no audited requests"):
        certify_books(folder)


def test_an_audit_cut_off_by_a_kill_is_left_out_and_counted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut(pipeline: Any, task: Any, given: Any) -> None:
        if task.request.request_id != "r3":
            await kept(pipeline, task, given)

    kept = batch_module.audit
    monkeypatch.setattr(batch_module, "audit", cut)
    run(folder, requests=first(folder, 120), audit_share=1.0, store_text=True)
    result = certify_books(folder).result
    assert result.unscored == 1
    assert sum(result.rows.values()) == 119


def test_the_weakest_label_names_the_promise(folder: Path, settled: Certification) -> None:
    tasks = make_tasks(settled.trials)[:120]
    del tasks[7]["target"]
    run(
        folder,
        requests=str(write_jsonl(folder / "mixed.jsonl", tasks)),
        audit_share=1.0,
        store_text=True,
    )
    assert certify_books(folder).result.label_source is LabelSource.AGREEMENT


# -- what goes wrong -----------------------------------------------------------------------------


def test_a_failing_request_is_counted_and_the_batch_goes_on(
    folder: Path, settled: Certification
) -> None:
    broken = [
        replace(t, status=TrialStatus.FAILED, quality=None, error="HTTP 500")
        if t.request_id == "r4"
        else t
        for t in settled.trials
    ]
    write_jsonl(folder / "trials.jsonl", broken)
    result = run(folder, requests=first(folder, 10))
    assert (result.answered, result.failed) == (9, 1)
    assert result.spend.unknown_count == 1, "what the failed calls cost is not known, and not 0"
    statuses = {entry.request_id: entry.status for entry in booked(folder)}
    assert statuses.pop("r4") is Status.FAILED
    assert set(statuses.values()) == {Status.OK}
    again = run(folder, requests=first(folder, 10))
    assert (again.answered, again.kept, again.kept_unanswered) == (0, 10, 1)


def test_what_failed_requests_cost_is_in_the_spend(
    folder: Path, settled: Certification, monkeypatch: pytest.MonkeyPatch
) -> None:
    def before(request: Request, rung: Rung) -> None:
        if rung.name == "big":
            raise EngineRefused("HTTP 400", status=400)

    let(monkeypatch, before)
    result = run(folder, requests=first(folder, 40))
    made = {(t.request_id, t.rung): t for t in settled.trials}
    assert result.failed > 0
    assert result.spend.known_usd == sum(
        made[f"r{i}", "small"].charge_usd
        for i in range(40)
        if path_of(settled, f"r{i}")[0] == "small"
    )


def test_an_engine_that_is_down_stops_the_batch_early(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def before(request: Request, rung: Rung) -> None:
        raise EngineUnreachable("no connection", hint="is it up?", retryable=True)

    let(monkeypatch, before)
    with pytest.raises(EngineUnreachable, match="no connection"):
        run(folder)
    assert 0 < len(booked(folder)) < 20, "requests that were not asked can still be asked"
    monkeypatch.undo()
    result = run(folder)
    assert result.answered + result.kept == 400
    assert result.kept_unanswered == result.kept < 20


def test_failures_now_and_then_do_not_stop_the_batch(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def before(request: Request, rung: Rung) -> None:
        if int(request.request_id.removeprefix("r")) % 3 == 0:
            raise EngineUnreachable("no connection", retryable=True)

    let(monkeypatch, before)
    result = run(folder, requests=first(folder, 60))
    assert (result.answered, result.failed) == (40, 20)


def test_a_refused_key_stops_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def before(request: Request, rung: Rung) -> None:
        raise EngineRefused("HTTP 401", status=401, hint="check the key")

    let(monkeypatch, before)
    with pytest.raises(EngineRefused, match="401"):
        run(folder)
    assert len(booked(folder)) <= 4


def test_a_batch_without_one_answer_raises_why(folder: Path) -> None:
    write_jsonl(folder / "strangers.jsonl", [{"request_id": "x", "text": "who?"}])
    with pytest.raises(EngineError, match="no trial of request 'x'"):
        run(folder, requests=str(folder / "strangers.jsonl"))


def test_a_ledger_that_fails_midway_stops_with_its_own_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, count = Ledger.append, Counter()

    def full(self: Ledger, entry: Entry) -> None:
        count["appended"] += 1
        if count["appended"] > 5:
            raise LedgerError("the disk is full", hint="free some space", retryable=True)
        append(self, entry)

    monkeypatch.setattr(Ledger, "append", full)
    with pytest.raises(LedgerError, match="disk is full"):
        run(folder)
    assert len(booked(folder)) == len(answers(folder)) == 5


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_an_audit_share_out_of_range_is_refused(folder: Path, share: float) -> None:
    with pytest.raises(InputError, match="audit share"):
        run(folder, audit_share=share)


def test_answers_that_cannot_be_written_are_refused_before_any_call(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = let(monkeypatch, lambda request, rung: None)
    with pytest.raises(InputError, match="cannot write"):
        run(folder, out=folder / "suffice.toml" / "answers.jsonl")
    assert not calls


def test_a_ladder_without_the_certified_rungs_is_refused(folder: Path) -> None:
    toml = CONFIG.format(trials=folder / "trials.jsonl").replace('name = "small"', 'name = "tiny"')
    (folder / "suffice.toml").write_text(toml)
    with pytest.raises(ConfigError, match="'small'"):
        run(folder)


def test_no_more_requests_are_in_flight_than_the_engine_takes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, most = Counter(), Counter()
    complete = ReplayEngine.complete

    async def slow(self: ReplayEngine, request: Request, rung: Rung) -> Completion:
        now["calls"] += 1
        most["calls"] = max(most["calls"], now["calls"])
        await asyncio.sleep(0)
        now["calls"] -= 1
        return await complete(self, request, rung)

    monkeypatch.setattr(ReplayEngine, "complete", slow)
    run(folder, requests=first(folder, 30), audit_share=0.5)
    assert 1 < most["calls"] <= 4


def test_trials_of_the_ledger_are_those_of_the_engine(folder: Path, settled: Certification) -> None:
    run(folder, requests=first(folder, 10), audit_share=1.0, store_text=True)
    made = {(t.request_id, t.rung): t for t in settled.trials}
    with Ledger.open(folder / "books.db", read_only=True) as ledger:
        found = labelled_trials(ledger).trials
    assert len(found) == 20
    for trial in found:
        expected = made[trial.request_id, trial.rung]
        same = (
            "text",
            "group",
            "quality",
            "answer",
            "finish",
            "mean_logprob",
            "usage",
            "charge_usd",
        )
        assert [getattr(trial, f) for f in same] == [getattr(expected, f) for f in same]
