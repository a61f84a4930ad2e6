"""What is exposed is well formed, adds up, and stands in docs/metrics.md."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace

from suffice.errors import InputError
from suffice.gateway.metrics import families as f
from suffice.gateway.metrics.record import Times, measure_guard, measure_off_path, measure_request
from suffice.gateway.metrics.registry import Metrics, expose, gather, publish
from suffice.guarantee import GroupMonitors, update_many, watch_groups
from suffice.ledger import Attempt, Entry, ReferenceKnown, Role, Status
from suffice.scoring.guard_state import GuardState
from suffice.types import Charge, Count, CountSource, Usage, Vector

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LABEL = r'[a-z_]+="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"([a-z_]+){{({LABEL}(?:,{LABEL})*)}} (\S+)")
Sample = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: str) -> Sample:
    """Read an exposition strictly: help, type and then the samples of one family after another."""
    found: Sample = {}
    family = ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            assert line.split()[2] != family
            family = line.split()[2]
        elif line.startswith("# TYPE "):
            assert line.split()[2] == family
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            name, labels, value = match.groups()
            assert re.fullmatch(rf"{family}(_bucket|_sum|_count)?", name)
            pairs = frozenset(
                (pair.split("=", 1)[0], pair.split("=", 1)[1][1:-1])
                for pair in re.findall(LABEL, labels)
            )
            assert (name, pairs) not in found
            found[name, pairs] = float(value)
    return found


def shown(metrics: Metrics) -> Sample:
    return read(expose({"0": metrics.values()}))


def at(sample: Sample, name: str, **labels: str) -> float:
    return sample[name, frozenset({"worker": "0", **labels}.items())]


def attempt(rung: str = "small", usd: str | None = "0.001", **more: object) -> Attempt:
    charge = Charge(usd=None if usd is None else Decimal(usd))
    usage = Usage(
        input_tokens=Count(100, CountSource.REPORTED), output_tokens=Count(11, CountSource.COUNTED)
    )
    facts = {"role": Role.ANSWER, "charge": charge, "usage": usage, "duration_s": 0.3} | more
    return Attempt(rung=rung, **facts)


ENTRY = Entry(
    request_id="r1",
    time=NOON,
    status=Status.OK,
    rung="small",
    reference_rung="big",
    vector=Vector.OUTPUT,
    attempts=(attempt(),),
    reference_usd=Decimal("0.004"),
    reference_known=ReferenceKnown.ESTIMATED,
)
TIMES = Times(total_s=0.5, first_token_s=0.1, decision_s=0.0002)


def measured(*entries: Entry, times: Times = TIMES) -> Sample:
    metrics = Metrics()
    for entry in entries:
        measure_request(metrics, entry, times=times)
    return shown(metrics)


# -- documentation -------------------------------------------------------------------------------


def test_every_metric_is_documented_with_its_kind_and_labels_and_no_other() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \| (\w+) \| (.*?) \|", DOCS.read_text("utf-8"), re.M)
    documented = {
        name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows
    }
    assert documented == {family.name: (family.kind, family.labels) for family in f.FAMILIES}


def test_all_families_are_listed_once_and_named_as_prometheus_asks() -> None:
    made = [each for each in vars(f).values() if isinstance(each, f.Family)]
    assert sorted(each.name for each in made) == sorted(each.name for each in f.FAMILIES)
    for family in f.FAMILIES:
        assert family.name.endswith("_total") == (family.kind == "counter")
        assert (family.kind == "histogram") == bool(family.buckets)
        assert list(family.buckets) == sorted(set(family.buckets))


# -- a request -----------------------------------------------------------------------------------


def test_a_request_is_counted_with_its_tokens_seconds_and_dollars() -> None:
    sample = measured(ENTRY, ENTRY)
    assert at(sample, "suffice_requests_total", rung="small", status="ok") == 2
    tokens = {"rung": "small", "gen_ai_token_type": "input", "source": "reported"}
    assert at(sample, "gen_ai_client_token_usage_sum", **tokens) == 200
    assert at(sample, "gen_ai_client_token_usage_count", **tokens) == 2
    money = {"vector": "output", "known": "reported"}
    assert at(sample, "suffice_charge_usd_total", **money) == pytest.approx(0.002)
    guessed = money | {"known": "estimated"}
    assert at(sample, "suffice_reference_usd_total", **guessed) == pytest.approx(0.008)
    assert at(sample, "suffice_saving_usd", **guessed) == pytest.approx(0.006)
    pace = at(sample, "gen_ai_server_time_per_output_token_seconds_sum", rung="small")
    assert pace == pytest.approx(2 * 0.4 / 10)
    assert at(sample, "suffice_decision_seconds_bucket", le="0.0001") == 0
    assert at(sample, "suffice_decision_seconds_bucket", le="0.00025") == 2


def test_unknown_dollars_are_counted_and_add_nothing() -> None:
    unknown = replace(
        ENTRY, attempts=(attempt(usd=None),), reference_usd=None,
        reference_known=ReferenceKnown.UNKNOWN,
    )  # fmt: skip
    sample = measured(unknown)
    assert at(sample, "suffice_charge_unknown_total", vector="output") == 1
    assert at(sample, "suffice_reference_unknown_total", vector="output") == 1
    assert not any("usd" in name for name, _ in sample)


def test_an_answer_that_cost_more_lowers_the_saving() -> None:
    dear = replace(ENTRY, reference_usd=Decimal("0.0004"), reference_known=ReferenceKnown.MEASURED)
    sample = measured(dear)
    saving = at(sample, "suffice_saving_usd", vector="output", known="reported")
    assert saving == pytest.approx(-0.0006)


def test_a_failed_request_has_calls_but_no_rung_and_no_pace() -> None:
    failed = replace(
        ENTRY, status=Status.FAILED, rung=None, vector=Vector.NONE, reference_usd=None,
        attempts=(attempt(role=Role.DISCARDED, error="gone", usage=Usage(), duration_s=None),),
    )  # fmt: skip
    sample = measured(failed, times=Times(total_s=2.0))
    assert at(sample, "suffice_requests_total", rung="none", status="failed") == 1
    assert at(sample, "suffice_calls_total", rung="small", role="discarded", outcome="failed") == 1
    assert not any("token" in name for name, _ in sample)


def test_audits_are_apart_from_serving() -> None:
    metrics = Metrics()
    measure_off_path(metrics, attempt("big", "0.02", role=Role.AUDIT))
    measure_off_path(metrics, attempt("big", None, role=Role.AUDIT))
    sample = shown(metrics)
    assert at(sample, "suffice_audit_charge_usd_total", known="reported") == 0.02
    assert at(sample, "suffice_audit_charge_unknown_total") == 1
    assert at(sample, "suffice_calls_total", rung="big", role="audit", outcome="ok") == 2
    assert not any(name.startswith("suffice_charge") for name, _ in sample)


# -- the guard -----------------------------------------------------------------------------------


def guard_state(*groups: str) -> GuardState:
    monitors = watch_groups(dict.fromkeys(groups, 0.1), alpha=0.1, delta=0.2)
    bad = {name: update_many(each, [1.0] * 9) for name, each in monitors.groups.items()}
    return GuardState(
        certificate_id="c1",
        monitors=GroupMonitors(groups=bad, pooled=monitors.pooled),
        alarm_times=dict.fromkeys(groups, NOON),
        unlabelled=4,
        as_of=NOON,
    )


def test_the_guard_is_shown_by_group_and_an_old_certificate_goes() -> None:
    metrics = Metrics()
    measure_guard(metrics, guard_state("old"), certificate=None)
    state = replace(guard_state("sums"), paused_since=NOON + timedelta(hours=1))
    measure_guard(metrics, state, certificate=None)
    sample = shown(metrics)
    assert at(sample, "suffice_guard_alarm", group="sums") == 1
    assert at(sample, "suffice_guard_alarm", group="all") == 0
    wealth = at(sample, "suffice_guard_wealth", group="sums")
    assert wealth >= at(sample, "suffice_guard_wealth_limit", group="sums") == pytest.approx(10)
    assert at(sample, "suffice_guard_unlabelled_audits") == 4
    assert at(sample, "suffice_guard_blind") == 0
    assert at(sample, "suffice_audits_paused") == 1
    assert not any(("group", "old") in labels for _, labels in sample)


# -- the format ----------------------------------------------------------------------------------


def test_hostile_labels_cannot_break_out() -> None:
    metrics = Metrics()
    name = 'a"b\\c\nsuffice_fake_total 1 \ud800'
    metrics.add(f.QUEUED, (name,), 2.0)
    ((_, labels),) = shown(metrics)
    assert ("rung", r"a\"b\\c\nsuffice_fake_total 1 ?") in labels


def test_buckets_are_cumulative_and_a_value_on_a_bound_is_below_it() -> None:
    metrics = Metrics()
    for value in (0.0, f.DECISION_SECONDS.buckets[0], 1e-4, 99.0):
        metrics.observe(f.DECISION_SECONDS, value=value)
    sample = shown(metrics)
    counts = [at(sample, "suffice_decision_seconds_bucket", le=str(b)) for b in (2.5e-05, 0.0001)]
    assert counts == [2, 3]
    assert at(sample, "suffice_decision_seconds_bucket", le="+Inf") == 4
    assert at(sample, "suffice_decision_seconds_count") == 4
    assert at(sample, "suffice_decision_seconds_sum") == pytest.approx(99.000125)


def test_wrong_labels_are_refused() -> None:
    with pytest.raises(InputError, match="takes labels"):
        Metrics().add(f.REQUESTS, ("small",))


def test_any_worker_answers_for_all(tmp_path: Path) -> None:
    for worker, times in (("0", 1), ("1", 3)):
        metrics = Metrics()
        for _ in range(times):
            measure_request(metrics, ENTRY, times=TIMES)
        publish(tmp_path, worker, metrics, now_s=1000.5)
        publish(tmp_path, worker, metrics, now_s=1001.5)
    sample = read(expose(gather(tmp_path)))
    by_worker = {
        dict(labels)["worker"]: value
        for (name, labels), value in sample.items()
        if name == "suffice_requests_total"
    }
    assert by_worker == {"0": 1, "1": 3}
    assert at(sample, "suffice_worker_published_timestamp_seconds") == 1001.5
