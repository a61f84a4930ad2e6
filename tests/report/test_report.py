"""A report is one page that needs nothing else, says what its numbers say, and hides no unknown."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import altair as alt
import msgspec
import pytest
import vl_convert
from jsonschema import ValidationError
from msgspec.structs import replace

from suffice.errors import InputError
from suffice.ledger import (
    Attempt,
    Entry,
    Flow,
    Ledger,
    ReferenceKnown,
    Role,
    Status,
    Window,
)
from suffice.report import charts
from suffice.report.build import build_report
from suffice.report.charts import script, spec
from suffice.report.headline import trials_opening
from suffice.report.ledger_figures import ledger_figures
from suffice.report.ledger_summary import LedgerReport, ledger_report
from suffice.report.style import PALETTE, VECTORS
from suffice.report.summary import (
    BaselineFigures,
    CertifyVerdict,
    Side,
    TokenSpread,
    TrialsReport,
    side,
    token_spreads,
)
from suffice.report.trial_figures import show_cost, trial_figures
from suffice.trials.frontier import frontier
from suffice.trials.table import CostUnit
from suffice.types import Charge, Count, CountSource, Trial, TrialStatus, Usage, Vector

NOW = datetime(2026, 3, 10, tzinfo=UTC)
REPORTED, ESTIMATED = CountSource.REPORTED, CountSource.ESTIMATED
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
CHROMIUM = shutil.which("chromium")


def trial(
    i: int,
    rung: str,
    *,
    right: bool,
    tokens: int | None,
    usd: str | None,
    source: CountSource = REPORTED,
) -> Trial:
    count = None if tokens is None else Count(tokens, source)
    return Trial(
        request_id=f"r{i}",
        rung=rung,
        status=TrialStatus.SCORED,
        text="",
        group=f"g{i % 12}",
        quality=float(right),
        usage=Usage(output_tokens=count),
        charge_usd=None if usd is None else Decimal(usd),
    )


def trials(*, cheap: str = "low", usd: bool = True) -> list[Trial]:
    """Make 60 requests: the cheap rung is right on 3 of 4 at a tenth of the tokens."""
    price = {"low": "0.0001", "high": "0.001"} if usd else {"low": None, "high": None}
    return [
        made
        for i in range(60)
        for made in (
            trial(i, cheap, right=i % 4 != 0, tokens=10 + i % 7, usd=price["low"]),
            trial(i, "high", right=i % 10 != 0, tokens=130 + i, usd=price["high"]),
        )
    ]


VERDICT = CertifyVerdict(
    certified=True,
    alpha=0.05,
    delta=0.1,
    n=3018,
    losses=118,
    bound=0.0447,
    risk_kind="excess_over_reference",
    share={"low": 0.6, "high": 0.4},
    risk=0.0391,
    saving=0.412,
    quality=0.871,
    reference_quality=0.894,
    baselines={
        "cost_matched_random": BaselineFigures(risk=0.093, saving=0.412),
        "always_cheapest": BaselineFigures(risk=0.281, saving=0.9),
        "oracle": BaselineFigures(risk=0.0, saving=0.7),
    },
    certificate_id="c0ffee",
    label_source="target",
    lapses_at=NOW + timedelta(days=30),
    limits=("Errors of the reference rung itself are not covered.",),
)


def test_a_report_names_the_rung_that_would_do_as_the_reference() -> None:
    verdict = replace(VERDICT, use_as_reference="low")
    assert "use low as your reference" in trials_opening(trials_report(verdict=verdict)).lede
    assert "as your reference" not in trials_opening(trials_report()).lede


def trials_report(**more: object) -> TrialsReport:
    made = trials()
    facts: dict[str, object] = {
        "source": "trials.jsonl",
        "made": NOW,
        "reference": "high",
        "requests": 60,
        "frontier": frontier(made),
        "tokens": token_spreads(made),
        "verdict": VERDICT,
        "sides": (
            side("high alone", [[t] for t in made if t.rung == "high"]),
            side("suffice", [[t] for t in made if t.rung == "low"]),
        ),
        "flow": (
            Flow(first="low", answered="low", requests=36),
            Flow(first="low", answered="high", requests=24),
        ),
    }
    return TrialsReport(**(facts | more))


def entry(i: int, **more: object) -> Entry:
    """Make a request that cost a tenth of a cent, where the reference would have cost one."""
    used = Usage(input_tokens=Count(100, REPORTED), output_tokens=Count(10, REPORTED))
    facts: dict[str, object] = {
        "time": NOW - timedelta(days=1 + i % 5),
        "status": Status.OK,
        "rung": "low",
        "reference_rung": "high",
        "vector": Vector.OUTPUT,
        "group": f"team {i % 2}",
        "attempts": (
            Attempt(
                rung="low",
                role=Role.ANSWER,
                usage=used,
                charge=Charge(usd=Decimal("0.001"), estimated=i % 10 == 0),
            ),
        ),
        "reference_usd": Decimal("0.01"),
        "reference_known": ReferenceKnown.ESTIMATED,
    }
    return Entry(request_id=f"r{i}", **(facts | more))


@pytest.fixture
def books(tmp_path: Path) -> Callable[..., LedgerReport]:
    def make(*made: Entry, window: Window | None = None) -> LedgerReport:
        with Ledger.open(tmp_path / "suffice.db") as ledger:
            ledger.append_many(made)
            return ledger_report(ledger, made=NOW, window=window or Window())

    return make


class Page(HTMLParser):
    """The parts of a page that the tests ask about; raises when tags do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.script = self.hidden = ""
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in {"meta"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        if self.open and self.open[-1] == "script":
            self.script += text
        elif self.open and self.open[-1] == "style":
            self.hidden += text
        else:
            self.words.append(text)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).replace("\N{NO-BREAK SPACE}", " ").split())

    def count(self, tag: str, name: str) -> int:
        return sum(each[:2] == (tag, name) for each in self.attributes)


def page(report: TrialsReport | LedgerReport) -> Page:
    return Page(build_report(report))


def test_the_page_asks_for_nothing_outside_itself(books: Callable[..., LedgerReport]) -> None:
    for report in (trials_report(), books(*(entry(i) for i in range(20)))):
        html = build_report(report)
        built = Page(html)
        assert not [a for a in built.attributes if a[1] in {"src", "href", "srcset", "data"}]
        assert "url(" not in built.hidden
        assert "@import" not in built.hidden
        assert "default-src 'none'" in html
        assert len(html) < 1_500_000


def test_every_figure_has_words_and_a_table_for_those_who_cannot_see_it() -> None:
    figures = list(trial_figures(trials_report()))
    built = page(trials_report())
    assert built.count("figure", "data-chart") == len(figures) == 5
    labels = [
        value for tag, name, value in built.attributes if (tag, name) == ("figure", "aria-label")
    ]
    assert all(len(label) > 20 for label in labels)
    for figure in figures:
        assert figure.rows
        assert all(len(row) == len(figure.header) for row in figure.rows)


def test_every_chart_is_valid_vega_lite(books: Callable[..., LedgerReport]) -> None:
    """Pages are written without validating: it takes half of the time."""
    report = books(*(entry(i) for i in range(8)))
    figures = [*ledger_figures(report), *trial_figures(trials_report())]
    charts = [json.loads(spec(figure)) for figure in figures if figure.chart is not None]
    assert len(charts) > 8
    for chart in charts:
        alt.Chart.from_dict(chart)
    del charts[0]["layer"]
    with pytest.raises(ValidationError):
        alt.Chart.from_dict(charts[0])


def test_channels_are_no_shorthands(
    books: Callable[..., LedgerReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Altair goes through all its schemas for each `text="name:N"`: a fifth of a page's time."""
    monkeypatch.setattr(alt.SchemaBase, "from_dict", None)
    assert list(ledger_figures(books(*(entry(i) for i in range(8)))))
    assert list(trial_figures(trials_report()))


def test_the_script_is_made_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def bundle(snippet: str, *, vl_version: str) -> str:
        made.append(vl_version)
        return f"vega {snippet}"

    monkeypatch.setattr(vl_convert, "javascript_bundle", bundle)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    first = script.__wrapped__()
    assert script.__wrapped__() == first
    assert first.startswith("vega ")
    assert len(made) == 1
    monkeypatch.setattr(charts, "VEGALITE", "5.8")
    assert script.__wrapped__() == first
    assert len(made) == 2
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert script.__wrapped__() == first, "a cache that cannot be written to changes nothing"


def test_the_trials_page_says_what_was_certified() -> None:
    text = page(trials_report()).text
    assert "41.2 % of the cost saved, within a certified risk" in text
    assert "With 90 % confidence, at most 5 % of requests get a worse answer than high" in text
    assert "P(risk \u2264 0.05) \u2265 0.9" in text
    assert "Errors of the reference rung itself are not covered." in text
    assert "c0ffee" in text
    assert "118 lost; bound 4.5 %" in text
    assert "2026-04-09 00:00 UTC" in text


def rows(figure: object) -> dict[str, tuple[str, ...]]:
    return {row[0]: row[1:] for row in figure.rows}


def test_the_figures_on_trials_carry_the_numbers_that_they_were_given() -> None:
    choice, front, flow, identity, tokens = trial_figures(trials_report())
    assert rows(choice) == {
        "suffice": ("41.2 %", "3.9 %"),
        "always the reference": ("0.0 %", "0.0 %"),
        "random at this cost": ("41.2 %", "9.3 %"),
        "always the cheapest": ("90.0 %", "28.1 %"),
        "oracle": ("70.0 %", "0.0 %"),
    }
    assert "3.9 %; choosing at random for the same cost, 9.3 %" in choice.title
    assert rows(front)["low"][1].startswith("75.0 % (")
    assert "\u201chigh\u201d on 90.0 % for 10 times the dollars" in front.title
    assert rows(flow) == {"tried first": ("100.0 %", "0.0 %"), "answered": ("60.0 %", "40.0 %")}
    assert identity.title == "A request costs 10 times less than with high alone"
    assert rows(identity)["decodes per request"] == ("1", "1", "\u00f7 1")
    assert rows(tokens)["high"] == ("60", "133", "145", "160", "174", "186")


def test_rungs_with_scores_on_different_requests_are_not_set_against_each_other() -> None:
    easy = [t for t in trials() if t.rung == "high" or int(t.request_id[1:]) % 4]
    front = list(trial_figures(trials_report(frontier=frontier(easy))))[1]
    assert front.title == "Quality against cost, each rung on its own requests"
    assert rows(front)["low"][1].startswith("100.0 % (")


def test_a_cost_per_answer_keeps_three_digits_above_a_cent() -> None:
    shown = [show_cost(usd, CostUnit.USD) for usd in (0.00653, 0.0117, 0.0149, 0.256, 3.14159)]
    assert shown == ["$0.00653", "$0.0117", "$0.0149", "$0.256", "$3.14"]


def test_the_four_parts_of_the_identity_multiply() -> None:
    made = trials()
    path = [[low, high] for low, high in zip(made[::2], made[1::2], strict=True)]
    both = side("suffice", path)
    assert both.decodes_per_request == 2
    assert both.tokens_per_decode == pytest.approx(
        sum(t.usage.output_tokens.tokens for t in made if t.usage.output_tokens) / 120
    )
    assert both.usd_per_request == pytest.approx(0.0011)


def test_an_identity_with_an_unknown_part_is_not_drawn() -> None:
    unpriced = [[trial(1, "low", right=True, tokens=5, usd=None)]]
    sides = (side("high alone", unpriced), side("suffice", unpriced))
    identity = list(trial_figures(trials_report(sides=sides)))[3]
    assert identity.chart is None
    assert "lack a charge or a token count" in identity.caption


def test_every_vector_has_a_name_for_readers() -> None:
    assert set(VECTORS) == {each.value for each in Vector}


def test_a_side_with_an_unknown_part_is_unknown() -> None:
    unpriced = [[trial(1, "low", right=True, tokens=5, usd=None)]]
    uncounted = [[trial(1, "low", right=True, tokens=None, usd="1")]]
    assert side("a", unpriced).usd_per_request is None
    assert side("a", unpriced).tokens_per_decode == 5
    assert side("a", uncounted).tokens_per_decode is None
    with pytest.raises(InputError, match="no trials for a"):
        side("a", [])


def test_token_spreads_leave_out_what_is_not_counted_and_mark_estimates() -> None:
    made = [
        trial(1, "known", right=True, tokens=4, usd=None),
        trial(2, "known", right=True, tokens=8, usd=None, source=ESTIMATED),
        trial(1, "partly", right=True, tokens=4, usd=None),
        trial(2, "partly", right=True, tokens=None, usd=None),
        replace(trial(3, "known", right=True, tokens=99, usd=None), status=TrialStatus.FAILED),
    ]
    (spread,) = token_spreads(made)
    assert spread == TokenSpread(
        rung="known", answers=2, quantiles=pytest.approx((4.2, 5, 6, 7, 7.8)), estimated=True
    )


def test_missing_parts_are_named_and_not_drawn() -> None:
    report = trials_report(verdict=None, tokens=(), sides=None, flow=())
    built = page(report)
    assert built.count("figure", "data-chart") == 1
    assert "Not in this report" in built.text
    assert "No policy was certified for this report." in built.text
    assert "What is promised" not in built.text


def test_without_costs_there_is_no_plot_against_cost() -> None:
    bare = [msgspec.structs.replace(t, usage=Usage(), answer=None) for t in trials(usd=False)]
    verdict = replace(VERDICT, saving=None, baselines={})
    report = trials_report(frontier=frontier(bare), tokens=(), sides=None, verdict=verdict)
    text = page(report).text
    assert "A cheaper choice, within a certified risk" in text
    assert "The rungs have no common unit of cost" in text
    assert "what was saved is not known" in text
    assert "cost saved unknown" in text


def test_a_refused_certificate_is_the_headline() -> None:
    refused = replace(VERDICT, certified=False, risk=0.08, bound=0.0721)
    text = page(trials_report(verdict=refused)).text
    assert "Nothing could be certified at a risk of 5 %" in text
    assert "the smallest risk that can be promised is 7.2 %" in text
    assert "What is promised" not in text


def test_the_saving_comes_with_its_interval_and_what_it_rests_on() -> None:
    told = "q17 alone makes 38.3 % of the cost of high"
    shown = replace(VERDICT, saving_interval=(0.353, 0.466), about_saving=(told,), seed=3)
    text = page(trials_report(verdict=shown)).text
    assert "of the reference's, deferral paid (95 %: 35.3 % to 46.6 %)" in text
    assert told in text
    assert "seed 3; no count of looks is kept here" in text


def test_a_certified_choice_that_costs_more_is_no_saving() -> None:
    text = page(trials_report(verdict=replace(VERDICT, saving=-0.011))).text
    assert "Within a certified risk, but nothing saved: 1.1 % dearer than high" in text
    assert "of the cost saved, within" not in text


def test_fractional_losses_are_not_called_worse_answers() -> None:
    text = page(trials_report(verdict=replace(VERDICT, losses=118.5))).text
    assert "at most 5 % of the full score is lost against high" in text


def test_the_error_among_answered_has_no_reference_to_compare_with() -> None:
    verdict = replace(VERDICT, risk_kind="error_among_answered")
    choice = next(iter(trial_figures(trials_report(verdict=verdict))))
    assert "always the reference" not in rows(choice)
    text = page(trials_report(verdict=verdict)).text
    assert "of the requests answered without high get a wrong answer" in text


def test_the_ledger_page_sets_spend_against_the_reference(
    books: Callable[..., LedgerReport],
) -> None:
    text = page(books(*(entry(i) for i in range(20)))).text
    assert "90.0 % less than the reference alone" in text
    assert "$0.02 was spent on 20 requests that would have cost $0.20" in text
    assert "0 of these differences are measured and 20 estimated." in text
    assert "every charge is known" in text
    assert "90.0 % of the spend is from reported counts" in text
    assert "2,000 tokens read, 200 written, in 20 calls" in text


def test_the_figures_on_a_ledger_carry_its_sums(books: Callable[..., LedgerReport]) -> None:
    up = (
        replace(entry(0).attempts[0], role=Role.DISCARDED),
        replace(entry(0).attempts[0], rung="high", charge=Charge(usd=Decimal("0.01"))),
    )
    climbed = {
        "rung": "high",
        "vector": Vector.NONE,
        "attempts": up,
        "reference_known": ReferenceKnown.MEASURED,
    }
    report = books(entry(1), entry(2), entry(3, **climbed), entry(4, group="team 1"))
    spend, vectors, rungs, groups, flow, known, ends, tokens = ledger_figures(report)
    assert spend.title == "$0.01 spent; the reference alone would have cost $0.04"
    assert sum(int(row[1]) for row in spend.rows) == 4
    assert rows(vectors)["Fewer tokens"] == ("3", "$0.03", "$0.00300", "$0.03", "0")
    assert rows(vectors)["Reference"] == ("1", "$0.01", "$0.01", "\u2212$0.00100", "0")
    assert rungs.title == "\u201clow\u201d answered 75.0 % of requests for 21.4 % of the spend"
    assert rows(groups)["team 0"][:2] == ("1", "$0.01")
    assert rows(flow)["answered"] == ("75.0 %", "25.0 %")
    assert rows(known)["reported"][0] == "3"
    assert rows(known)["estimated"][0] == "1"
    assert rows(ends)["calls: discarded"] == ("1", "$0.00100")
    assert rows(tokens)["input"] == ("500", "0", "0", "0")


def test_unknown_charges_are_never_shown_as_nothing(books: Callable[..., LedgerReport]) -> None:
    free = (replace(entry(0).attempts[0], charge=Charge(usd=None)),)
    report = books(*(entry(i, attempts=free) for i in range(3)))
    text = page(report).text
    assert "What was saved is not known" in text
    assert "spent unknown and 3 requests of unknown charge" in text
    assert "saved unknown" in text
    assert "3 of 3 requests without a known charge" in text
    assert "$0.00" not in text.split("known charge", 1)[0]


def test_spending_more_than_the_reference_is_said_so(books: Callable[..., LedgerReport]) -> None:
    dear = (replace(entry(0).attempts[0], charge=Charge(usd=Decimal("0.02"))),)
    text = page(books(entry(1, attempts=dear))).text
    assert "100.0 % more than the reference alone" in text
    assert "saved \u2212$0.01" in text


def test_an_empty_ledger_is_said_to_be_empty(books: Callable[..., LedgerReport]) -> None:
    built = page(books())
    assert "This ledger holds no requests yet" in built.text
    assert built.count("figure", "data-chart") == 0


def test_rows_after_the_report_are_not_in_it(
    books: Callable[..., LedgerReport],
) -> None:
    report = books(entry(1), entry(2, time=NOW + timedelta(seconds=1)))
    assert report.whole.requests == 1
    assert report.window.until == NOW


def test_many_groups_are_cut_to_those_that_cost_most(books: Callable[..., LedgerReport]) -> None:
    made = [entry(i, group=f"g{i:02}", reference_usd=Decimal(i + 1)) for i in range(15)]
    groups = list(ledger_figures(books(*made)))[3]
    assert len(groups.rows) == 15
    assert groups.rows[0][0] == "g14"
    assert "The 3 smaller groups are left out." in groups.caption


def test_names_from_users_cannot_become_markup(books: Callable[..., LedgerReport]) -> None:
    made = trials(cheap=HOSTILE)
    verdict = replace(VERDICT, share={HOSTILE: 1.0}, certificate_id=HOSTILE, limits=(HOSTILE,))
    hostile = trials_report(
        source=HOSTILE,
        frontier=frontier(made),
        tokens=token_spreads(made),
        verdict=verdict,
        flow=(Flow(first=HOSTILE, answered=HOSTILE, requests=1),),
        sides=(replace(side(HOSTILE, [made]), name=HOSTILE), side("suffice", [made[:1]])),
    )
    ledger = books(*(entry(i, group=f"{HOSTILE}{i}", rung=HOSTILE) for i in range(4)))
    for report in (hostile, ledger):
        html = build_report(report)
        assert HOSTILE not in html
        assert "<script>alert" not in html
        assert not {"onerror", "src"} & {name for _, name, _ in Page(html).attributes}
        assert " ".join(HOSTILE.split()) in Page(html).text


def test_the_json_has_the_same_numbers_exactly(books: Callable[..., LedgerReport]) -> None:
    report = books(*(entry(i) for i in range(7)))
    assert msgspec.json.decode(msgspec.json.encode(report), type=LedgerReport) == report
    tree = msgspec.json.decode(msgspec.json.encode(report))
    assert Decimal(tree["whole"]["spend"]["reported_usd"]) == Decimal("0.006")
    again = msgspec.json.decode(msgspec.json.encode(trials_report()), type=TrialsReport)
    assert again == trials_report()


def test_the_output_of_certify_is_a_verdict() -> None:
    printed = {
        "certified": True,
        "alpha": 0.05,
        "delta": 0.1,
        "n": 100,
        "losses": 1,
        "bound": 0.04,
        "risk_kind": "excess_over_reference",
        "share": {"low": 1.0},
        "baselines": {"oracle": {"risk": 0.0, "saving": None}},
        "seed": 7,
    }
    verdict = msgspec.convert(printed, CertifyVerdict)
    assert verdict.baselines == {"oracle": BaselineFigures(risk=0.0, saving=None)}


def luminance(colour: str) -> float:
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1])
@pytest.mark.parametrize(
    ("name", "least"), [("ink", 7.0), ("muted", 4.5), ("green", 4.0), ("vermilion", 4.0)]
)
def test_text_contrasts_with_its_background(theme: int, name: str, least: float) -> None:
    for ground in ("paper", "card", "wash"):
        light, dark = sorted(
            (luminance(PALETTE[name][theme]), luminance(PALETTE[ground][theme])), reverse=True
        )
        assert (light + 0.05) / (dark + 0.05) >= least


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian package chromium)")
def test_a_browser_draws_every_figure_without_complaint(
    tmp_path: Path, books: Callable[..., LedgerReport]
) -> None:
    some = books(*(entry(i, group=f"team {i % 3}") for i in range(20)))
    for i, report in enumerate((trials_report(), some)):
        target = tmp_path / f"{i}.html"
        target.write_text(build_report(report), "utf-8")
        shown = browse(target)
        wanted = Page(target.read_text("utf-8")).count("figure", "data-chart")
        assert wanted >= 5
        assert "CONSOLE" not in shown.stderr, shown.stderr
        assert f'data-drawn="{wanted}"' in shown.stdout
        assert len(re.findall(r"<svg[^>]*marks", shown.stdout)) == wanted


def browse(target: Path) -> subprocess.CompletedProcess[str]:
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    flags += ["--enable-logging=stderr", "--virtual-time-budget=10000", "--dump-dom"]
    return subprocess.run(
        [str(CHROMIUM), *flags, f"--user-data-dir={target.parent / 'profile'}", target.as_uri()],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_a_part_without_a_side_is_not_a_whole() -> None:
    whole = Side(
        name="s", requests=1, decodes_per_request=2.0, tokens_per_decode=3.0, usd_per_token=0.5
    )
    assert whole.usd_per_request == 3.0
    assert replace(whole, usd_per_token=None).usd_per_request is None
