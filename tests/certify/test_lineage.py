"""Looks at the same requests share delta, and what was tried stands in the certificate."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from guard_support import certificate
from msgspec.structs import replace

from suffice.certify.bundling import Certification, certify_files, certify_ledger
from suffice.certify.lineage import LineageFile, add_look, look_at, read_lineage, write_lineage
from suffice.certify.promise import Promise
from suffice.certify.recent import since_change
from suffice.certify.target import GroupSource, Target
from suffice.errors import InputError, LedgerError
from suffice.guarantee import LabelSource, to_json
from suffice.guarantee.bounds import clopper_pearson_upper
from suffice.ledger import Attempt, Entry, Label, Ledger, Role, Score, Status
from suffice.types import Charge
from support import make_trials, write_jsonl

TARGET = Target(reference="big", label_source=LabelSource.TARGET)
TRIALS = make_trials(60)
NONE = LineageFile()


def take(file: LineageFile, *, planned: int, trials=TRIALS, **asked: object):
    look = look_at(trials, replace(TARGET, **asked), planned=planned, renewal=False)
    return add_look(file, look)


def test_each_of_the_planned_looks_gets_an_equal_part_and_no_more_are_taken() -> None:
    file = NONE
    for seed in range(3):
        file, lineage = take(file, planned=3, seed=seed)
        assert (lineage.looks, lineage.planned) == (seed + 1, 3)
        assert lineage.seeds == tuple(range(seed + 1))
    with pytest.raises(InputError, match=r"3 of 3 looks .*seeds 0, 1, 2") as caught:
        take(file, planned=3, seed=3)
    assert "--looks" in caught.value.hint
    with pytest.raises(InputError, match="3 looks at these requests were planned, not 9"):
        take(file, planned=9, seed=3)


def test_alphas_are_looks_too_and_the_same_question_twice_is_one() -> None:
    file, _ = take(NONE, planned=2, alpha=0.05)
    file, again = take(file, planned=2, alpha=0.05)
    assert (again.looks, len(file.looks)) == (1, 1)
    file, other = take(file, planned=2, alpha=0.1)
    assert (other.looks, other.alphas) == (2, (0.05, 0.1))


@pytest.mark.parametrize(
    "asked",
    [
        {"groups": GroupSource.TEXT},
        {"random_part": False},
        {"label_source": LabelSource.SCORER},
        {"trials": [replace(t, quality=1.0) for t in TRIALS]},
        {"trials": [t for t in TRIALS if t.rung != TRIALS[0].rung]},
        {"trials": [replace(t, charge_usd=Decimal(1)) for t in TRIALS]},
    ],
    ids=["groups", "no random part", "label source", "other marks", "fewer rungs", "other costs"],
)
def test_whatever_can_change_the_result_makes_a_look_another_one(asked: dict[str, object]) -> None:
    """Trying options or other marks until one passes is trying seeds by another name."""
    file, _ = take(NONE, planned=2)
    file, lineage = take(file, planned=2, **asked)
    assert lineage.looks == 2
    with pytest.raises(InputError, match="delta is spent: 2 of 2 looks"):
        take(file, planned=2, seed=1)


def test_the_order_of_the_trials_and_the_time_make_no_other_look() -> None:
    file, _ = take(NONE, planned=1)
    file, lineage = take(file, planned=1, trials=TRIALS[::-1])
    assert (lineage.looks, len(file.looks)) == (1, 1)


def test_a_look_of_a_file_of_before_is_like_no_other() -> None:
    file, _ = take(NONE, planned=2)
    before = LineageFile(looks=tuple(replace(look, content="") for look in file.looks))
    _, lineage = take(before, planned=2)
    assert lineage.looks == 2


def test_other_requests_have_a_delta_of_their_own() -> None:
    file, _ = take(NONE, planned=1)
    fresh = [replace(t, request_id=f"new-{t.request_id}") for t in TRIALS]
    file, lineage = take(file, planned=1, trials=fresh)
    assert lineage.looks == 1
    with pytest.raises(InputError, match="delta is spent"):
        take(file, planned=1, trials=[*TRIALS, *fresh[:4]], seed=2)


def test_rows_that_were_added_do_not_make_a_look_a_new_one() -> None:
    file, _ = take(NONE, planned=2, trials=make_trials(200))
    _, lineage = take(file, planned=2, trials=make_trials(900))
    assert lineage.looks == 2


def test_the_file_stands_beside_the_folder_and_survives(tmp_path: Path) -> None:
    folder = tmp_path / "policy"
    assert read_lineage(folder) == NONE
    file, _ = take(NONE, planned=2)
    write_lineage(folder, file)
    assert read_lineage(folder) == file
    assert not folder.exists()
    (tmp_path / "policy.lineage.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        read_lineage(folder)


def test_looks_taken_at_the_same_time_are_not_both_written(tmp_path: Path) -> None:
    """Ten seeds tried side by side would otherwise count as one look."""
    folder = tmp_path / "policy"
    one, other = (take(NONE, planned=1, seed=seed)[0] for seed in (0, 1))
    write_lineage(folder, one)
    write_lineage(folder, one)
    with pytest.raises(InputError, match="another command took a look") as caught:
        write_lineage(folder, other)
    assert "one command after another" in caught.value.hint
    assert read_lineage(folder) == one


def certified(path: Path, folder: Path, *, looks: int, seed: int = 0) -> Certification:
    promise = Promise(reference="big", alpha=0.1, delta=0.1, looks=looks, folder=folder, seed=seed)
    found = certify_files([path], promise)
    write_lineage(folder, found.looks)
    return found


def test_a_look_is_tested_at_its_part_of_delta_and_the_certificate_says_so(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "trials.jsonl", make_trials())
    for seed in (0, 1):
        found = certified(path, tmp_path / "policy", looks=4, seed=seed)
        result = found.result
        assert (result.delta, result.lineage.looks) == (0.1, seed + 1)
        assert result.bound == clopper_pearson_upper(int(result.losses), result.n, delta=0.1 / 4)
        certificate = result.certificate
        assert certificate.terms.lineage == result.lineage
        assert (certificate.delta, certificate.tests) == (0.1, 4)
    plan = result.lineage.plan(0.1)
    assert "look 2 of 4 that share delta 0.1: each is tested at 0.025 (seeds 0, 1" in plan


def test_one_look_has_all_of_delta(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "trials.jsonl", make_trials())
    found = certified(path, tmp_path / "policy", looks=1)
    assert found.result.bound == clopper_pearson_upper(
        int(found.result.losses), found.result.n, delta=0.1
    )
    with pytest.raises(InputError, match="delta is spent"):
        certified(path, tmp_path / "policy", looks=1, seed=1)


# -- renewals ------------------------------------------------------------------------------------


NOON, MINUTE = datetime(2026, 3, 1, 12, tzinfo=UTC), timedelta(minutes=1)


def book(ledger: Ledger, first: int, wrong: list[bool], *, under: str | None = None) -> None:
    """Book audited requests a minute apart that the cheap rung answered, with marks of both."""
    for at, lost in enumerate(wrong, start=first):
        time, attempts = NOON + at * MINUTE, []
        for rung, role in (("small", Role.ANSWER), ("big", Role.AUDIT)):
            charge = Charge(usd=Decimal("0.001") if rung == "small" else Decimal("0.01"))
            attempts.append(Attempt(rung=rung, role=role, charge=charge, answer="a", time=time))
        ledger.append(
            Entry(
                request_id=f"r{at}",
                time=time,
                status=Status.OK,
                reference_rung="big",
                rung="small",
                audited=True,
                certificate_id=under,
                text=f"question number {at}",
                attempts=tuple(attempts),
            )
        )
        ledger.score(
            Score(request_id=f"r{at}", time=time, quality=q, label=Label.TARGET, rung=rung)
            for rung, q in (("small", float(not lost)), ("big", 1.0))
        )


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "books.db", store_text=True) as opened:
        yield opened


def renew(ledger: Ledger, **more: object) -> Certification:
    promise = Promise(reference="big", alpha=0.1, delta=0.1, **more.pop("promised", {}))
    return certify_ledger(ledger, promise, say=lambda _stage: None, **more)


def test_a_renewal_plans_for_a_year_and_names_what_it_renews(ledger: Ledger) -> None:
    served = certificate(groups=(), reference="big")
    ledger.keep_certificate(served.certificate_id, to_json(served).decode())
    book(ledger, 0, [False] * 300)
    lineage = renew(ledger).result.lineage
    assert (lineage.planned, lineage.renewal) == (12, True)
    assert lineage.carries == (served.certificate_id,)


def test_after_an_alarm_only_later_requests_count(ledger: Ledger) -> None:
    served = certificate(groups=(), reference="big", label_source=LabelSource.TARGET)
    ledger.keep_certificate(served.certificate_id, to_json(served).decode())
    book(ledger, 0, [False] * 300, under=served.certificate_id)
    book(ledger, 300, [True] * 40, under=served.certificate_id)
    with pytest.raises(InputError, match=r"\d+ scored requests are too few"):
        renew(ledger)
    book(ledger, 340, [False] * 300, under=served.certificate_id)
    found = renew(ledger)
    [note] = [note for note in found.notes if "an alarm fell at" in note]
    assert "only requests after it count" in note
    assert 300 <= sum(found.result.rows.values()) < 340
    assert found.result.lineage.carries == ()


def test_since_leaves_earlier_requests_out(ledger: Ledger) -> None:
    book(ledger, 0, [i % 2 == 0 for i in range(100)])
    book(ledger, 100, [False] * 300)
    found = renew(ledger, since=NOON + 100 * MINUTE)
    assert sum(found.result.rows.values()) == 300
    with pytest.raises(LedgerError, match="since 2027"):
        renew(ledger, since=datetime(2027, 1, 1, tzinfo=UTC))


def test_requests_from_before_losses_became_frequent_do_not_count(ledger: Ledger) -> None:
    book(ledger, 0, [False] * 1000)
    book(ledger, 1000, [i % 3 == 0 for i in range(200)])
    found = renew(ledger)
    assert found.result.part < 0.5
    assert any("lose more than those before" in note for note in found.notes)
    assert sum(found.result.rows.values()) == 200


def test_a_session_is_compared_once_and_unscored_answers_are_worth_nothing() -> None:
    trials = [
        replace(
            trial,
            request_id=f"{turn}-{trial.request_id}",
            cluster=f"s{trial.request_id}",
            quality=None if trial.rung == "small" and int(trial.request_id[1:]) >= 400 else 1.0,
        )
        for trial in make_trials(500)
        for turn in range(2)
    ]
    notes: list[str] = []
    kept = since_change(trials, reference="big", note=notes.append)
    assert {trial.request_id for trial in kept} == {
        f"{turn}-r{at}" for turn in range(2) for at in range(400, 500)
    }
    assert len(notes) == 1
