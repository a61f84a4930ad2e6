"""The page shows the books and the guard, says unknown where it is, and runs nobody else's code."""

import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import pytest
from msgspec.structs import replace

from suffice.gateway.dashboard import Snapshot, render, snapshot
from suffice.guarantee import (
    Certificate,
    GroupMonitors,
    LabelSource,
    Method,
    Per,
    RiskKind,
    Scope,
    Splits,
    Terms,
    update_many,
)
from suffice.ledger import Attempt, Entry, Ledger, ReferenceKnown, Role, Status, Window
from suffice.scoring.guard_state import GuardState, fresh
from suffice.types import Charge, Spend, Vector

NOW = datetime(2026, 3, 8, 15, 30, tzinfo=UTC)
WEEK = Window(since=NOW - timedelta(days=7))
HOSTILE = "<script>alert('x')</script>\"&\ud800"


def certificate(*groups: str) -> Certificate:
    terms = Terms(
        policy_hash="p",
        reference="big",
        label_source=LabelSource.AGREEMENT,
        splits=Splits(fit="a", certify="b"),
        scope=Scope(groups=groups),
        created=NOW - timedelta(days=8),
        lapses_at=NOW + timedelta(days=22),
    )
    return Certificate(
        form=2, certificate_id="5f2d9a0c", alpha=0.05, delta=0.1, method=Method.BINOMIAL, index=3,
        risk_kind=RiskKind.EXCESS_OVER_REFERENCE, per=Per.REQUEST, tests=9, n=620, clusters=620,
        largest=1, losses=17.0, bound=0.0488, human_n=None, terms=terms, limits=(),
    )  # fmt: skip


def guard(made: Certificate, losses: dict[str, list[float]], *, pooled: list[float]) -> GuardState:
    state = fresh(made)
    groups = {name: update_many(state.monitors.groups[name], each) for name, each in losses.items()}
    monitors = GroupMonitors(groups=groups, pooled=update_many(state.monitors.pooled, pooled))
    fallen = {name: NOW for name, each in groups.items() if each.alarm_at is not None}
    return replace(
        state, monitors=monitors, alarm_times=fallen, unlabelled=3, as_of=NOW,
        audit_spend=Spend(reported_usd=Decimal("1.25"), reported_count=40, unknown_count=1),
    )  # fmt: skip


def book(ledger: Ledger, name: str, **more: object) -> None:
    usd = more.pop("usd", "0.001")
    rung = more.get("rung", "small")
    facts = {
        "time": NOW - timedelta(hours=1),
        "status": Status.OK,
        "rung": "small",
        "reference_rung": "big",
        "vector": Vector.NONE if rung == "big" else Vector.OUTPUT,
        "reference_usd": Decimal("0.004"),
        "reference_known": ReferenceKnown.ESTIMATED,
    } | more
    call = Attempt(
        rung=str(rung or "small"),
        role=Role.ANSWER if rung else Role.DISCARDED,
        charge=Charge(usd=None if usd is None else Decimal(str(usd))),
        duration_s=more.pop("took", 0.2),
        error=None if rung else "it went silent",
    )
    facts.pop("took", None)
    ledger.append(Entry(request_id=name, attempts=(call,), **facts))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "suffice.db") as opened:
        yield opened


def look(ledger: Ledger, **more: object) -> Snapshot:
    return snapshot(ledger, window=WEEK, now=NOW, **more)


class Page(HTMLParser):
    """The words that are shown, the tags, and the scripts, of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words = ""
        self._inside = ""
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._inside = tag
        assert not any(name in ("src", "href") or name.startswith("on") for name, _ in attrs)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside != "style":
            self.words += f" {data}"


def words(shown: Snapshot) -> str:
    return re.sub(r"\s+", " ", Page(render(shown)).words)


def test_an_empty_ledger_says_so(ledger: Ledger) -> None:
    said = words(look(ledger))
    assert "No requests yet" in said
    assert "No certificate: the reference answers everything" in said
    assert "$0.00" not in said.split("How well")[0].replace("$0.00 every charge known", "")


def test_the_page_says_what_was_spent_saved_and_by_whom(ledger: Ledger) -> None:
    for i in range(3):
        book(ledger, f"s{i}", usd="1", reference_usd=Decimal(4))
    book(ledger, "b", rung="big", usd="4", reference_usd=Decimal(4))
    book(ledger, "f", rung=None, status=Status.FAILED, usd=None, reference_usd=None,
         vector=Vector.NONE, reference_known=ReferenceKnown.UNKNOWN)  # fmt: skip
    said = words(look(ledger))
    assert "56.2 % less than the reference alone" in said
    assert "$7.00 spent; the reference alone would have cost $16.00" in said
    assert "$9.00 saved, by what saved it" in said
    assert "75.0 % answered below the reference" in said
    assert "big (reference)" in said
    assert "1 request without an answer, 1 failed call" in said
    assert "1 unknown on top" in said


def test_a_loss_is_not_called_a_saving(ledger: Ledger) -> None:
    book(ledger, "dear", usd="5", reference_usd=Decimal(4))
    said = words(look(ledger))
    assert "25.0 % more than the reference alone" in said
    assert "\u2212$1.00 saved" in said


def test_what_is_unknown_is_shown_as_unknown(ledger: Ledger) -> None:
    book(ledger, "r", usd=None, reference_usd=None, reference_known=ReferenceKnown.UNKNOWN)
    said = words(look(ledger))
    assert "what they saved is unknown" in said
    assert "Spend against the reference: unknown" in said
    assert "spent unknown" in said


def test_percentiles_are_durations_that_were_seen(ledger: Ledger) -> None:
    for i in range(1, 201):
        book(ledger, f"r{i}", took=i / 10)
    book(ledger, "old", took=99.0, time=NOW - timedelta(days=30))
    (found,) = look(ledger).latencies
    assert (found.rung, found.answers) == ("small", 200)
    assert (found.p50_s, found.p95_s, found.p99_s) == (10.0, 19.0, 19.8)


def test_the_guard_is_shown_by_group_and_an_alarm_is_loud(ledger: Ledger) -> None:
    made = certificate("sums", "law")
    state = guard(made, {"sums": [0.0] * 90, "law": [1.0] * 9}, pooled=[0.0] * 7)
    book(ledger, "r")
    said = words(look(ledger, guard=state, certificate=made))
    assert "alarm: law" in said
    assert "the reference answers for law until there is a new certificate" in said
    assert "0 lost in 90 audits (0.0 %); alpha 5.0 %" in said
    assert "all requests" in said
    assert "$1.25, and 1 call of unknown charge" in said
    quiet = words(look(ledger, guard=guard(made, {}, pooled=[0.0] * 9), certificate=made))
    assert "certified and watched" in quiet
    assert "No alarm in 9 audits" in quiet


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (None, "certified, not watched yet"),
        ("blind", "nobody watches"),
        ("lapsed", "certificate lapsed"),
    ],
)
def test_a_certificate_that_does_not_stand_is_not_shown_as_if(
    ledger: Ledger, state: str | None, expected: str
) -> None:
    made = certificate()
    shown = look(ledger, certificate=made)
    if state == "lapsed":
        shown = replace(shown, time=made.terms.lapses_at, guard=guard(made, {}, pooled=[]))
    if state == "blind":
        shown = replace(shown, guard=replace(guard(made, {}, pooled=[]), silent=12))
        assert "the last 12 audits got no label" in words(shown)
    assert expected in words(shown)
    assert "certified and watched" not in words(shown)


def test_a_pause_of_audits_says_since_when(ledger: Ledger) -> None:
    made = certificate()
    state = replace(guard(made, {}, pooled=[]), paused_since=NOW - timedelta(hours=2))
    assert "Audits pause since 8 Mar 13:30 UTC" in words(look(ledger, guard=state))


def test_hostile_names_are_only_text(ledger: Ledger) -> None:
    book(ledger, "r", rung=HOSTILE.replace("\ud800", ""), group=HOSTILE, reference_rung="<b>")
    made = certificate(HOSTILE)
    state = guard(made, {HOSTILE: [1.0] * 30}, pooled=[])
    page = render(look(ledger, guard=state, certificate=made))
    assert Page(page).tags.count("script") == 1
    assert "alert" not in "".join(Page(page).scripts)
    assert "alert('x')" in Page(page).words
    assert "b" not in set(Page(page).tags) - {"b"}
    assert page.count("<b>") == page.count("</b>")


def test_the_page_asks_nobody_else_for_anything(ledger: Ledger) -> None:
    book(ledger, "r")
    page = render(look(ledger))
    assert "http" not in page.replace("http-equiv", "")
    assert "@import" not in page
    assert "url(" not in page
    assert "default-src 'none'" in page


def showcase(ledger: Ledger) -> Snapshot:
    """A week of traffic with everything in it, for the screenshots that people look at."""
    draw = random.Random(4)
    kinds = (
        ("latent", Vector.PARADIGM, "0.0001", 0.01), ("small-low", Vector.OUTPUT, "0.0021", 0.6),
        ("small-high", Vector.OUTPUT, "0.0052", 1.9), ("moe", Vector.ARCHITECTURE, "0.0033", 1.1),
        ("big", Vector.NONE, "0.0140", 3.8),
    )  # fmt: skip
    for i in range(900):
        rung, vector, usd, took = draw.choices(kinds, (20, 34, 8, 14, 24))[0]
        book(
            ledger, f"r{i}", rung=rung, vector=vector, usd=None if i % 41 == 0 else usd,
            time=NOW - timedelta(hours=draw.random() ** 1.3 * 160), group="sums",
            reference_usd=Decimal("0.0140"), audited=draw.random() < 0.05,
            took=took * draw.lognormvariate(0, 0.5),
        )  # fmt: skip
    for i in range(9):
        book(ledger, f"f{i}", rung=None, status=Status.FAILED, usd=None, reference_usd=None,
             vector=Vector.NONE, reference_known=ReferenceKnown.UNKNOWN)  # fmt: skip
    made = certificate("sums", "law", "support tickets")
    losses = {name: [float(draw.random() < risk) for _ in range(n)]
              for name, risk, n in (("sums", 0.03, 300), ("law", 0.5, 60),
                                    ("support tickets", 0.12, 90))}  # fmt: skip
    return look(ledger, guard=guard(made, losses, pooled=[0.0] * 12), certificate=made)
